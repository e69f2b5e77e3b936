"""What each target means, without a window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine.masks.open_mask import open_mask
from napari_restore.errors import BadMask, BadRegion, RestoreError
from napari_restore.plugin.areas.areas import (
    PAINT_SIDE,
    STRAIGHT,
    OnGrid,
    area_of,
    chosen_strength,
    is_upright_box,
    new_paint_layer,
    strength_layers,
)
from napari_restore.plugin.areas.drawing_controller import DrawingController, Tool
from napari_restore.plugin.state.request import Area, TargetChoice
from napari_restore.plugin.state.state import RestoreState, image_of
from napari_restore.plugin.widgets.section import end_all
from napari_restore.questions import Restore

SIZE = (400, 600)
WHOLE = Region(0, 0, *SIZE)
CORNERS = np.array([(0, 0), (0, 1), (1, 1), (1, 0)], float)


def georeferenced(tmp_path: Path, turn: float) -> Any:
    import rasterio
    from rasterio.transform import Affine

    path = tmp_path / f"map{turn:.0f}.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=SIZE[0],
        width=SIZE[1],
        count=1,
        dtype="uint8",
        crs="EPSG:32633",
        transform=Affine(10, 0, 300_000, 0, -10, 5_000_000) @ Affine.rotation(turn),
    ) as dataset:
        dataset.write(np.random.default_rng(0).integers(1, 255, (1, *SIZE), np.uint8))
    return nr.open_image(path)


@pytest.fixture(params=["pixels", "scaled", "north up", "turned map", "turned layer", "bands"])
def scene(request, tmp_path: Path) -> tuple[ViewerModel, Any]:
    """A viewer and a layer of 400 × 600, lying in it in every way."""
    viewer = ViewerModel()
    viewer.canvas.size = (100, 200)
    if request.param in ("north up", "turned map"):
        from napari_restore.plugin.layers.reader import layer_of

        image = georeferenced(tmp_path, 30 if request.param == "turned map" else 0)
        data, arguments, _ = layer_of(image)
        return viewer, viewer.add_image(data, **arguments)
    how: dict[str, Any] = {}
    if request.param == "scaled":
        how = {"scale": (2, 0.5), "translate": (7, -3)}
    if request.param == "turned layer":
        how = {"rotate": 40, "scale": (2, 2)}
    pixels = np.random.default_rng(0).integers(1, 255, SIZE, np.uint8)
    if request.param == "bands":
        viewer.add_image(np.zeros((3, 5, 5)), name="below")
        how = {"rgb": True}
        pixels = np.dstack([pixels] * 3)
    return viewer, viewer.add_image(pixels, **how)


def box(region: Region) -> np.ndarray:
    """The corners of a region's edges in data coordinates, whose pixels have their middle at 0."""
    return CORNERS * region.shape + (region.y0, region.x0) - 0.5


def draw(viewer: ViewerModel, layer: Any, *areas: Any, kind: str = "polygon") -> Any:
    """The layer of the buttons with areas given in data coordinates of `layer`."""
    drawing = DrawingController(viewer, RestoreState(layer=layer))
    drawing.toggle(Tool.POLYGON)
    end_all(drawing)
    shapes = viewer.layers["Areas to restore"]
    assert viewer.layers.selection.active is shapes
    shapes.add([np.array(points, float) for points in areas], shape_type=kind)
    return shapes


def settings(target: TargetChoice, *, feather: int = 0, **fields: Any) -> RestoreState:
    options = Restore().replacing(feather=feather)
    return RestoreState(target=target, options=options, **fields)


def found(target: TargetChoice, viewer: ViewerModel, layer: Any, **options: Any) -> Area:
    return area_of(settings(target, **options), viewer, layer, image_of(layer))()


def weight_of(area: Area, layer: Any, feather: int = 0) -> np.ndarray:
    """(h, w) what the engine makes of an area's mask."""
    assert area.mask is not None
    return open_mask(area.mask, image_of(layer), feather).read(WHOLE)


