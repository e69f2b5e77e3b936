"""At 200 % on a screen 1600 wide, napari leaves the panel 212 pixels: all of it fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QApplication, QScrollArea, QStyle, QWidget
from superqt import QCollapsible

from napari_restore.plugin import NARROWEST
from napari_restore.plugin.attribution.attribution_tab import AttributionTab

pytestmark = [pytest.mark.viewer, pytest.mark.own_window, pytest.mark.binding]
SCREEN = 800
"""Pixels of a 1600 wide screen at 200 %."""


def widest(part: QWidget, limit: int) -> list[tuple[str, int]]:
    """What is to blame where `part` is wider than `limit`."""
    found = [w for w in part.findChildren(QWidget) if not w.isWindow()]
    wide = [w for w in found if w.minimumSizeHint().width() > limit]
    inner = [w for w in wide if not any(w.isAncestorOf(other) for other in wide)]
    return [(type(w).__name__, w.minimumSizeHint().width()) for w in inner]


@pytest.mark.nightly
def test_everything_fits_beside_the_layer_controls(panel: Any, qtbot: Any, finished_run: Any):
    pixels = np.random.default_rng(0).integers(0, 4000, (6, 64, 64), np.uint16)
    window = panel.window()
    panel.viewer.add_image(pixels, name="six_bands_of_a_scene_with_a_long_name.tif")
    panel.viewer.add_image(pixels[0], name="scene")
    panel.models.choose("dcp")
    finished_run()
    for part in panel.findChildren(QCollapsible):
        part.expand(animate=False)
    panel.attribution.results.setVisible(True)
    scroll = panel.findChild(QScrollArea)
    bar = panel.style().pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)
    room = max(NARROWEST - bar, 0)
    for tab in ("Restore", AttributionTab.TITLE):
        panel.tabs.choose(tab)
        inner = scroll.widget()
        QApplication.processEvents()
        inner.layout().activate()
        assert inner.minimumSizeHint().width() <= room, widest(inner, room - 30)
    panel.tabs.choose("Restore")
    assert panel.bar.minimumSizeHint().width() <= NARROWEST
    assert panel.minimumSizeHint().width() <= panel.minimumWidth() == NARROWEST
    assert window.minimumSizeHint().width() <= SCREEN


@pytest.mark.nightly
def test_what_is_unfolded_is_as_high_as_its_wrapped_rows(panel: Any, qtbot: Any, finished_run: Any):
    window = panel.window()
    window.show()
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    panel.models.choose("identity")
    finished_run()
    panel.setFixedWidth(NARROWEST)
    wrapped = 0
    for section in panel.sections:
        part = section
        while not isinstance(part, QCollapsible):
            part = part.parentWidget()
        part.expand(animate=False)

        def needed(section: QWidget = section) -> int:
            layout = section.layout()
            return max(layout.totalHeightForWidth(section.width()), layout.minimumSize().height())

        qtbot.waitUntil(lambda section=section: section.width() < NARROWEST)
        qtbot.waitUntil(lambda section=section: section.height() >= needed(section))
        wrapped += needed() > section.sizeHint().height()
    assert wrapped >= 2


@pytest.mark.slow
def test_a_part_opened_by_a_click_comes_into_view(panel: Any, qtbot: Any):
    window = panel.window()
    window.resize(1200, 600)
    window.show()
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    scroll = panel.findChild(QScrollArea)
    for section in panel.sections:
        part = section
        while not isinstance(part, QCollapsible):
            part = part.parentWidget()
        folded_height = part.height()
        part.toggleButton().click()

        def in_sight(part: QWidget = part, folded_height: int = folded_height) -> bool:
            top = part.mapTo(scroll.viewport(), QPoint(0, 0)).y()
            bottom = top + part.height()
            return part.height() > folded_height and (
                top == 0 or 0 < top < bottom <= scroll.viewport().height()
            )

        qtbot.waitUntil(in_sight)
