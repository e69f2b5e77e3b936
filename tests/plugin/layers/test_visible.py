from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_restore import Region
from napari_restore.errors import BadRegion
from napari_restore.plugin.layers.placing import visible_region

SIZE = (400, 600)
METRE = np.array([[-10.0, 0.0, 5_000_000.0], [0.0, 10.0, 300_000.0], [0.0, 0.0, 1.0]])


def shown(affine: np.ndarray | None = None, ndim: int = 2) -> tuple[ViewerModel, object]:
    """A viewer with a canvas of 100 × 200 screen pixels on an image of 400 × 600."""
    viewer = ViewerModel()
    viewer.canvas.size = (100, 200)
    arguments = {} if affine is None else {"affine": affine}
    layer = viewer.add_image(np.zeros((3, *SIZE)[3 - ndim :], np.uint8), **arguments)
    return viewer, layer


def look_at(viewer: ViewerModel, layer, row: float, column: float, zoom: float) -> None:
    position = [0] * (layer.ndim - 2) + [row, column]
    viewer.scene.camera.center = (0, *layer.data_to_world(position)[-2:])
    viewer.scene.camera.zoom = zoom


@pytest.mark.parametrize("ndim", [2, 3])
def test_one_screen_pixel_per_pixel(ndim: int):
    viewer, layer = shown(ndim=ndim)
    look_at(viewer, layer, 199.5, 299.5, 1)
    assert visible_region(viewer, layer, SIZE) == Region(150, 200, 250, 400)


def test_on_a_map_with_rows_southwards():
    viewer, layer = shown(METRE)
    # 0.4 screen pixels a metre of 10 m pixels: 4 screen pixels a pixel.
    look_at(viewer, layer, 199.5, 299.5, 0.4)
    assert visible_region(viewer, layer, SIZE) == Region(187, 275, 213, 325)


def test_a_rotated_image_gives_the_box_around_the_view():
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    viewer, layer = shown(turn)
    look_at(viewer, layer, 199.5, 299.5, 1)
    assert visible_region(viewer, layer, SIZE) == Region(100, 250, 300, 350)


def test_it_shrinks_again_when_zooming_in():
    viewer, layer = shown()
    look_at(viewer, layer, 199.5, 299.5, 1)
    look_at(viewer, layer, 199.5, 299.5, 10)
    assert visible_region(viewer, layer, SIZE) == Region(195, 290, 205, 310)


def test_it_is_clipped_to_the_image():
    viewer, layer = shown()
    look_at(viewer, layer, 0, 0, 1)
    assert visible_region(viewer, layer, SIZE) == Region(0, 0, 51, 101)
    look_at(viewer, layer, 200, 300, 0.001)
    assert visible_region(viewer, layer, SIZE) == Region(0, 0, *SIZE)


def test_nothing_in_view_is_an_error():
    viewer, layer = shown()
    look_at(viewer, layer, 5000, 300, 1)
    with pytest.raises(BadRegion, match="Nothing of"):
        visible_region(viewer, layer, SIZE)


def test_the_3d_view_has_no_visible_region():
    viewer, layer = shown()
    viewer.dims.ndisplay = 3
    with pytest.raises(BadRegion, match="3D"):
        visible_region(viewer, layer, SIZE)