def test_the_whole_image(scene):
    assert found(TargetChoice.WHOLE, *scene) == Area((WHOLE,))


def test_a_bracket_is_cut_to_what_all_frames_show_where_nothing_is_drawn():
    frames = [nr.open_image(np.zeros((*SIZE, 3), np.uint8)) for _ in range(2)]
    moved = frames[1].placed((1, 0, 4, 0, 1, -6, 0, 0, 1), SIZE)
    viewer = ViewerModel()
    viewer.canvas.size = (400, 600)
    layer = viewer.add_image(np.zeros((*SIZE, 3), np.uint8))
    viewer.scene.camera.zoom = 1
    image = frames[0].with_companions([moved], 0, (0, 1))

    def of(target: TargetChoice, **options: Any) -> tuple[Region, ...]:
        return area_of(settings(target, **options), viewer, layer, image)().targets

    cut = Region(6, 0, 400, 596)
    assert of(TargetChoice.WHOLE) == (cut,)
    assert of(TargetChoice.WHOLE, crop=False) == (WHOLE,)
    whole_view = of(TargetChoice.VISIBLE, crop=False)[0]
    assert of(TargetChoice.VISIBLE) == (whole_view.intersect(cut),)
    draw(viewer, layer, box(Region(0, 0, 30, 50)))
    assert of(TargetChoice.DRAWN) == (Region(0, 0, 30, 50),)
    viewer.scene.camera.zoom = 100
    viewer.scene.camera.center = (0, 1, 300)
    with pytest.raises(BadRegion, match="some frame does not show"):
        of(TargetChoice.VISIBLE)


def test_one_upright_rectangle_is_a_plain_region(scene):
    draw(*scene, box(Region(10, 20, 30, 50)))
    assert found(TargetChoice.DRAWN, *scene) == Area((Region(10, 20, 30, 50),))


@pytest.mark.parametrize(
    ("corners", "upright"),
    [
        ([(0, 0), (0, 5), (3, 5), (3, 0)], True),
        ([(0, 0), (3, 0), (3, 5), (0, 5)], True),
        ([(0, 0), (0, 5), (3, 5)], False),
        # There and back on a line: along the pixels, but round no corner.
        ([(0, 0), (0, 5), (0, 9), (0, 5)], False),
        # A line across, with two corners twice.
        ([(0, 0), (3, 5), (3, 5), (0, 0)], False),
        ([(0, 1), (1, 3), (3, 2), (2, 0)], False),
    ],
)
def test_an_upright_box_has_four_sides_along_the_pixels(corners, upright: bool):
    assert is_upright_box(np.array(corners, float)) is upright


def test_with_a_feather_it_is_a_mask(scene):
    region = Region(10, 20, 110, 220)
    draw(*scene, box(region))
    area = found(TargetChoice.DRAWN, *scene, feather=16)
    assert area.targets == (region,) and area.pixels == region.pixels
    weight = weight_of(area, scene[1], 16)
    assert weight[60, 120] == 1 and 0 < weight[60, 22] < 0.6 and weight[60, 19] == 0
    sharp = weight_of(area, scene[1])
    assert sharp[region.slices].all() and sharp.sum() == region.pixels


def test_several_areas_are_one_mask_with_a_box_each(scene):
    one, two = Region(10, 20, 30, 50), Region(300, 400, 340, 480)
    draw(*scene, box(one), box(two))
    area = found(TargetChoice.DRAWN, *scene)
    assert area.targets == (one, two)
    weight = weight_of(area, scene[1])
    assert weight[one.slices].all() and weight[two.slices].all()
    assert weight.sum() == one.pixels + two.pixels


