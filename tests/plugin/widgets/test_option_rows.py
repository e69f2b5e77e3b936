"""What is edited in a form is what the question's field says of it."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtWidgets import QCheckBox, QLineEdit, QWidget

from napari_restore.plugin.widgets.editors import (
    OptionRows,
    combo_of,
    number_box,
    number_line,
    show_value,
    value_of,
)
from napari_restore.plugin.widgets.folding import form_layout
from napari_restore.questions import Format, Reading, options_of


@pytest.fixture
def parent(qtbot: Any) -> QWidget:
    widget = QWidget()
    qtbot.addWidget(widget)
    return widget


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda parent: combo_of(parent, {None: "usual", 8: "8 bit"}), (8, None)),
        (lambda parent: number_box(parent, (0, 9), zero="automatic"), (4, None)),
        (lambda parent: number_box(parent, (0, 9)), (4, 0)),
        (lambda parent: QCheckBox(parent), (True, False)),
        (lambda parent: QLineEdit(parent), ("cloud", None)),
        (lambda parent: number_line(parent, "automatic"), (0.0, 1e-7, 65535, None)),
    ],
    ids=["combo", "automatic", "number", "check", "text", "any number"],
)
def test_an_editor_returns_what_it_shows(parent: QWidget, make: Any, values: Any) -> None:
    editor = make(parent)
    for value in values:
        show_value(editor, value)
        assert value_of(editor) == value


def test_options_have_the_help_of_their_fields_and_are_shown_silently(parent: QWidget) -> None:
    changes: list[dict[str, Any]] = []
    editors = OptionRows(Format, Reading, changed=lambda: changes.append(editors.values()))
    form = form_layout(parent)
    sharpen = editors.add(form, "", "sharpen", QCheckBox("Sharpen", parent))
    black = editors.add(form, "Zero", "black", number_line(parent, "automatic"))
    assert sharpen.toolTip() == options_of(Format)["sharpen"].text
    editors.show({"sharpen": True, "black": 0.5})
    assert sharpen.isChecked() and black.text() == "0.5" and not changes
    black.setText("0.50")
    editors.show({"sharpen": True, "black": 0.5})
    # As the user has written it.
    assert black.text() == "0.50"
    sharpen.setChecked(False)
    black.setText("-")
    black.editingFinished.emit()
    assert changes == [{"sharpen": False, "black": 0.5}, {"sharpen": False, "black": None}]
