"""Photos have their top at the top of the canvas, maps their north, whatever was open before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

pytestmark = pytest.mark.viewer

SIZE = 200
TOP, BOTTOM = (250, 0, 0), (0, 0, 250)


@pytest.fixture
def panel(make_napari_viewer: Any) -> Any:
    """The panel in a window that is shown: the canvas of a hidden one is not always drawn."""
    viewer = make_napari_viewer(show=True)
    return viewer.window.add_plugin_dock_widget("napari-restore", "Restore")[1]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    from PIL import Image as Pillow

    path = tmp_path / "photo.png"
    Pillow.fromarray(halves()).save(path)
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """The same on a map, north up."""
    import rasterio

    path = tmp_path / "scene.tif"
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(500, 900, 1, 1)}
    size = {"height": SIZE, "width": SIZE, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", photometric="rgb", **size, **place) as file:
        file.write(halves().transpose(2, 0, 1))
    return path


def halves() -> np.ndarray:
    pixels = np.empty((SIZE, SIZE, 3), np.uint8)
    pixels[: SIZE // 2], pixels[SIZE // 2 :] = TOP, BOTTOM
    return pixels


@pytest.fixture
def show(panel: Any) -> Callable[[Any], None]:
    """A function that fits a layer into the canvas, alone."""

    def show(layer: Any) -> None:
        QApplication.processEvents()
        for other in panel.viewer.layers:
            other.visible = other is layer
        camera = panel.viewer.scene.camera
        camera.center = (0, *layer.data_to_world((SIZE / 2, SIZE / 2)))
        camera.zoom = 1.5

    return show


def is_upright(viewer: Any) -> bool:
    QApplication.processEvents()
    canvas = viewer.screenshot(canvas_only=True, flash=False)
    y, x = np.array(canvas.shape[:2]) // 2
    above, below = canvas[y - 60, x, :3], canvas[y + 60, x, :3]
    assert sorted([tuple(above), tuple(below)]) == sorted([TOP, BOTTOM])
    return tuple(above) == TOP


@pytest.mark.slow
@pytest.mark.parametrize("map_stays", [False, True])
@pytest.mark.ids("nightly", "True", "False")
def test_a_photo_is_upright_after_a_map(
    panel: Any, show: Any, scene: Path, photo: Path, map_stays: bool
):
    viewer = panel.viewer
    viewer.open(scene, plugin="napari-restore")
    show(viewer.layers[0])
    assert is_upright(viewer)
    if not map_stays:
        viewer.layers.clear()
    viewer.open(photo, plugin="napari-restore")
    show(viewer.layers[-1])
    assert is_upright(viewer)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_map_is_upright_after_a_photo_and_the_chosen_image_decides(
    panel: Any, show: Any, scene: Path, photo: Path
):
    viewer = panel.viewer
    viewer.open(photo, plugin="napari-restore")
    viewer.open(scene, plugin="napari-restore")
    for number in (1, 0, 1):
        panel.image.setCurrentIndex(number)
        show(viewer.layers[number])
        assert is_upright(viewer)


@pytest.mark.nightly
def test_a_canvas_that_the_user_has_turned_stays(panel: Any, photo: Path):
    camera = panel.viewer.scene.camera
    camera.orientation2d = ("up", "right")
    panel.viewer.open(photo, plugin="napari-restore")
    assert camera.orientation2d == ("up", "right")
