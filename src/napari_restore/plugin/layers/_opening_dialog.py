"""Opens images in a window, with dialogs to cancel and to consent to files elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_restore._addresses import without_queries
from napari_restore.errors import Cancelled, OutsideFolder, escape_controls

if TYPE_CHECKING:
    from napari_restore.images import Image

PATIENCE = 0.5
"""Seconds that opening may take without a dialog."""
_INTERVAL_MS = 50


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
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QApplication, QMessageBox

    box = QMessageBox(QApplication.activeWindow())
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("Read files outside its folder?")
    # Names come from the file: no markup.
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setText(error.message)
    box.setInformativeText("Read them only if you trust whoever made the image.")
    read = box.addButton("Read them", QMessageBox.ButtonRole.AcceptRole)
    no = box.addButton("No", QMessageBox.ButtonRole.RejectRole)
    box.setDefaultButton(no)
    box.setEscapeButton(no)
    box.exec()
    box.deleteLater()
    return box.clickedButton() is read


class _Opening:
    """An image being opened on a thread of its own, without Qt."""

    def __init__(self, work: Callable[[Callable[[], bool]], Image]) -> None:
        self.over = threading.Event()
        self._work, self._cancel = work, threading.Event()
        self._image: Image | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="napari-restore opening", daemon=True).start()

    def _run(self) -> None:
        try:
            self._image = self._work(self._cancel.is_set)
            if self._cancel.is_set():
                self._image.close()
        except BaseException as error:
            self._error = error
        finally:
            self.over.set()

    def cancel(self) -> None:
        """Stop opening at the next step, without waiting for it."""
        self._cancel.set()

    def image(self) -> Image:
        """Return the image; raises the error of opening it."""
        if self._cancel.is_set():
            raise Cancelled("Opening the file was cancelled.")
        if self._error is not None:
            raise self._error
        assert self._image is not None
        return self._image


def _opened(paths: Sequence[str], *, allow_outside: bool) -> Image:
    import napari_restore as nr

    def work(cancelled: Callable[[], bool]) -> Image:
        source = list(paths) if len(paths) > 1 else paths[0]
        return nr.open_image(
            source, stack=len(paths) > 1, allow_outside=allow_outside, cancelled=cancelled
        )

    opening = _Opening(work)
    if not opening.over.wait(PATIENCE):
        _wait_with_dialog(opening, Path(without_queries(paths[0])).name)
    return opening.image()


def _wait_with_dialog(opening: _Opening, name: str) -> None:
    """Keep the rest of napari shut until the image is open or the user cancels."""
    from qtpy.QtCore import QEventLoop, Qt, QTimer
    from qtpy.QtWidgets import QApplication, QLabel, QProgressDialog

    dialog = QProgressDialog("", "Cancel", 0, 0, QApplication.activeWindow())
    label = QLabel(f"Opening {escape_controls(name)} …", dialog)
    # Names are no markup.
    label.setTextFormat(Qt.TextFormat.PlainText)
    dialog.setLabel(label)
    dialog.setWindowTitle("Open")
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    dialog.setAutoReset(False)
    dialog.setAutoClose(False)
    loop, timer = QEventLoop(), QTimer()
    timer.setInterval(_INTERVAL_MS)
    timer.timeout.connect(lambda: loop.quit() if opening.over.is_set() else None)
    dialog.canceled.connect(opening.cancel)
    dialog.canceled.connect(loop.quit)
    timer.start()
    dialog.show()
    loop.exec()
    timer.stop()
    dialog.canceled.disconnect()
    dialog.close()
    dialog.deleteLater()
