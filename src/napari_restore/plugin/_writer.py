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

    writer = _other_writer(Path(path).name)
    if writer is None:
        written = napari_write_image(path, data, attributes)
    elif _is_of_one(writer):
        written = writer.exec(args=(path, data, attributes))
    else:
        written = writer.exec(args=(path, [(data, attributes, "image")]))
    if not written:
        raise BadOutput(
            f"napari cannot write {name} as {Path(path).suffix}.", "Save it as .tif or .png."
        )
    return [written] if isinstance(written, str) else list(written)


def _other_writer(name: str) -> WriterContribution | None:
    """Return the writer of an image that npe2 takes for a file `name` where ours is not installed."""
    from npe2 import PluginManager

    found: WriterContribution | None = None
    longest = 0
    for writer in PluginManager.instance().iter_compatible_writers(["image"]):
        # That of ".ome.tif" goes before that of ".tif".
        fitting = [s for s in writer.filename_extensions if name.lower().endswith(s.lower())]
        if writer.plugin_name != PLUGIN and max(map(len, fitting), default=0) > longest:
            found, longest = writer, max(map(len, fitting))
    return found


def _is_of_one(writer: WriterContribution) -> bool:
    """Return whether npe2 calls `writer` with one layer, not with a list."""
    return sum(each.max() for each in writer.layer_type_constraints()) == 1
