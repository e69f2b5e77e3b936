"""Saves a restored layer as the command line would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_restore.errors import BadOutput


def write_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the result that a layer shows; `data` is what the screen needs, not what is saved.

    napari has asked before it comes here with the name of an existing file, so
    that is replaced; the source is not. napari also offers this writer first for
    layers that have nothing to do with us: they are left to its own writer.
    Raises `BadOutput`.
    """
    metadata = attributes.get("metadata", {})
    result = metadata.get("napari_restore_result")
    if result is None:
        return _write_foreign(path, data, attributes)
    target = Path(path)
    source = result.image.path
    if source is not None and target.exists() and target.samefile(source):
        raise BadOutput(f"{target.name} is the source itself.", "Choose another name.")
    return [str(result.save(target, overwrite=True))]


def _write_foreign(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    name = attributes.get("name", "This layer")
    if "napari_restore_source" in attributes.get("metadata", {}):
        raise BadOutput(f"{name} is not finished.", "Run it to its end, then save it.")
    from napari_builtins.io import napari_write_image  # type: ignore[import-untyped]

    written = napari_write_image(path, data, attributes)
    if not written:
        raise BadOutput(
            f"napari cannot write {name} as {Path(path).suffix}.", "Save it as .tif or .png."
        )
    return [written]
