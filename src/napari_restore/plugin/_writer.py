"""Saves a restored layer from napari's File menu, as the panel's export does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore.errors import BadOutput

if TYPE_CHECKING:
    from npe2.manifest.contributions import WriterContribution

PLUGIN = "napari-restore"
BUILTIN = "napari"
"""The plugin of napari's own writers."""


def prefer_to_builtin() -> None:
    """Put napari's own writers after those of plugins, ours among them, for the rest of the process.

    npe2 (0.10) takes the writer of the package that was found first: the dialog begins with its file type, and
    `viewer.layers.save` writes by it. That is often napari's, made as a fallback, which raises for layers of
    several levels as ours are. Does nothing where ours comes before it, or one of the two is disabled.
    """
    from npe2 import PluginManager

    manager = PluginManager.instance()
    order = [writer.plugin_name for writer in manager.iter_compatible_writers(["image"])]
    if PLUGIN not in order or BUILTIN not in order[: order.index(PLUGIN)]:
        return
    # One that is enabled again goes to the end. napari must not keep it in its settings, nor register twice.
    with manager.events.enablement_changed.blocked():
        manager.disable(BUILTIN)
        manager.enable(BUILTIN)


def write_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write the result that a layer shows; `data` is what the screen needs, not what is saved.

    napari asks the user before it replaces an existing file, so that is replaced; the source is not.
    Layers that have nothing to do with us go to the next writer of the extension, as without us.
    Raises `BadOutput`, `Cancelled`.
    """
    metadata = attributes.get("metadata", {})
    result = metadata.get("napari_restore_result")
    if result is None:
        return _write_foreign(path, data, attributes)
    from napari_restore.plugin.results import part_of, save, save_with_dialog
    from napari_restore.plugin.tasks import is_main_thread, show_note

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

    writer = _other_writer(Path(path).suffix.lower())
    write = napari_write_image if writer is None else writer.get_callable()
    written = write(path, data, attributes)
    if not written:
        raise BadOutput(
            f"napari cannot write {name} as {Path(path).suffix}.", "Save it as .tif or .png."
        )
    return [written] if isinstance(written, str) else list(written)


def _other_writer(suffix: str) -> WriterContribution | None:
    """Return the writer of one image that npe2 takes for `suffix` where ours is not installed."""
    from npe2 import PluginManager

    for writer in PluginManager.instance().iter_compatible_writers(["image"]):
        # One of several layers is called in another way.
        is_of_one = sum(each.max() for each in writer.layer_type_constraints()) == 1
        suffixes = [each.lower() for each in writer.filename_extensions]
        if writer.plugin_name != PLUGIN and is_of_one and suffix in suffixes:
            return writer
    return None
