"""The panel fits: at 200 % on a screen 1600 wide napari leaves it 212 pixels; elsewhere no text is cut."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from cut_text import cut_texts
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QApplication, QLabel, QLineEdit, QScrollArea, QSpinBox, QStyle, QWidget

from napari_restore.plugin import NARROWEST
from napari_restore.plugin.attribution.attribution_tab import AttributionTab
from napari_restore.plugin.widgets.folding import Folded

pytestmark = [pytest.mark.viewer, pytest.mark.own_window, pytest.mark.binding]
SCREEN = 800
"""Pixels of a 1600 wide screen at 200 %."""
SETTLED_MS = 20_000
"""After which a layout that has not made room will make none."""


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
    for part in panel.findChildren(Folded):
        part.open()
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
        while not isinstance(part, Folded):
            part = part.parentWidget()
        part.open()

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
        while not isinstance(part, Folded):
            part = part.parentWidget()
        folded_height = part.height()
        part.heading.click()

        def in_sight(part: QWidget = part, folded_height: int = folded_height) -> bool:
            top = part.mapTo(scroll.viewport(), QPoint(0, 0)).y()
            bottom = top + part.height()
            return part.height() > folded_height and (
                top == 0 or 0 < top < bottom <= scroll.viewport().height()
            )

        qtbot.waitUntil(in_sight)


def every_text_fits(panel: Any, qtbot: Any) -> None:
    """Look at each tab, and there at each part folded and, one after another, unfolded."""

    found: list[str] = []

    def fits() -> bool:
        found[:] = cut_texts(panel)
        return not found

    def look() -> None:
        with contextlib.suppress(qtbot.TimeoutError):
            qtbot.waitUntil(fits, timeout=SETTLED_MS)
        assert not found

    for number in range(panel.tabs.count()):
        panel.tabs.setCurrentIndex(number)
        look()
        for part in panel.findChildren(Folded):
            if part.isVisible() and not part.is_open:
                opened = [part]
                part.open()
                for inner in part.findChildren(Folded):
                    if inner.isVisible() and not inner.is_open:
                        inner.open()
                        opened.append(inner)
                look()
                for each in reversed(opened):
                    each.open(False)


@pytest.mark.slow
@pytest.mark.parametrize("screen", [(1366, 768), (1920, 1080)], ids=str)
@pytest.mark.ids("nightly", "(1920, 1080)")
def test_no_text_has_less_room_than_it_needs(
    panel: Any, qtbot: Any, finished_run: Any, screen: tuple[int, int]
):
    window = panel.window()
    window.resize(*screen)
    window.show()
    window.resize(*screen)
    qtbot.waitUntil(lambda: panel.width() > NARROWEST)
    every_text_fits(panel, qtbot)
    panel.viewer.add_image(np.full((64, 64, 3), 90, np.uint8), name="photo")
    panel.models.choose("identity")
    finished_run()
    every_text_fits(panel, qtbot)
    pixels = np.random.default_rng(0).integers(0, 4000, (6, 64, 64), np.uint16)
    panel.viewer.add_image(pixels, name="bands")
    every_text_fits(panel, qtbot)


def test_a_text_that_is_cut_is_found(qtbot: Any):
    root = QWidget()
    qtbot.addWidget(root)
    root.resize(200, 100)
    label = QLabel("as long as a sentence is that does not fit", root)
    label.setGeometry(0, 0, 150, 20)
    wrapped = QLabel("as long as a sentence is that needs a second line", root, wordWrap=True)
    wrapped.setGeometry(0, 20, 200, 15)
    box = QSpinBox(root)
    box.setGeometry(0, 50, 100, 24)
    below = QLabel("below", root)
    below.move(0, 95)
    root.show()
    qtbot.waitExposed(root)
    box.findChild(QLineEdit).setGeometry(0, 1, 1, 20)
    found = [each.partition(" ")[0] for each in cut_texts(root)]
    assert found == ["QLabel", "QLabel", "QLineEdit", "QLabel"], cut_texts(root)
