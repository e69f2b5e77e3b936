"""A frame's row says all of it, however narrow the panel is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cut_text import cut_texts
from qtpy.QtWidgets import QScrollArea

from napari_restore.plugin.fusion.fusion_tab import FrameRow, FramesView

pytestmark = pytest.mark.binding


@pytest.mark.parametrize("width", [260, 300, 400])
def test_how_a_frame_lies_is_read_whole(qtbot: Any, width: int) -> None:
    remarks = ["reference", "aligned, perhaps 2 px off at a corner", "left out: it does not fit"]
    names = ["a.jpg", "DSC_20240506_070809_long_name_of_a_camera.jpg", "c <b>.jpg"]
    thumbnail = np.zeros((40, 50, 3), np.uint8)
    rows = [
        FrameRow(number, name, "≈ −1.8 EV", remark, True, number == 0, None, thumbnail)
        for number, (name, remark) in enumerate(zip(names, remarks, strict=True))
    ]
    area, view = QScrollArea(), FramesView()
    qtbot.addWidget(area)
    area.setWidgetResizable(True)
    area.setWidget(view)
    area.resize(width, 500)
    area.show()
    view.show_rows(rows)
    qtbot.waitUntil(lambda: not cut_texts(view))
    for text, row in zip(view.texts.values(), rows, strict=True):
        assert text.text() == f"{row.name}\n{row.exposure}\n{row.remark}"
