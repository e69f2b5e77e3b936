from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import Finished, Result, TileDone
from napari_restore.plugin.layers.reader import layer_of
from napari_restore.plugin.layers.result_layer import ResultLayer

RGB = {"red": 1, "green": 2, "blue": 3}
REGION = Region(101, 203, 1203, 1611)


def ran(plan: Any) -> tuple[Result, list[Region]]:
    """The result of a plan and its tiles in the order they came."""
    events = list(nr.start(plan))
    record = next(e.record for e in events if isinstance(e, Finished))
    return Result.of_run(plan, record), [e.region for e in events if isinstance(e, TileDone)]


def layer_for(image: Any, **changes: Any) -> ImageLayer:
    data, arguments, _ = layer_of(image)
    return ImageLayer(data, **{**arguments, **changes})


def test_a_finished_region_is_the_source_there_and_clear_elsewhere(
    colours: np.ndarray, planned: Any
):
    image = nr.open_image(colours, bands=RGB)
    result, tiles = ran(planned(image, REGION, tile=512))
    shown = ResultLayer(result, layer_for(image), "name")
    assert len(tiles) > 2
    for tile in tiles:
        shown.mark(tile)
    layer = shown.layer
    box = shown.box
    assert box == REGION.align(4)
    level0 = np.asarray(layer.data[0])
    inside = REGION.shift(-box.y0, -box.x0)
    np.testing.assert_array_equal(level0[inside.slices][..., :3], colours[REGION.slices])
    assert (level0[inside.slices][..., 3] == 255).all()
    assert (level0[..., 3] == 255).sum() == REGION.pixels
    corner = layer.data_to_world((inside.y0, inside.x0))
    np.testing.assert_array_equal(corner, (REGION.y0, REGION.x0))


def test_every_level_shows_the_same_place(colours: np.ndarray, planned: Any):
    image = nr.open_image(colours, bands=RGB)
    result, tiles = ran(planned(image, REGION))
    shown = ResultLayer(result, layer_for(image), "name")
    for tile in tiles:
        shown.mark(tile)
    shown.refresh()
    assert [tuple(s) for s in shown.layer.level_shapes] == [(1104, 1412), (552, 706), (276, 353)]
    for level in (1, 2):
        _, height, width = result.store.array(str(level)).shape
        stored = result.store.read((0, 0, height, width), str(level))
        y, x = shown.box.y0 >> level, shown.box.x0 >> level
        pixels = np.asarray(shown.layer.data[level])
        clear = pixels[..., 3] == 255
        cut = stored[y : y + pixels.shape[0], x : x + pixels.shape[1]]
        assert clear.mean() > 0.98
        np.testing.assert_array_equal(pixels[clear][:, :3], cut[clear])


def test_it_is_clear_until_a_tile_is_finished(colours: np.ndarray, planned: Any):
    image = nr.open_image(colours, bands=RGB)
    result, tiles = ran(planned(image, tile=512))
    shown = ResultLayer(result, layer_for(image), "name")
    for level in shown.layer.data:
        assert not np.asarray(level).any()
    first = tiles[0]
    shown.mark(first)
    shown.refresh()
    level0 = np.asarray(shown.layer.data[0])
    np.testing.assert_array_equal(level0[first.slices][..., :3], colours[first.slices])
    assert (level0[..., 3] > 0).sum() == first.pixels
    assert 0 < (np.asarray(shown.layer.data[-1])[..., 3] > 0).sum() <= first.pixels / 16


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_other_depths_keep_their_values_and_are_nan_where_nothing_is(dtype: Any, planned: Any):
    pixels = np.random.default_rng(1).integers(1, 60_000, (700, 300, 2)).astype(dtype)
    image = nr.open_image(pixels)
    result, tiles = ran(planned(image, Region(0, 0, 600, 300)))
    source = layer_for(image, contrast_limits=(5, 40_000), colormap="magma")
    shown = ResultLayer(result, source, "name")
    assert np.isnan(np.asarray(shown.layer.data[0])).all()
    for tile in tiles:
        shown.mark(tile)
    level0 = np.asarray(shown.layer.data[0])
    assert level0.shape == (2, 600, 300)
    np.testing.assert_array_equal(level0, pixels[:600].transpose(2, 0, 1))
    assert shown.layer.contrast_limits == source.contrast_limits
    assert shown.layer.colormap.name == "magma"


def test_it_follows_every_transform_of_its_source(planned: Any):
    image = nr.open_image(np.ones((700, 900, 3), np.uint8), bands=RGB)
    affine = np.array([[0.3, -9.0, 5e6], [9.5, 0.2, 3e5], [0, 0, 1]])
    source = layer_for(
        image, affine=affine, scale=(2, 3), translate=(5, 7), rotate=30, units=("metre", "metre")
    )
    region = Region(64, 128, 664, 828)
    result, _ = ran(planned(image, region))
    layer = ResultLayer(result, source, "name").layer
    for y, x in [(0, 0), (599, 699), (10.5, 3.25)]:
        np.testing.assert_allclose(
            layer.data_to_world((y, x)),
            source.data_to_world((y + region.y0, x + region.x0)),
            rtol=0,
            atol=1e-6,
        )
    assert layer.units == source.units


