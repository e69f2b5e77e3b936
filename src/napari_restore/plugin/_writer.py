"""Saves a restored layer from napari's File menu, as the panel's export does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_restore.errors import BadOutput


def write_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the result that a layer shows; `data` is what the screen needs, not what is saved.

    napari asks the user before it replaces an existing file, so that is replaced; the source is not.
    Layers that have nothing to do with us are written by napari's own writer.
    Raises `BadOutput`, `Cancelled`.
    """
    metadata = attributes.get("metadata", {})
    result = metadata.get("napari_restore_result")
    if result is None:
        return _write_foreign(path, data, attributes)
    from napari_restore.plugin.results.save_dialog import save, save_with_dialog
    from napari_restore.plugin.results.variant_text import part_of
    from napari_restore.plugin.tasks.main_thread import is_main_thread
    from napari_restore.plugin.tasks.notices import show_note

    # In a window on another thread, which is waited for: napari expects the file on return.
    written = (
        save_with_dialog(result, Path(path)) if is_main_thread() else save(result, Path(path), {})
    )
    part = part_of(result)
    if part is not None:
        show_note(f"{written.name} is {part}. For all of it choose Area Whole image and Run.")
    return [str(written)]


def _write_foreign(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    name = attributes.get("name", "This layer")
    if "napari_restore_source" in attributes.get("metadata", {}):
        raise BadOutput(f"{name} is not finished.", "Run it to its end, then save it.")
    from napari_builtins.io import napari_write_image  # type: ignore[import-untyped]

    written: str | None = napari_write_image(path, data, attributes)
    if not written:
        raise BadOutput(
            f"napari cannot write {name} as {Path(path).suffix}.",
            "Save it as .tif or .png, or choose the file type of the plugin that writes it.",
        )
    return [written]
