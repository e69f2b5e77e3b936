"""Sentences with long names fit the panel."""

from __future__ import annotations

from typing import Any

import pytest

from napari_restore.plugin.widgets.wrapped_label import WrappedLabel

pytestmark = [pytest.mark.viewer, pytest.mark.binding]
NAME = "LC08_L2SP_107035_20200101_20200823_02_T1_SR" + "x" * 60


def test_a_long_name_wraps_and_reads_as_it_was(qtbot: Any):
    label = WrappedLabel(f"Saved {NAME}.tif.")
    qtbot.addWidget(label)
    assert label.text() == f"Saved {NAME}.tif."
    assert label.minimumSizeHint().width() < label.fontMetrics().horizontalAdvance(NAME) / 2
    label.setText("A short sentence.")
    assert label.text() == "A short sentence."
