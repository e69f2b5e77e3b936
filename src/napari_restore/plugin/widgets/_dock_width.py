"""The width of the panel when it is first shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

if TYPE_CHECKING:
    from napari.components import ViewerModel

CANVAS = 400
"""Pixels of width that stay with the canvas."""


class DockWidth(QObject):
    """Gives the dock of `panel` its usual width, once the window has room for it.

    Qt makes a dock as narrow as it may be: the canvas beside it takes all there is. A window
    that is too small at first may grow; once the panel has had its width, it is the user's.
    """

    def __init__(self, viewer: ViewerModel, panel: QWidget, usual: int) -> None:
        super().__init__(panel)
        self._panel, self._usual = panel, usual
        self._known = 0
        """Width of the window for which it was last done."""
        # Its own: PyQt's `singleShot` takes no object that the call ends with.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._widen)
        self._resized = viewer.canvas.events.size
        self._resized.connect(self.later)

    def later(self) -> None:
        """Do it once what happens now has been laid out."""
        self._soon.start(0)

    def leave(self) -> None:
        """Disconnect from the viewer; may be called again."""
        self._resized.disconnect(self.later)

    def _widen(self) -> None:
        panel, window = self._panel, self._panel.window()
        dock = panel.parentWidget()
        while dock is not None and not isinstance(dock, QDockWidget):
            dock = dock.parentWidget()
        if not isinstance(window, QMainWindow) or dock is None or not panel.isVisible():
            return
        # The canvas changes with a separator that the user drags, too.
        if dock.isFloating() or window.width() == self._known:
            return
        self._known = window.width()
        canvas = window.centralWidget()
        room = 0 if canvas is None else canvas.width() - CANVAS
        width = min(self._usual, panel.width() + room)
        if width > panel.width():
            window.resizeDocks([dock], [width], Qt.Orientation.Horizontal)
        if width == self._usual:
            self.leave()
