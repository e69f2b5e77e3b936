"""Editors of a form: narrow combo boxes, numbers, lines; and those of options, with the help of their fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QDoubleValidator
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLineEdit,
    QSpinBox,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolTip,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_restore.questions import options_of


class NarrowComboBox(QComboBox):
    """As narrow as `letters`; text that does not fit ends in "…" and stands in the tooltip."""

    # In a form it goes below its label where there is not so much room beside it.
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
    """Return a field for a number, whole without `decimals`; `zero` is shown in place of the least one."""
    box: Any = QDoubleSpinBox(parent, decimals=decimals) if decimals else QSpinBox(parent)
    # A half-typed number is not applied.
    box.setKeyboardTracking(False)
    box.setRange(*limits)
    box.setValue(value)
    box.setSingleStep(step)
    box.setSuffix(suffix)
    box.setSpecialValueText(zero)
    box.setToolTip(tip)
    return box


W = TypeVar("W", bound=QWidget)


class OptionRows:
    """Adds rows to forms in which options are edited; each is explained by the help of its field."""

    def __init__(
        self,
        *questions: type,
        changed: Callable[[], object],
        tips: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Begin without editors; `changed` is called when the user changes one.

        Options have `tips` in place of the help of their fields, where that is about the command.
        """
        self._asked, self._changed, self._tips = options_of(*questions), changed, tips
        self.widgets: dict[str, QWidget] = {}
        """The editors, by the names of their options."""

    def add(
        self, form: QFormLayout, title: str, name: str, editor: W, row: QWidget | None = None
    ) -> W:
        """Add a row for an option to a form; `row` is what the editor lies in with others."""
        editor.setToolTip(self._tips.get(name) or self._asked[name].text)
        self.widgets[name] = editor
        form.addRow(title, editor if row is None else row)
        changed_of(editor).connect(self._changed)
        return editor

    def values(self) -> dict[str, Any]:
        """Return the values of the options."""
        return {name: value_of(editor) for name, editor in self.widgets.items()}

    def show(self, values: Mapping[str, Any]) -> None:
        """Show other values, which changes nothing."""
        for name, editor in self.widgets.items():
            with signals_blocked(editor):
                show_value(editor, values[name])


def number_line(parent: QWidget, empty: str) -> QLineEdit:
    """Return a line for any number, which says `empty` where there is none."""
    line = line_edit(parent, empty)
    line.setValidator(QDoubleValidator(line))
    return line


def number_in(text: str) -> float | None:
    """Return the number that a text is; None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def changed_of(editor: Any) -> Any:
    """Return the signal of an editor for another value."""
    if isinstance(editor, QLineEdit):
        return editor.editingFinished
    if isinstance(editor, QComboBox):
        return editor.currentIndexChanged
    return editor.toggled if isinstance(editor, QCheckBox) else editor.valueChanged


def value_of(editor: Any) -> Any:
    """Return the value of an editor; None where it is empty, or a number is found without the user."""
    if isinstance(editor, QComboBox):
        return editor.currentData()
    if isinstance(editor, QLineEdit):
        text = editor.text().strip()
        return text or None if editor.validator() is None else number_in(text)
    if isinstance(editor, QCheckBox):
        return editor.isChecked()
    is_found = isinstance(editor, QAbstractSpinBox) and editor.specialValueText()
    return None if is_found and editor.value() == editor.minimum() else editor.value()


def show_value(editor: Any, value: Any) -> None:
    """Show what `value_of` returns."""
    if isinstance(editor, NarrowComboBox):
        editor.choose(value)
    elif isinstance(editor, QLineEdit):
        text = f"{value:.10g}" if isinstance(value, (int, float)) else value or ""
        # As it was written, where that is the same.
        if value_of(editor) != value:
            editor.setText(text)
    elif isinstance(editor, QCheckBox):
        editor.setChecked(bool(value))
    else:
        editor.setValue(editor.minimum() if value is None else value)
