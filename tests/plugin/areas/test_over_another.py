"""An area restored over an earlier result leaves that result in sight beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_restore.plugin.areas.drawing_controller import Tool
from napari_restore.plugin.state.request import TargetChoice

pytestmark = pytest.mark.viewer

CORNERS = np.array([(150.0, 200.0), (150.0, 430.0), (350.0, 200.0)])
"""A triangle, so that its box and its tiles hold pixels beside it."""
PLACES = np.stack(np.meshgrid(np.arange(130, 400, 20), np.arange(170, 470, 20)), -1).reshape(-1, 2)
"""In the middles of the squares of the picture, beside the triangle and in it."""


def seen(viewer: Any) -> np.ndarray:
    """The colours on the canvas at `PLACES`, (n, 3)."""
    QApplication.processEvents()
    canvas = np.asarray(viewer.screenshot(canvas_only=True, flash=False))[..., :3].astype(int)
    camera = viewer.scene.camera
    at = (PLACES - camera.center[-2:]) * camera.zoom + np.array(canvas.shape[:2]) / 2
    y, x = at.astype(int).T
    return canvas[y, x]


def choose(panel: Any, model: str) -> None:
    panel.models.combo.setCurrentIndex(panel.models.combo.findData(model))


@pytest.fixture
def panel(make_napari_viewer: Any) -> Any:
    """The panel in a window that is shown: the canvas of a hidden one is not always drawn."""
    viewer = make_napari_viewer(show=True)
    return viewer.window.add_plugin_dock_widget("napari-restore", "Restore")[1]


@pytest.mark.nightly
def test_beside_the_area_the_earlier_result_is_seen(panel: Any, finished_run: Any):
    viewer = panel.viewer
    y, x = np.mgrid[:500, :600]
    grey = (90 + 0.2 * x + 40 * ((x // 20 + y // 20) % 2)).astype(np.uint8)
    pixels = np.dstack([grey, grey // 2 + 60, grey // 3 + 90])
    viewer.add_image(pixels, name="photo")
    viewer.scene.camera.zoom *= 1.1
    before = seen(viewer)
    choose(panel, "dcp")
    panel.target.choose(TargetChoice.WHOLE)
    finished_run()
    earlier = seen(viewer)
    panel.target.choose(TargetChoice.DRAWN)
    panel.target.tools[Tool.POLYGON].click()
    areas = viewer.layers[-1]
    areas.add_polygons([CORNERS])
    choose(panel, "identity")
    finished_run()
    areas.visible = False
    together = seen(viewer)
    y, x = PLACES.T
    # How far inside the triangle, in pixels of the image.
    inside = np.minimum.reduce([y - 150, x - 200, (350 - y) * 1.15 - (x - 200)])
    assert np.abs(earlier - before).max(axis=1).min() > 5
    np.testing.assert_allclose(together[inside < -4], earlier[inside < -4], atol=2)
    np.testing.assert_allclose(together[inside > 4], before[inside > 4], atol=2)