def test_a_polygon_is_a_mask(scene):
    draw(*scene, [(100, 100), (100, 300), (300, 100)])
    area = found(TargetChoice.DRAWN, *scene)
    assert area.region.shape == (201, 201)
    assert area.pixels == 20_000
    weight = weight_of(area, scene[1])
    assert weight[101, 290] == 1 and weight[290, 290] == 0
    assert weight.sum() == pytest.approx(20_000, rel=0.02)


def test_an_ellipse_is_round():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(SIZE, np.uint8))
    draw(viewer, layer, box(Region(100, 100, 200, 300)), kind="ellipse")
    weight = weight_of(found(TargetChoice.DRAWN, viewer, layer), layer)
    assert weight[150, 105] == 1 and weight[105, 105] == 0
    assert weight.sum() == pytest.approx(np.pi * 50 * 100, rel=0.01)


def test_selected_areas_count_alone_while_the_user_selects():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(SIZE, np.uint8))
    one, two = Region(0, 0, 10, 10), Region(100, 0, 110, 10)
    shapes = draw(viewer, layer, box(one), box(two))
    shapes.mode = "select"
    shapes.selected_data = {0}
    assert found(TargetChoice.DRAWN, viewer, layer) == Area((one,))
    # What was drawn last is selected, too, but was not chosen.
    shapes.mode = "pan_zoom"
    assert found(TargetChoice.DRAWN, viewer, layer).targets == (one, two)


def test_areas_beyond_the_border_are_left_out():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(SIZE, np.uint8))
    draw(viewer, layer, box(Region(390, 590, 500, 700)), box(Region(900, 0, 910, 10)))
    assert found(TargetChoice.DRAWN, viewer, layer) == Area((Region(390, 590, 400, 600),))


def test_no_area_and_one_outside_are_errors():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(SIZE, np.uint8))
    with pytest.raises(BadRegion, match="no area yet"):
        found(TargetChoice.DRAWN, viewer, layer)
    viewer.add_shapes([np.array([(0, 0), (9, 9)])], shape_type="line")
    with pytest.raises(BadRegion, match="no area yet"):
        found(TargetChoice.DRAWN, viewer, layer)
    draw(viewer, layer, box(Region(900, 0, 910, 10)))
    with pytest.raises(BadRegion, match="outside"):
        found(TargetChoice.DRAWN, viewer, layer)


def test_areas_of_another_layer_lie_where_they_are_shown(scene):
    viewer, layer = scene
    corners = [layer.data_to_world(p)[-2:] for p in box(Region(100, 100, 200, 300))]
    viewer.add_shapes([np.array(corners)], shape_type="polygon", ndim=2)
    area = found(TargetChoice.DRAWN, viewer, layer, feather=1)
    expected = np.zeros(SIZE)
    expected[100:200, 100:300] = 1
    # napari keeps them in float32, half a metre in five million.
    assert np.abs(weight_of(area, layer) - expected).sum() <= 2 * 300


def test_the_same_areas_have_the_same_file(scene):
    shapes = draw(*scene, [(100, 100), (100, 300), (300, 100)])
    first = found(TargetChoice.DRAWN, *scene)
    assert found(TargetChoice.DRAWN, *scene) == first
    shapes.data = [shapes.data[0] * 1.01]
    assert found(TargetChoice.DRAWN, *scene) != first


def test_areas_on_a_map_are_written_in_its_system(tmp_path: Path):
    from napari_restore.plugin.layers.reader import layer_of

    viewer = ViewerModel()
    data, arguments, _ = layer_of(georeferenced(tmp_path, 0))
    layer = viewer.add_image(data, **arguments)
    draw(viewer, layer, [(100, 100), (100, 300), (300, 100)])
    reported = json.loads(Path(found(TargetChoice.DRAWN, viewer, layer).mask).read_text("utf-8"))
    assert reported["crs"]["properties"]["name"].endswith("EPSG::32633")
    x, y = reported["features"][0]["geometry"]["coordinates"][0][0][0]
    assert (x, y) == pytest.approx((300_000 + 1005, 5_000_000 - 1005))


# -- gradients -----------------------------------------------------------------------


