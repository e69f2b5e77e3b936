"""A text beside the pointer that says what is under it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QPointF
from qtpy.QtWidgets import QToolTip, QWidget


class PointerText(QWidget):
    """A picture that shows `text_at` the pointer beside it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)

    def text_at(self, at: QPointF) -> str:
        """Return what is under a place in the widget; "" where nothing is."""
        raise NotImplementedError

    def mouseMoveEvent(self, event: Any) -> None:
        """Show the text beside the pointer."""
        at = event.position() if hasattr(event, "position") else event.localPos()
        QToolTip.showText(self.mapToGlobal(at.toPoint()), self.text_at(at), self)
