"""Opens images in a window, with dialogs to cancel and to consent to files elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_restore._addresses import without_queries
from napari_restore.errors import Cancelled, OutsideFolder

if TYPE_CHECKING:
    from napari_restore.images import Image
    from napari_restore.plugin.tasks.task import Task


def open_in_window(paths: Sequence[str]) -> Image:
    """Open the image at `paths`, several being its bands; called in the GUI thread.

    Files elsewhere that it takes pixels from are read after a yes. Raises what `open_image`
    does; `Cancelled` also after a no.
    """
    try:
        return _opened(paths, allow_outside=False)
    except OutsideFolder as error:
        if not ask_outside(error):
            raise Cancelled(error.message) from None
    return _opened(paths, allow_outside=True)


def ask_outside(error: OutsideFolder) -> bool:
    """Return whether the user lets an image take pixels from outside its folder; No by default."""
    from qtpy.QtWidgets import QApplication

    from napari_restore.plugin.tasks.waiting_dialog import ask

    window, title = QApplication.activeWindow(), "Read files outside its folder?"
    about = "Read them only if you trust whoever made the image."
    return ask(window, title, error.message, about, "Read them", "No", usual="No") == "Read them"


def _opened(paths: Sequence[str], *, allow_outside: bool) -> Image:
    import napari_restore as nr
    from napari_restore.plugin.tasks.task import Task
    from napari_restore.plugin.tasks.waiting_dialog import wait_for

    def work(task: Task) -> Image:
        source = list(paths) if len(paths) > 1 else paths[0]
        image = nr.open_image(
            source,
            stack=len(paths) > 1,
            allow_outside=allow_outside,
            cancelled=task.stop.is_set,
            plane=0,
        )
        if task.stop.is_set():
            image.close()
            raise Cancelled("Opening the file was cancelled.")
        return image

    task = Task(work, failure="The file cannot be opened")
    task.is_daemon = True
    name = Path(without_queries(paths[0])).name
    wait_for(task, "Open", f"Opening {name} …", for_cancel=False)
    if task.stop.is_set():
        task.abandon()
        raise Cancelled("Opening the file was cancelled.")
    image: Image = task.value()
    return image
