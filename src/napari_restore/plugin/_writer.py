"""Saves a restored layer as the command line would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_restore.errors import BadOutput


def write_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the result that a layer shows; `data` is what the screen needs, not what is saved.

    napari has asked before it comes here with the name of an existing file, so
    that is replaced; the source is not. Raises `BadOutput` for other layers.
    """
    metadata = attributes.get("metadata", {})
    result = metadata.get("napari_restore_result")
    if result is None:
        raise BadOutput(
            f"{attributes.get('name', 'This layer')} is no finished result of Restore.",
            "Save it with napari's own writer, or restore it first.",
        )
    target = Path(path)
    source = result.image.path
    if source is not None and target.exists() and target.samefile(source):
        raise BadOutput(f"{target.name} is the source itself.", "Choose another name.")
    return [str(result.save(target, overwrite=True))]
