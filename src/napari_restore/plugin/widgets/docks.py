"""The docks of a window: the panel's, and napari's own, so that the canvas keeps half of the width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow, QStatusBar, QStyle, QWidget

if TYPE_CHECKING:
    from napari.components import ViewerModel

SIDES = {
    Qt.DockWidgetArea.LeftDockWidgetArea: Qt.DockWidgetArea.RightDockWidgetArea,
    Qt.DockWidgetArea.RightDockWidgetArea: Qt.DockWidgetArea.LeftDockWidgetArea,
}


SPINNER = 2
"""Pixels by which napari's sign of progress is higher than the text in its status bar."""


class DockArranger(QObject):
    """Gives the dock of `panel` its usual width, and leaves the canvas at least half of the window.

    The status bar below has room for napari's sign of progress, which would move the panel's buttons.

    Where a window is too narrow for both, the docks on the other side of the canvas, napari's own,
    become tabs of the panel's dock; a wider window, and the panel's end, put them back.

    Qt makes a dock as narrow as it may be: the canvas beside it takes all there is. A window
    that is too small at first may grow; once the panel has had its width, it is the user's.
    """

    def __init__(self, viewer: ViewerModel, panel: QWidget, usual: int) -> None:
        super().__init__(panel)
        self._panel, self._usual = panel, usual
        self._known: tuple[int, ...] = ()
        """Widths of the window and of the docks beside the canvas for which it was last done."""
        self._had_width = False
        self._needed = 0
        """Pixels of width that the docks beside the canvas have needed."""
        self._folded: list[tuple[QDockWidget, int]] = []
        """The docks that are tabs, from top to bottom, and their heights before."""
        self._status: QStatusBar | None = None
        self._side = Qt.DockWidgetArea.RightDockWidgetArea
        """Where they are tabs."""
        # Its own: PyQt's `singleShot` takes no object that the call ends with.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._arrange)
        self._resized = viewer.canvas.events.size
        self._resized.connect(self.later)

    def later(self) -> None:
        """Do it once what happens now has been laid out."""
        self._panel.window().installEventFilter(self)
        self._soon.start(0)

    def leave(self) -> None:
        """Put the docks back, and disconnect from the viewer; may be called again."""
        self._resized.disconnect(self.later)
        self._soon.stop()
        self._unfold()
        if self._status is not None and isalive(self._status):
            self._status.setMinimumHeight(0)
        self._status = None

    def eventFilter(self, watched: QObject, event: Any) -> bool:
        """Put the docks back before napari remembers where they are."""
        if event.type() == QEvent.Type.Close:
            self._unfold()
            # The user may yet say no.
            self._known = ()
            self._soon.start(0)
        return False

    def _arrange(self) -> None:
        panel, window, dock = self._panel, self._panel.window(), self._dock
        if not isinstance(window, QMainWindow) or dock is None or not panel.isVisible():
            return
        if self._status is None:
            self._status = window.statusBar()
            assert self._status is not None
            self._status.setMinimumHeight(self._status.sizeHint().height() + SPINNER)
        canvas = window.centralWidget()
        if canvas is None or dock.isFloating():
            return
        beside = self._docks_beside(window, dock)
        hints = [each.minimumSizeHint().width() for each in beside]
        # Other layers have other controls: what was once too narrow stays so.
        self._needed = max(self._needed, *hints, 0)
        # The canvas changes with a separator that the user drags, too.
        if (window.width(), self._needed) == self._known:
            return
        self._known = window.width(), self._needed
        handle = window.style().pixelMetric(QStyle.PixelMetric.PM_DockWidgetSeparatorExtent)
        is_narrow = 2 * (self._needed + self._usual + 2 * handle) > window.width()
        if is_narrow and not self._folded:
            self._fold(window, dock, beside)
        elif not is_narrow:
            self._unfold()
        if self._had_width:
            return
        layout = window.layout()
        if layout is not None:
            layout.activate()
        room = canvas.width() - window.width() // 2
        width = min(self._usual, dock.width() + room)
        if width != dock.width():
            window.resizeDocks([dock], [width], Qt.Orientation.Horizontal)
        self._had_width = width == self._usual

    @property
    def _dock(self) -> QDockWidget | None:
        dock = self._panel.parentWidget()
        while dock is not None and not isinstance(dock, QDockWidget):
            dock = dock.parentWidget()
        return dock

    def _docks_beside(self, window: QMainWindow, dock: QDockWidget) -> list[QDockWidget]:
        """Return the docks on the other side of the canvas, from top to bottom."""
        side = SIDES.get(window.dockWidgetArea(dock))
        found = [
            each
            for each in window.findChildren(QDockWidget)
            if window.dockWidgetArea(each) == side and each.isVisible() and not each.isFloating()
        ]
        return sorted(found, key=lambda each: each.y())

    def _fold(self, window: QMainWindow, dock: QDockWidget, beside: list[QDockWidget]) -> None:
        self._side = window.dockWidgetArea(dock)
        self._folded = [(each, each.height()) for each in beside]
        for each in beside:
            window.tabifyDockWidget(dock, each)
        dock.raise_()

    def _unfold(self) -> None:
        folded, self._folded = self._folded, []
        for dock, height in folded:
            try:
                window = dock.parentWidget()
            except RuntimeError:  # another plugin's, which was closed
                continue
            # Others were moved by the user.
            if dock.isFloating() or not isinstance(window, QMainWindow):
                continue
            if window.dockWidgetArea(dock) == self._side:
                window.addDockWidget(SIDES[self._side], dock)
                window.resizeDocks([dock], [height], Qt.Orientation.Vertical)