def test_a_gradient_is_the_line_drawn(scene):
    viewer, layer = scene
    drawing = DrawingController(viewer, RestoreState(layer=layer))
    drawing.toggle(Tool.GRADIENT)
    viewer.layers["Gradient"].add_lines(np.array([(0, 99.5), (0, 299.5)]))
    area = found(TargetChoice.GRADIENT, viewer, layer)
    assert area.soft and area.targets == (WHOLE,)
    weight = weight_of(area, layer)
    assert weight[:, :100].max() == 0 and weight[:, 300:].min() == 1
    np.testing.assert_allclose(weight[200, 100:300], (np.arange(200) + 0.5) / 200, atol=1e-4)
    end_all(drawing)


def test_no_gradient_is_an_error_and_areas_are_none():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(SIZE, np.uint8))
    draw(viewer, layer, box(Region(0, 0, 9, 9)))
    with pytest.raises(BadRegion, match="no gradient yet"):
        found(TargetChoice.GRADIENT, viewer, layer)


# -- painted -------------------------------------------------------------------------


def test_what_is_painted_is_restored(scene):
    viewer, layer = scene
    paint = viewer.add_layer(new_paint_layer(layer, SIZE))
    assert paint.data.shape == SIZE
    paint.data[40:80, 100:160] = 3
    area = found(TargetChoice.PAINTED, viewer, layer)
    assert area == Area((Region(40, 100, 80, 160),), area.mask)
    assert area.pixels == 40 * 60
    expected = np.zeros(SIZE)
    expected[40:80, 100:160] = 1
    np.testing.assert_array_equal(weight_of(area, layer), expected)


def test_over_a_huge_image_the_layer_is_coarse_and_lies_right():
    import dask.array as da

    viewer = ViewerModel()
    whole = da.zeros((30_001, 20_000), np.uint8, chunks=4096)
    # With one level napari would compute all of it to show it.
    layer = viewer.add_image([whole, whole[::64, ::64]], multiscale=True, contrast_limits=(0, 1))
    image = image_of(layer)
    paint = viewer.add_layer(new_paint_layer(layer, (30_001, 20_000)))
    assert max(paint.data.shape) <= PAINT_SIDE
    paint.data[10:12, 20:24] = 1
    area = found(TargetChoice.PAINTED, viewer, layer)
    step = -(-30_001 // PAINT_SIDE)
    expected = Region(10 * step, 20 * step, 12 * step, 24 * step)
    assert area.targets == (expected,) and area.pixels == expected.pixels
    weight = open_mask(area.mask, image).read(expected.expand(step))
    assert weight[step:-step, step:-step].all()
    assert weight.sum() == expected.pixels


def test_nothing_painted_and_no_layer_are_errors():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(SIZE, np.uint8))
    with pytest.raises(BadRegion, match="Nothing is painted"):
        found(TargetChoice.PAINTED, viewer, layer)
    viewer.add_layer(new_paint_layer(layer, SIZE))
    with pytest.raises(RestoreError, match="Nothing is painted"):
        found(TargetChoice.PAINTED, viewer, layer)


@pytest.mark.parametrize(
    ("values", "top"), [(np.float64, 1.0), (np.uint8, 255), (np.uint16, 65535)]
)
def test_grey_values_are_a_strength_from_0_to_1(values, top):
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros((*SIZE, 3), np.uint8), rgb=True)
    ramp = np.linspace(0, 1, SIZE[1])[None].repeat(SIZE[0], 0)
    grey = viewer.add_image((ramp * top).astype(values), name="strength")
    area = found(TargetChoice.PAINTED, viewer, layer, strength_layer=grey)
    assert area.soft
    np.testing.assert_allclose(weight_of(area, layer), ramp, atol=1 / 254)


