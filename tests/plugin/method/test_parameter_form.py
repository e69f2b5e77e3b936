"""Parameters as sliders."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import FloatSlider
from qtpy.QtWidgets import QFormLayout, QLabel

import napari_restore as nr
from napari_restore.plugin.method.parameter_form import ParameterForm


def test_parameters_with_limits_are_sliders_with_their_value(qtbot: Any) -> None:
    form = ParameterForm(sliders=True)
    qtbot.addWidget(form)
    form.show_card(nr.load_model("mertens").card)
    row = form.rows["optimum"]
    assert isinstance(row, FloatSlider)
    changes: list[dict[str, Any]] = []
    form.changed.connect(changes.append)
    row.value = 0.3
    assert changes == [{"optimum": 0.3}]
    assert "0.3" in [label.text() for label in form.findChildren(QLabel)]
    form.set_values({})
    assert form.values() == {} and row.value == 0.5
    # Another card: other rows, and none of the ones before.
    form.show_card(nr.load_model("identity").card)
    assert "optimum" not in form.rows and form.more.isHidden()
    assert sum(each.rowCount() for each in form.findChildren(QFormLayout)) == len(form.rows)
