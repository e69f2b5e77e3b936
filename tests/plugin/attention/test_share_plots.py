"""The bars of a head's shares."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qtpy.QtGui import QColor, QImage, QPalette

from napari_restore.plugin.attention.attention_tab import shares_of
from napari_restore.plugin.widgets.plots import BLUE, BarChart

pytestmark = pytest.mark.binding

GROUPS = {"By distance": {"0–8 px": 0.2, "> 8 px": 0.8}, "Bands": {"low": 0.5, "high": 0.5}}


def test_bars_are_as_long_as_shares_and_nothing_is_cut_off(qtbot: Any) -> None:
    chart = BarChart()
    qtbot.addWidget(chart)
    chart.show_groups(GROUPS)
    chart.resize(260, chart.sizeHint().height())
    bars = chart.bars()
    short, long = (bars["By distance", name].width() for name in ("0–8 px", "> 8 px"))
    assert np.isclose(4 * short, long)
    assert np.isclose(bars["Bands", "low"].width(), long)
    assert max(bar.bottom() for bar in bars.values()) <= chart.height()
    # A number stands after the longest bar.
    assert long + max(bar.left() for bar in bars.values()) < chart.width() - 20
    height = chart.sizeHint().height()
    chart.show_groups({"By distance": GROUPS["By distance"]})
    assert chart.sizeHint().height() < height
    chart.show_groups({})
    assert chart.isHidden()


def test_text_has_the_colour_of_the_theme(qtbot: Any) -> None:
    chart = BarChart()
    qtbot.addWidget(chart)
    chart.show_groups(GROUPS)
    chart.resize(260, chart.sizeHint().height())
    for back, front in (("#262930", "#f0f1f2"), ("#f0f1f2", "#3b3a39")):
        palette = QPalette()
        palette.setColor(QPalette.ColorRole.Window, QColor(back))
        palette.setColor(QPalette.ColorRole.WindowText, QColor(front))
        chart.setPalette(palette)
        # A picture of the screen may have fewer colours.
        image = QImage(chart.size(), QImage.Format.Format_RGB32)
        chart.render(image)
        seen = {image.pixelColor(x, y).name() for x in range(260) for y in range(image.height())}
        assert {back, front, BLUE.name()} <= seen


def test_experts_have_shares_and_no_distance() -> None:
    maps = SimpleNamespace(
        site=SimpleNamespace(kind="routing", heads=("1", "2")),
        weights=np.array([[0.25], [0.75]], np.float32),
        numbers={},
        index=lambda head: int(head) - 1,
    )
    query: Any = SimpleNamespace(maps={"a": maps}, measures={"a": [{"head": "1"}, {"head": "2"}]})
    assert shares_of(query, "a", "2") == {"Share of each expert": {"1": 0.25, "2": 0.75}}
