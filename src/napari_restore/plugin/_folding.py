"""How the panel arranges its parts."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QBoxLayout, QHBoxLayout, QScrollArea, QVBoxLayout, QWidget
from superqt import QCollapsible


def stacked(*widgets: QWidget) -> QWidget:
    """Widgets one below the other."""
    return _joined(QVBoxLayout(), widgets)


def in_a_row(*widgets: QWidget) -> QWidget:
    """Widgets beside each other, the first as wide as there is room."""
    layout = QHBoxLayout()
    row = _joined(layout, widgets)
    layout.setStretch(0, 1)
    return row


def _joined(layout: QBoxLayout, widgets: Sequence[QWidget]) -> QWidget:
    joined = QWidget()
    joined.setLayout(layout)
    layout.setContentsMargins(0, 0, 0, 0)
    # A label's key goes to the first of them.
    joined.setFocusProxy(widgets[0])
    for widget in widgets:
        layout.addWidget(widget)
    return joined


def folded(title: str, content: QWidget) -> QCollapsible:
    """A widget under a heading that opens and closes it."""
    part = QCollapsible(title, expandedIcon="▾", collapsedIcon="▸")
    part.addWidget(content)
    # superqt's margins are for a widget that stands alone; this one is a row of the panel.
    for widget, margins in ((part, (0, 0, 0, 0)), (part.content(), (8, 4, 0, 4))):
        if (layout := widget.layout()) is not None:
            layout.setContentsMargins(*margins)
    return part


def one_at_a_time(parts: Sequence[QCollapsible], scroll: QScrollArea) -> None:
    """Opening one of `parts` closes the others and brings it into view."""

    def opened(part: QCollapsible) -> None:
        for other in parts:
            if other is not part and other.isExpanded():
                other.collapse(animate=False)
        # Its size is known once it has been laid out.
        QTimer.singleShot(0, part, lambda: scroll.ensureWidgetVisible(part.content(), 0, 8))

    for part in parts:
        part.toggled.connect(lambda is_open, part=part: opened(part) if is_open else None)