def test_a_layer_larger_than_memory_allows_is_read_in_pieces(monkeypatch):
    import dask.array as da

    monkeypatch.setattr("napari_restore.plugin.areas.areas.AT_ONCE", 1000)
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(SIZE, np.uint8))
    labels = np.zeros(SIZE, np.int32)
    labels[50:60, 70:90] = 9
    viewer.add_labels(da.from_array(labels, chunks=64))
    np.testing.assert_array_equal(
        weight_of(found(TargetChoice.PAINTED, viewer, layer), layer), labels > 0
    )


def test_a_strength_that_lies_in_a_file_is_that_file(tmp_path: Path):
    from napari_restore.plugin.layers.reader import layer_of

    viewer = ViewerModel()
    layers = [
        viewer.add_image(data, **arguments)
        for data, arguments, _ in (layer_of(georeferenced(tmp_path, turn)) for turn in (0, 30))
    ]
    source, other = layers
    own = found(TargetChoice.PAINTED, viewer, source, strength_layer=other)
    assert own.mask == str(other.metadata["napari_restore"].path)
    # One that was moved in the window is not where its file says.
    other.translate = (50, 0)
    moved = found(TargetChoice.PAINTED, viewer, source, strength_layer=other)
    assert moved.mask != own.mask
    assert not np.array_equal(weight_of(moved, source), weight_of(own, source))


def test_what_is_painted_on_its_side_is_read_pixel_by_pixel():
    """Rows and columns are exchanged, between the middles of the first pixels of both."""
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(SIZE, np.uint8))
    labels = np.random.default_rng(0).integers(0, 2, SIZE[::-1], np.uint8)
    viewer.add_labels(labels, affine=[[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    area = found(TargetChoice.PAINTED, viewer, layer)
    np.testing.assert_array_equal(weight_of(area, layer), labels.T)


def test_a_strength_of_another_system_is_no_file_of_the_images(tmp_path: Path):
    """With the same numbers in both, it lies elsewhere, where only the window shows it here."""
    import rasterio

    from napari_restore.plugin.layers.reader import layer_of

    image = georeferenced(tmp_path, 0)
    other = tmp_path / "other.tif"
    with rasterio.open(image.path) as given:
        profile = given.profile | {"crs": "EPSG:32634"}
        with rasterio.open(other, "w", **profile) as written:
            written.write(given.read())
    viewer = ViewerModel()
    source, strength = (
        viewer.add_image(data, **arguments)
        for data, arguments, _ in map(layer_of, (image, nr.open_image(other)))
    )
    strength.affine = source.affine
    area = found(TargetChoice.PAINTED, viewer, source, strength_layer=strength)
    assert area.mask != str(other)
    assert weight_of(area, source).all()


def test_painted_outside_is_an_error():
    viewer = ViewerModel()
    layer = viewer.add_image(np.zeros(SIZE, np.uint8))
    viewer.add_labels(np.ones((9, 9), np.uint8), translate=(5000, 0))
    with pytest.raises((BadRegion, BadMask), match="outside"):
        found(TargetChoice.PAINTED, viewer, layer)


def test_a_map_of_the_window_is_no_paint():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((8, 9, 3), np.uint8), rgb=True)
    quality = {"napari_restore_source": image.unique_id}
    viewer.add_labels(np.ones((8, 9), np.uint8), metadata=quality)
    assert chosen_strength(viewer, None, image) is None
    painted = viewer.add_labels(np.ones((8, 9), np.uint8))
    assert strength_layers(viewer, image) == [painted]


def test_labels_end_with_their_last_pixel() -> None:
    found = OnGrid(np.ones((4, 3), np.int32), np.eye(3), (6, 5))[0:6, 0:5]
    assert found[:4, :3].all() and found.sum() == 12


def test_a_box_is_upright_to_a_thousandth_of_a_pixel() -> None:
    for lean, is_upright in ((STRAIGHT, True), (2 * STRAIGHT, False)):
        corners = np.array([[0, 0], [0, 10], [10, 10], [10, lean]])
        assert is_upright_box(corners) == is_upright
