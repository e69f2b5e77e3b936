"""What is drawn on a map has edges and a highlight as wide as on a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_restore.plugin.areas.drawing_controller import Tool
from napari_restore.plugin.state.request import TargetChoice

pytestmark = pytest.mark.viewer

SIZE = 300


@pytest.fixture
def viewer(make_napari_viewer: Any) -> Any:
    """Shown: the canvas of a hidden window is not always drawn."""
    return make_napari_viewer(show=True)


@pytest.fixture
def open_map(viewer: Any, tmp_path: Path) -> Any:
    """A function that opens a black map whose pixels have a size in metres."""
    import rasterio

    def open_map(pixel: float) -> Any:
        path = tmp_path / "scene.tif"
        place = rasterio.transform.from_origin(5e5, 5e6, pixel, pixel)
        size = {"height": SIZE, "width": SIZE, "count": 3, "dtype": "uint8"}
        with rasterio.open(
            path, "w", driver="GTiff", photometric="rgb", crs="EPSG:32633", transform=place, **size
        ) as file:
            file.write(np.zeros((3, SIZE, SIZE), np.uint8))
        viewer.open(path, plugin="napari-restore")
        return viewer.layers[0]

    return open_map


def shares(viewer: Any) -> tuple[float, float]:
    """The shares of the canvas that are yellow, as edges, and blue, as napari's highlight."""
    QApplication.processEvents()
    red, green, blue, _ = np.moveaxis(viewer.screenshot(canvas_only=True, flash=False), 2, 0)
    yellow = (red > 150) & (green > 150) & (blue < 100)
    return float(yellow.mean()), float(((blue > 150) & (red < 100)).mean())


@pytest.mark.slow
@pytest.mark.parametrize("pixel", [30, 150])
@pytest.mark.parametrize("whose", ["ours", "napari's"])
@pytest.mark.ids("nightly", "napari's-150", "ours-150", "napari's-30")
def test_an_area_on_a_map_has_thin_edges_and_a_thin_highlight(
    viewer: Any, open_map: Any, qtbot: Any, pixel: float, whose: str
):
    from napari._app_model.actions._file import add_new_shapes

    panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")[1]
    source = open_map(pixel)
    panel.target.choose(TargetChoice.DRAWN)
    if whose == "ours":
        panel.target.tools[Tool.RECTANGLE].click()
    else:
        viewer.layers.selection.clear()
        add_new_shapes(viewer)
    areas = viewer.layers[-1]
    areas.current_edge_color, areas.current_face_color = "yellow", "transparent"
    world = [source.data_to_world(at) for at in ((90, 90), (90, 210), (210, 210), (210, 90))]
    areas.add_rectangles([np.array([areas.world_to_data(at) for at in world])])
    viewer.reset_view()
    # Edges alone: where both fall on the same pixels of the canvas, the highlight covers them.
    areas.mode, areas.selected_data = "pan_zoom", set()
    # A line of one pixel is a smaller share of a wider canvas.
    qtbot.waitUntil(lambda: 0.0003 < shares(viewer)[0] < 0.03)
    areas.mode = "select"
    areas.selected_data = {0}
    qtbot.waitUntil(lambda: 0.0005 < shares(viewer)[1] < 0.03)
    assert panel.state.target is TargetChoice.DRAWN


@pytest.mark.nightly
def test_edges_that_the_user_has_set_stay(viewer: Any, open_map: Any):
    panel = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")[1]
    open_map(30)
    areas = viewer.add_shapes([np.zeros((4, 2))], edge_width=5)
    panel.target.choose(TargetChoice.DRAWN)
    assert areas.edge_width == [5]
