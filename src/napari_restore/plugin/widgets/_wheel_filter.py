"""Lets the mouse wheel scroll the panel instead of changing controls without the focus."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QScrollBar,
    QTabBar,
    QWidget,
)

NUMBERS = (QAbstractSpinBox, QAbstractSlider)
"""Follow the wheel while they have the focus."""
CHOICES = (QComboBox, QTabBar)
"""Never follow it: one that was just chosen keeps the focus, and lies in the way of scrolling."""


class WheelFilter(QObject):
    """Passes wheel events over controls of `panel` on to what scrolls.

    It covers the widgets there are and those that are shown later.
    """

    def __init__(self, panel: QWidget) -> None:
        super().__init__(panel)
        self._watch(panel)

    def _watch(self, widget: QWidget) -> None:
        if isinstance(widget, (QLabel, QAbstractButton, QScrollBar)):
            return
        widget.installEventFilter(self)
        if isinstance(widget, (*NUMBERS, *CHOICES)):
            # By default spin boxes and combo boxes take the focus when the wheel turns.
            if widget.focusPolicy() == Qt.FocusPolicy.WheelFocus:
                widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            # superqt's sliders have spin boxes inside; the list of a combo box is a window.
            if not isinstance(widget, QAbstractSlider):
                return
        for child in widget.children():
            if isinstance(child, QWidget) and not child.isWindow():
                self._watch(child)

    def eventFilter(self, watched: QObject, event: Any) -> bool:
        """Keep wheel events from controls, and watch widgets that are shown for the first time."""
        kind = event.type()
        if kind == QEvent.Type.Wheel:
            unfocused = isinstance(watched, NUMBERS) and not watched.hasFocus()
            if unfocused or isinstance(watched, CHOICES):
                # Ignored, it goes on to the parent.
                event.ignore()
                return True
        elif kind == QEvent.Type.ChildPolished:
            child = event.child()
            if isinstance(child, QWidget) and not child.isWindow():
                self._watch(child)
        return False
