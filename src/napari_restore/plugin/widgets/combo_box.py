"""Combo boxes for a panel that may be narrower than what there is to choose, and fields for numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QLineEdit,
    QSpinBox,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolTip,
    QWidget,
)
from superqt.utils import signals_blocked


class NarrowComboBox(QComboBox):
    """As narrow as `letters`; text that does not fit ends in "…" and stands in the tooltip.

    In a form it goes below its label where there is not so much room beside it.
    """

    def __init__(self, parent: QWidget, letters: int = 0, tip: str = "", name: str = "") -> None:
        """Show `tip` as the tooltip; `name` is for screen readers, where no label stands beside it."""
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setSizeAdjustPolicy(self.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(letters)
        self.setToolTip(tip)

    def offer(self, choices: Iterable[tuple[str, Any]], chosen: Any = None) -> None:
        """Offer titles, each with its data, silently; the first is chosen where `chosen` is not offered."""
        choices = list(choices)
        found = [number for number, (_, data) in enumerate(choices) if data == chosen]
        with signals_blocked(self):
            self.clear()
            for number, (title, data) in enumerate(choices):
                self.addItem(title, data)
                # Where the list cuts it off, it is whole under the pointer.
                self.setItemData(number, title, Qt.ItemDataRole.ToolTipRole)
            self.setCurrentIndex(found[0] if found else 0)

    def choose(self, data: Any) -> None:
        """Choose what has `data`, where it is offered; bindings differ in how they find None."""
        offered = [self.itemData(number) for number in range(self.count())]
        if data in offered:
            self.setCurrentIndex(offered.index(data))

    def shown_text(self) -> str:
        """Return the chosen text as far as there is room for it."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        room = (
            self.style()
            .subControlRect(
                QStyle.ComplexControl.CC_ComboBox,
                option,
                QStyle.SubControl.SC_ComboBoxEditField,
                self,
            )
            .width()
        )
        elide = Qt.TextElideMode.ElideRight
        return self.fontMetrics().elidedText(self.currentText(), elide, room)

    def paintEvent(self, event: Any) -> None:
        """Draw as Qt does, which with a style sheet cuts letters in two."""
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        option.currentText = self.shown_text()
        painter = QStylePainter(self)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)

    def event(self, event: Any) -> bool:
        """Begin the tooltip with the text that there is no room for."""
        cut = event.type() == QEvent.Type.ToolTip and self.shown_text() != self.currentText()
        if not cut:
            return super().event(event)
        lines = filter(None, (self.currentText(), self.toolTip()))
        QToolTip.showText(event.globalPos(), "\n".join(lines), self)
        return True


def combo_of(
    parent: QWidget, titles: Mapping[Any, str], tip: str = "", name: str = "", letters: int = 0
) -> NarrowComboBox:
    """Return a combo box that offers titles by their data; the others are those of `NarrowComboBox`."""
    made = NarrowComboBox(parent, letters, tip, name)
    made.offer((title, data) for data, title in titles.items())
    return made


def line_edit(
    parent: QWidget, empty: str, tip: str = "", slot: Callable[[], object] | None = None
) -> QLineEdit:
    """Return a line of text that says `empty` where there is none; `slot` is called when it is changed."""
    line = QLineEdit(parent, placeholderText=empty)
    line.setToolTip(tip)
    if slot is not None:
        line.editingFinished.connect(slot)
    return line


def number_box(
    parent: QWidget,
    limits: tuple[float, float],
    tip: str = "",
    value: float = 0,
    *,
    step: float = 1,
    decimals: int = 0,
    suffix: str = "",
    zero: str = "",
) -> Any:
    """Return a field for a number, of Qt's class for whole ones unless it has `decimals`.

    `zero` is shown in place of the least number. A half-typed number is not applied.
    """
    box: Any = QDoubleSpinBox(parent, decimals=decimals) if decimals else QSpinBox(parent)
    box.setKeyboardTracking(False)
    box.setRange(*limits)
    box.setValue(value)
    box.setSingleStep(step)
    box.setSuffix(suffix)
    box.setSpecialValueText(zero)
    box.setToolTip(tip)
    return box
