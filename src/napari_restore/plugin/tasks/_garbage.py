"""Garbage collection that does not block and destroys no widget in a foreign thread."""

from __future__ import annotations

import gc

from qtpy.QtCore import QObject, QTimer

EVERY_MS = 1000


class WindowGarbage(QObject):
    """Collects in the thread of the window, and nowhere else.

    Python collects in whatever thread makes the object too many; a canvas that is
    found there takes its OpenGL context with it, and Qt aborts the program. What
    is alive when this is made is never collected again: napari collects whenever a
    layer leaves, and going through all libraries took 0.2 s and more each time,
    0.03 s after this. So make it before there are layers, in the window's thread.
    """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        gc.collect()
        gc.freeze()
        gc.disable()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.collect)
        self._timer.start(EVERY_MS)

    def collect(self) -> None:
        """Collect the oldest generation that is due, as Python itself would."""
        due = [
            number
            for number, (count, limit) in enumerate(
                zip(gc.get_count(), gc.get_threshold(), strict=True)
            )
            if count > limit
        ]
        if due:
            gc.collect(due[-1])

    def end(self) -> None:
        """Leave it to Python again."""
        self._timer.stop()
        gc.unfreeze()
        gc.enable()