def test_it_goes_where_its_source_goes_unless_it_was_moved_itself(planned: Any):
    image = nr.open_image(np.full((700, 900, 3), 90, np.uint8))
    result, _ = ran(planned(image, region=Region(200, 300, 600, 800)))
    source = layer_for(image)
    made = ResultLayer(result, source, "result")
    corner = np.array([made.box.y0, made.box.x0])
    for name, value in [
        ("translate", (40, -9)),
        ("rotate", 30),
        ("scale", (2, 3)),
        ("shear", [0.2]),
    ]:
        setattr(source, name, value)
        source.affine = np.array([[1, 0.1, 5], [0, 1, 7], [0, 0, 1]])
        np.testing.assert_allclose(made.layer.data_to_world((0, 0)), source.data_to_world(corner))
    made.layer.translate = (1000, 0)
    before = made.layer.data_to_world((0, 0))
    source.translate = (0, 0)
    assert made.layer.data_to_world((0, 0)) == before


def test_a_small_image_needs_no_levels(planned: Any):
    pixels = np.random.default_rng(2).integers(1, 255, (40, 50), np.uint8)
    image = nr.open_image(pixels)
    result, tiles = ran(planned(image))
    shown = ResultLayer(result, layer_for(image), "name")
    ViewerModel().add_layer(shown.layer)
    for tile in tiles:
        shown.mark(tile)
    shown.refresh()
    np.testing.assert_array_equal(shown.layer.data, pixels)


@pytest.mark.parametrize(
    ("region", "pieces"),
    [
        (Region(100, 512, 1100, 1026), ((412, 512, 76), (512, 2))),
        (Region(0, 200, 512, 1100), ((512,), (312, 512, 76))),
    ],
)
def test_pieces_end_where_stored_chunks_do(
    planned: Any, colours: np.ndarray, region: Region, pieces: tuple[tuple[int, ...], ...]
):
    image = nr.open_image(colours)
    result, _ = ran(planned(image, region))
    shown = ResultLayer(result, layer_for(image), "name")
    assert shown.layer.data[0].chunks[:2] == pieces


@pytest.mark.parametrize("chosen", [False, True])
def test_a_result_darker_than_its_source_is_seen_unless_the_user_set_the_contrast(
    planned: Any, chosen: bool
):
    hazy = np.random.default_rng(2).integers(7_000, 16_000, (500, 500, 3)).astype(np.uint16)
    image = nr.open_image(hazy)
    source = layer_for(image)
    before = tuple(source.contrast_limits)
    if chosen:
        source.contrast_limits = before = (8_000, 15_000)
    plan = planned(hazy - 6_900)
    result, tiles = ran(plan)
    shown = ResultLayer(result, source, "name")
    for tile in tiles:
        shown.mark(tile)
    shown.fill()
    shown.refresh()
    assert tuple(source.contrast_limits) == before
    if chosen:
        assert tuple(shown.layer.contrast_limits) == before
    else:
        assert shown.layer.contrast_limits[0] < 200
        assert shown.layer.contrast_limits[1] == before[1]


def test_alpha_has_no_say_in_the_contrast():
    pixels = np.full((64, 64, 4), 3_000, np.uint16)
    pixels[..., :3] += np.arange(64, dtype=np.uint16)[:, None, None]
    pixels[..., 3] = 255
    image = nr.open_image(pixels, bands={**RGB, "alpha": 4})
    assert layer_for(image).contrast_limits[0] >= 3_000


def test_a_draft_takes_the_layer_of_another_of_any_level(colours: np.ndarray, planned: Any):
    source = layer_for(nr.open_image(colours, bands=RGB))
    drafts = []
    for scale in (4, 2):
        small = nr.open_image(np.ascontiguousarray(colours[::scale, ::scale]), bands=RGB)
        whole = Region(0, 0, small.height, small.width)
        result, tiles = ran(planned(small, whole))
        shown = ResultLayer(result, source, f"1/{scale}", scale=scale)
        shown.mark_all(tiles)
        drafts.append((shown, np.asarray(result.read(whole))))
    (former, _), (later, pixels) = drafts
    layer, placed = former.layer, later.layer.extent.world
    assert later.take_layer(former) and later.layer is layer
    assert layer.name == "1/2"
    np.testing.assert_array_equal(np.asarray(layer.data)[..., :3], pixels)
    np.testing.assert_allclose(layer.extent.world, placed)
    # napari cannot turn a layer of one level into one of several.
    result, _ = ran(planned(nr.open_image(colours, bands=RGB), REGION))
    several = ResultLayer(result, source, "several")
    assert not several.take_layer(later) and later.layer is layer
