"""Presses that were meant for what was there before are no presses of a button."""

from __future__ import annotations

import time
from typing import Any

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication, QPushButton

PRESSES = (QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonDblClick)


class SettledPresses(QObject):
    """Keeps presses of the mouse from a button that has just got another meaning, or appeared."""

    # Such a press is the second of a double click, or was on its way to what the button was. Keys
    # and `click` are not kept.
    def __init__(self, button: QPushButton) -> None:
        super().__init__(button)
        self._turned = -1e9
        button.installEventFilter(self)

    def turn(self) -> None:
        """Begin to wait: the button means something else from now on."""
        self._turned = time.monotonic()

    def eventFilter(self, watched: QObject, event: Any) -> bool:
        """Keep presses for as long as a double click takes."""
        if event.type() not in PRESSES:
            return False
        return time.monotonic() - self._turned < QApplication.doubleClickInterval() / 1000
