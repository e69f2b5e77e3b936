"""Fields for numbers and choices of the panel."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtWidgets import QAbstractSpinBox, QDoubleSpinBox, QSpinBox, QWidget

from napari_restore.plugin.widgets.editors import number_box

pytestmark = pytest.mark.binding


@pytest.mark.parametrize(("decimals", "kind"), [(0, QSpinBox), (2, QDoubleSpinBox)])
def test_a_field_for_a_number_is_the_only_one_that_is_made(
    decimals: int, kind: type, qtbot: Any
) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    box = number_box(parent, (0, 9), "How many", 3, decimals=decimals, zero="automatic")
    assert parent.findChildren(QAbstractSpinBox) == [box] and type(box) is kind
    assert box.value() == 3 and box.maximum() == 9
    box.setValue(0)
    assert box.text() == "automatic"
