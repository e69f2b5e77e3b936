"""Buttons and layouts of the panel: rows, columns, folded parts, scrolling to one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from qtpy.QtCore import QPoint, QRect, QTimer, Signal
from qtpy.QtWidgets import (
    QAbstractScrollArea,
    QBoxLayout,
    QFormLayout,
    QHBoxLayout,
    QLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QFlowLayout

EXPANDED, COLLAPSED = "▾", "▸"
HEADING = "text-align: left; border: none; outline: none;"
TURN_MS, TURNS = 50, 6
"""A layout is taken to be final after so many turns of the event loop without a change, at least so many
milliseconds apart: between two of them all passes that are due are done, however late they come."""


def add_button(
    parent: QWidget,
    text: str,
    tip: str = "",
    slot: Callable[..., object] | None = None,
    *,
    checkable: bool = False,
) -> QPushButton:
    """Return a button with a tooltip; `slot` is called when it is clicked."""
    made = QPushButton(text, parent)
    made.setToolTip(tip)
    made.setCheckable(checkable)
    if slot is not None:
        made.clicked.connect(slot)
    return made


def column_of(parent: QWidget | None, *parts: QWidget | QLayout) -> QVBoxLayout:
    """Return a layout of `parts` one below the other, that of `parent` where there is one."""
    layout = QVBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    fill(layout, *parts)
    # Filled before: PySide would keep the items of layouts that are added, and crash (decision 0073).
    if parent is not None:
        parent.setLayout(layout)
    return layout


def page_of(parent: QWidget, *parts: QWidget | QLayout) -> None:
    """Fill a tab of the panel from its top."""
    layout = column_of(parent, *parts)
    layout.setContentsMargins(0, 4, 0, 0)
    layout.addStretch(1)


def row_of(*parts: QWidget | QLayout) -> QHBoxLayout:
    """Return a layout of `parts` beside each other, the first as wide as there is room."""
    layout = QHBoxLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    fill(layout, *parts)
    layout.setStretch(0, 1)
    return layout


def fill(layout: QBoxLayout, *parts: QWidget | QLayout) -> None:
    """Add widgets and layouts, one after another."""
    for part in parts:
        if isinstance(part, QLayout):
            layout.addLayout(part)
        else:
            layout.addWidget(part)


def stacked(*widgets: QWidget) -> QWidget:
    """Return widgets one below the other."""
    return _joined(column_of(None, *widgets))


def in_a_row(*widgets: QWidget) -> QWidget:
    """Return widgets beside each other, the first as wide as there is room."""
    return _joined(row_of(*widgets))


def _joined(layout: QBoxLayout) -> QWidget:
    # Without a focus proxy, as all that holds others: Tab would come back to the first of them for ever.
    joined = QWidget()
    joined.setLayout(layout)
    return joined


class _Form(QFormLayout):
    """Rows that have the heights of the width they get."""

    # Qt keeps the heights that it has last computed, and may take those of another width: of the
    # size hint, say, when a scroll bar has made the panel narrower.
    def setGeometry(self, rect: QRect) -> None:
        """Compute the heights again; those at the hint's width, which Qt keeps apart, are for a pixel less."""
        self.heightForWidth(0)
        super().setGeometry(rect.adjusted(0, 0, -(rect.width() == self.sizeHint().width()), 0))


def form_layout(parent: QWidget | None = None) -> QFormLayout:
    """Return rows of a label and a field, one below the other where the panel is narrow."""
    layout = _Form(parent)
    if parent is not None:
        layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    layout.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
    return layout


def flowing(*widgets: QWidget) -> QFlowLayout:
    """Return buttons in a row, or in several where the panel is narrow."""
    layout = QFlowLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setHorizontalSpacing(6)
    layout.setVerticalSpacing(6)
    for widget in widgets:
        layout.addWidget(widget)
    return layout


class Folded(QWidget):
    """A heading, and below it what is hidden until the heading is pressed."""

    toggled = Signal(bool)
    """Whether it is open now."""

    def __init__(self, title: str, content: QWidget, tip: str) -> None:
        """Fold `content` away; `tip` is the heading's tooltip."""
        super().__init__()
        self.heading = add_button(self, "", tip, checkable=True)
        self.heading.setStyleSheet(HEADING)
        self.content = QWidget(self)
        self.content.setAccessibleName(title)
        column_of(self.content, content).setContentsMargins(6, 4, 0, 4)
        column_of(self, self.heading, self.content)
        self.content.hide()
        self.setText(title)
        self.heading.toggled.connect(self._on_toggled)

    def setText(self, title: str) -> None:
        """Set the heading, with an arrow before it."""
        self._title = title
        self.heading.setText(f"{EXPANDED if self.is_open else COLLAPSED} {title}")
        self.heading.setAccessibleName(title)

    def text(self) -> str:
        return self._title

    @property
    def is_open(self) -> bool:
        return self.heading.isChecked()

    def open(self, is_open: bool = True) -> None:
        """Open it, or close it, as the heading does."""
        self.heading.setChecked(is_open)

    def _on_toggled(self, is_open: bool) -> None:
        self.setText(self._title)
        self.content.setVisible(is_open)
        self.toggled.emit(is_open)


def one_at_a_time(parts: Sequence[Folded]) -> None:
    """Close the other `parts` when one is opened, and bring it into view."""

    def opened(part: Folded) -> None:
        for other in parts:
            other.open(other is part)
        bring_into_view(part)

    for part in parts:
        part.toggled.connect(lambda is_open, part=part: opened(part) if is_open else None)


def bring_into_view(part: QWidget) -> None:
    """Scroll to `part`, once it has its size."""
    scroll = next(_areas_of(part), None)
    if scroll is None:
        return
    bar = scroll.verticalScrollBar()
    # The parts get their sizes in several passes of their layouts, each of which changes the range.
    # Time alone does not say that none is left: on a busy machine one takes longer than any wait.
    # Timers of `part`, which go with it: PyQt's `singleShot` knows no owner.
    first, turn = QTimer(part), QTimer(part)
    first.setSingleShot(True)
    quiet = 0

    def reveal(*_: int) -> None:
        nonlocal quiet
        quiet = 0
        _reveal(part, scroll)
        turn.start(TURN_MS)

    def look() -> None:
        nonlocal quiet
        quiet += 1
        if quiet == TURNS:
            bar.rangeChanged.disconnect(reveal)
            first.deleteLater()
            turn.deleteLater()

    bar.rangeChanged.connect(reveal)
    first.timeout.connect(reveal)
    turn.timeout.connect(look)
    first.start(0)


def reveal(part: QWidget) -> None:
    """Scroll to `part` now."""
    for scroll in _areas_of(part):
        _reveal(part, scroll)


def _areas_of(part: QWidget) -> Iterator[QAbstractScrollArea]:
    """Yield what scrolls around `part`, the innermost first."""
    above = part.parentWidget()
    while above is not None:
        if isinstance(above, QAbstractScrollArea):
            yield above
        above = above.parentWidget()


def _reveal(part: QWidget, scroll: QAbstractScrollArea) -> None:
    """Scroll until all of `part` is visible, or, where it is higher than that, its top."""
    bar, viewport = scroll.verticalScrollBar(), scroll.viewport()
    top = part.mapTo(viewport, QPoint(0, bar.value())).y()
    bar.setValue(min(top, max(bar.value(), top + part.height() - viewport.height())))
