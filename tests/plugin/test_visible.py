from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_restore import Region
from napari_restore.errors import BadRegion
from napari_restore.plugin._targets import Target, area_of
from napari_restore.plugin._visible import visible_region

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


def test_nothing_in_view_is_said():
    viewer, layer = shown()
    look_at(viewer, layer, 5000, 300, 1)
    with pytest.raises(BadRegion, match="Nothing of"):
        visible_region(viewer, layer, SIZE)


def test_the_3d_view_has_no_visible_region():
    viewer, layer = shown()
    viewer.dims.ndisplay = 3
    with pytest.raises(BadRegion, match="3D"):
        visible_region(viewer, layer, SIZE)


def test_a_drawn_rectangle_on_a_map():
    viewer, layer = shown(METRE)
    corners = [
        layer.data_to_world(p) for p in [(9.5, 19.5), (9.5, 49.5), (29.5, 49.5), (29.5, 19.5)]
    ]
    viewer.add_shapes([np.array(corners)], shape_type="polygon", ndim=2)
    assert area_of(Target.RECTANGLE, viewer, layer, SIZE).region == Region(10, 20, 30, 50)


def test_the_selected_rectangle_counts_among_several():
    viewer, layer = shown()
    boxes = [np.array([(y, 0), (y, 10), (y + 10, 10), (y + 10, 0)]) - 0.5 for y in (0, 100)]
    shapes = viewer.add_shapes(boxes)
    shapes.selected_data = {0}
    assert area_of(Target.RECTANGLE, viewer, layer, SIZE).region == Region(0, 0, 10, 10)
    shapes.selected_data = set()
    assert area_of(Target.RECTANGLE, viewer, layer, SIZE).region == Region(100, 0, 110, 10)


def test_no_rectangle_or_one_outside_is_said():
    viewer, layer = shown()
    with pytest.raises(BadRegion, match="no rectangle"):
        area_of(Target.RECTANGLE, viewer, layer, SIZE)
    viewer.add_shapes([np.array([(900, 0), (900, 10), (910, 10), (910, 0)])])
    with pytest.raises(BadRegion, match="outside"):
        area_of(Target.RECTANGLE, viewer, layer, SIZE)


def test_the_whole_image():
    viewer, layer = shown()
    assert area_of(Target.WHOLE, viewer, layer, SIZE).region == Region(0, 0, *SIZE)
