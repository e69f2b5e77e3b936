"""Buttons and layouts of the panel: rows, columns, folded parts, scrolling to one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from qtpy.QtCore import QEvent, QObject, QPoint, QRect, QSize, QTimer
from qtpy.QtWidgets import (
    QAbstractScrollArea,
    QBoxLayout,
    QFormLayout,
    QHBoxLayout,
    QLayout,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible, QFlowLayout

EXPANDED, COLLAPSED = "▾", "▸"
SPARE = 10
"""Pixels that superqt adds to the height of what is unfolded."""
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
    """Rows that have the heights of the width they get.

    Qt keeps the heights that it has last computed, and may take those of another width: of the
    size hint, say, when a scroll bar has made the panel narrower.
    """

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


class _Content(QWidget):
    """What is folded, whose size hint is as high as its width demands.

    superqt limits the height to the hint, which by default is that of the preferred width:
    in a narrow panel wrapped rows would be cut off.
    """

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(6, 4, 0, 4)
        self.setMaximumHeight(0)
        # What is no pixel high is visible for Qt: Tab would go through it.
        self.hide()

    def sizeHint(self) -> QSize:
        """Return the layout's hint at the present width."""
        hint = super().sizeHint()
        if self._column.hasHeightForWidth():
            hint.setHeight(max(hint.height(), self._column.heightForWidth(self.width())))
        return hint

    def event(self, event: QEvent) -> bool:
        """Grow with what is inside: superqt looks only when that has another size, for which there may be no room."""
        if event.type() == QEvent.Type.LayoutRequest and self.maximumHeight():
            self.setMaximumHeight(self.sizeHint().height() + SPARE)
        return super().event(event)


class _Folded(QCollapsible):
    """A heading whose arrow has the colour of its text, in every theme."""

    def __init__(self, title: str) -> None:
        super().__init__(title, expandedIcon=EXPANDED, collapsedIcon=COLLAPSED)
        # An animation ends after it was scrolled into view, as high as it was at its beginning.
        self.setDuration(0)
        self.toggleButton().installEventFilter(self)
        self.toggled.connect(lambda is_open: self.content().setVisible(is_open))

    def eventFilter(self, a0: QObject, a1: QEvent) -> bool:
        """Draw the arrow again with the theme: superqt draws it once, before there is one."""
        if a0 is self.toggleButton():
            if a1.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
                self.setExpandedIcon(EXPANDED)
                self.setCollapsedIcon(COLLAPSED)
            return False
        return bool(super().eventFilter(a0, a1))


def folded(title: str, content: QWidget, tip: str) -> QCollapsible:
    """Return a widget under a heading that opens and closes it; `tip` is the heading's tooltip."""
    part = _Folded(title)
    part.toggleButton().setToolTip(tip)
    before = part.content()
    part.setContent(_Content(part))
    part.content().setAccessibleName(title)
    # After `setContent`: superqt follows the size of what `addWidget` adds.
    part.addWidget(content)
    if (layout := part.layout()) is not None:
        layout.removeWidget(before)
        # superqt's margins are for a widget that stands alone; this one is a row of the panel.
        layout.setContentsMargins(0, 0, 0, 0)
    before.deleteLater()
    # superqt keeps it from being higher than its hint, which knows nothing of wrapped rows.
    part.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
    return part


def one_at_a_time(parts: Sequence[QCollapsible]) -> None:
    """Close the other `parts` when one is opened, and bring it into view."""

    def opened(part: QCollapsible) -> None:
        for other in parts:
            if other is not part and other.isExpanded():
                other.collapse(animate=False)
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
