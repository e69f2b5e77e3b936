"""Editors of options: what the field of a question says of one is not said again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from qtpy.QtGui import QDoubleValidator
from qtpy.QtWidgets import QCheckBox, QComboBox, QFormLayout, QLineEdit, QWidget
from superqt.utils import signals_blocked

from napari_restore.plugin.widgets.combo_box import NarrowComboBox, line_edit
from napari_restore.questions import options_of

W = TypeVar("W", bound=QWidget)


class OptionEditors:
    """Widgets that edit options of questions, by their names; each is explained by the help of its field."""

    def __init__(self, *questions: type, changed: Callable[[], object]) -> None:
        """Begin without editors; `changed` is called when the user changes one."""
        self._asked, self._changed = options_of(*questions), changed
        self.widgets: dict[str, QWidget] = {}

    def add(
        self, form: QFormLayout, title: str, name: str, editor: W, row: QWidget | None = None
    ) -> W:
        """Add a row for an option to a form; `row` is what the editor lies in with others."""
        editor.setToolTip(self._asked[name].text)
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
    is_found = editor.specialValueText() and editor.value() == editor.minimum()
    return None if is_found else editor.value()


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
