from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image as ImageLayer
from tests.support.scaling_networks import enlarging, shrinking

import napari_restore as nr
from napari_restore import Region
from napari_restore.metrics import psnr, ssim
from napari_restore.plugin.compare.compare_section import (
    MAX_PIXELS,
    FiguresView,
    data_range_of,
    figures,
    references_for,
)
from napari_restore.plugin.compare.compared_layers import Compared, LayerPixels, within
from napari_restore.plugin.layers.placing import data_to_world, resampled
from napari_restore.plugin.widgets.section import end_all

from .conftest import show


@pytest.fixture
def numbers() -> np.ndarray:
    return np.random.default_rng(2).integers(1, 255, (101, 90, 3), np.uint8)


@pytest.mark.parametrize("rounding", [lambda n: -(-n // 2), lambda n: n // 2])
def test_a_step_reads_the_level_that_has_just_these_pixels(numbers: np.ndarray, rounding: Any):
    levels = [numbers]
    while max(levels[-1].shape[:2]) > 20:
        height, width = (rounding(n) for n in levels[-1].shape[:2])
        levels.append(np.random.default_rng(height).integers(1, 255, (height, width, 3), np.uint8))
    read = LayerPixels(ImageLayer(levels, rgb=True)).read
    for level, step in enumerate((1, 2, 4)):
        pixels, there = read(Region(16, 24, 80, 72), step)
        own = (slice(16 // step, 80 // step), slice(24 // step, 72 // step))
        np.testing.assert_array_equal(pixels, levels[level][own])
        assert there.all()


def test_without_levels_every_nth_pixel_is_taken(numbers: np.ndarray):
    pixels, _ = LayerPixels(ImageLayer(numbers, rgb=True)).read(Region(0, 0, 40, 40), 4)
    np.testing.assert_array_equal(pixels, numbers[2:40:4, 2:40:4])


def test_outside_clear_and_nan_pixels_are_not_there(numbers: np.ndarray):
    alpha = np.full((101, 90, 1), 255, np.uint8)
    alpha[3, 4] = 0
    layer = ImageLayer(np.dstack([numbers, alpha]), rgb=True)
    pixels, there = LayerPixels(layer, (10, 20)).read(Region(5, 15, 20, 30))
    assert pixels.shape == (15, 15, 3)
    expected = np.zeros((15, 15), bool)
    expected[5:, 5:] = True
    expected[5 + 3, 5 + 4] = False
    np.testing.assert_array_equal(there, expected)
    np.testing.assert_array_equal(pixels[5:, 5:], numbers[:10, :10])
    grey = np.ones((30, 30), np.float32)
    grey[2, 2] = np.nan
    _, there = LayerPixels(ImageLayer(grey)).read(Region(0, 0, 30, 30))
    assert (~there).sum() == 1
    assert not LayerPixels(layer).read(Region(200, 200, 210, 210))[1].any()


def test_bands_come_together_or_alone():
    cube = np.random.default_rng(1).random((4, 20, 30))
    layer = LayerPixels(ImageLayer(cube))
    np.testing.assert_array_equal(
        layer.read(Region(2, 3, 9, 9))[0], cube[:, 2:9, 3:9].transpose(1, 2, 0)
    )
    np.testing.assert_array_equal(
        layer.read(Region(2, 3, 9, 9), band=2)[0][..., 0], cube[2, 2:9, 3:9]
    )


@pytest.mark.slow
def test_figures_are_of_the_pixels_that_all_three_have(
    make_variant: Any, hazy: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    viewer = ViewerModel()
    region = Region(100, 128, 400, 512)
    variant = make_variant(viewer, hazy, region=region)
    clear = np.clip(hazy.astype(int) - 40, 0, 255).astype(np.uint8)
    truth = viewer.add_image(clear)
    after = np.asarray(variant.layer.data[0] if variant.layer.multiscale else variant.layer.data)
    box = variant.shown.box
    own = region.shift(-box.y0, -box.x0)
    found = figures(
        LayerPixels(variant.source),
        LayerPixels(*Compared.of(variant)),
        LayerPixels(truth),
        Region(0, 0, 700, 900),
        1,
        255.0,
    )
    assert found.pixels == region.pixels
    cut = region.slices
    assert found.source == pytest.approx(
        (psnr(hazy[cut], clear[cut], 255), ssim(hazy[cut], clear[cut], 255))
    )
    restored = after[own.slices][..., :3]
    assert found.result == pytest.approx(
        (psnr(restored, clear[cut], 255), ssim(restored, clear[cut], 255))
    )
    assert found.result[0] != pytest.approx(found.source[0], abs=0.1)
    assert "full resolution" in found.text()
    assert "0.12 MP" in found.text()


@pytest.mark.slow
def test_large_regions_are_compared_on_a_coarser_level_or_in_their_middle():
    assert within(Region(0, 0, 1000, 2000), 1, MAX_PIXELS) == 1
    assert within(Region(0, 0, 1001, 2000), 1, MAX_PIXELS) == 2
    levels = [np.ones((3000 >> k, 3000 >> k), np.uint8) for k in range(3)]
    whole = Region(0, 0, 3000, 3000)
    pyramid = LayerPixels(ImageLayer(levels, multiscale=True))
    found = figures(pyramid, pyramid, pyramid, whole, 1, 255.0)
    assert (found.step, found.pixels, found.is_whole) == (4, 750**2, True)
    assert "visible region at level 1:4" in found.text()
    assert found.source == (float("inf"), pytest.approx(1))
    # Skipping pixels of one and not of the other would tell of the skipping.
    flat = LayerPixels(ImageLayer(levels[0]))
    found = figures(pyramid, pyramid, flat, whole, 2, 255.0)
    assert (found.step, found.is_whole) == (1, False)
    assert 0.99 * MAX_PIXELS < found.pixels <= MAX_PIXELS
    assert "middle of the visible region at full resolution" in found.text()


def test_only_layers_that_fit_are_offered(make_variant: Any, hazy: np.ndarray):
    viewer = ViewerModel()
    variant = make_variant(viewer, hazy, scale=(2, 2))
    fits = viewer.add_image(hazy, scale=(2, 2), name="clear")
    alpha = viewer.add_image(
        np.dstack([hazy, np.full((700, 900), 255, np.uint8)]), affine=np.diag([2.0, 2, 1])
    )
    viewer.add_image(hazy, name="elsewhere")
    viewer.add_image(hazy[:-1], scale=(2, 2), name="smaller")
    viewer.add_image(hazy[..., 0], scale=(2, 2), name="grey")
    viewer.add_labels(hazy[..., 0], scale=(2, 2), name="labels")
    assert references_for(viewer, variant.source) == [fits, alpha]


def test_white_is_that_of_the_run():
    record = {"input": {"white": 10_000.0, "black": [0.0, 200.0]}}
    assert data_range_of(np.dtype(np.uint8), record) == 255
    assert data_range_of(np.dtype(np.uint16), record) == 10_000
    assert data_range_of(np.dtype(np.uint16), None) == 65_535
    assert data_range_of(np.dtype(np.float32), None) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "scale"), [(enlarging(2), 2), (enlarging(3), 3), (shrinking(2), "1/2")]
)
@pytest.mark.ids("nightly", "module1-3", "module2-1/2", "module0-2")
def test_results_of_another_size_are_compared_in_their_pixels(
    module: Any, scale: int | str, make_variant: Any, state: Any, make_napari_viewer: Any
):
    viewer, ratio = make_napari_viewer(), Fraction(scale)
    pixels = np.random.default_rng(3).integers(1, 250, (60, 90, 3), np.uint8)
    card = {"bands": 3, "halo": 3, "scale": scale, "multiple_of": 2}
    variant = make_variant(viewer, pixels, nr.load_model(module, card=card), scale=(2, 2))
    size = tuple(int(side * ratio) for side in (60, 90))
    clear = np.random.default_rng(4).integers(1, 250, (*size, 3), np.uint8)
    placed = resampled(data_to_world(variant.source), ratio)
    on_map = viewer.add_image(clear, rgb=True, affine=placed, name="on the map")
    plain = viewer.add_image(clear, rgb=True, scale=(2, 2), name="plain")
    viewer.add_image(pixels, scale=(2, 2), name="of the source's size")
    viewer.add_image(clear, rgb=True, scale=(3, 3), name="elsewhere")
    assert references_for(viewer, variant.source, ratio) == [on_map, plain]

    view = FiguresView(viewer, state)
    show(state, variant)
    found = figures(*view._order(variant, on_map))
    up, down = ratio.numerator, ratio.denominator
    nearest = pixels.repeat(up, 0).repeat(up, 1) if up > 1 else pixels[1::down, 1::down]
    after = variant.result.read(Region(0, 0, *size))
    assert (found.pixels, found.step) == (size[0] * size[1], 1)
    for measured, compared in ((found.source, nearest), (found.result, after)):
        own = compared if compared.dtype == np.uint8 else compared / 257
        assert measured == pytest.approx((psnr(own, clear, 255), ssim(own, clear, 255)), rel=1e-3)
    end_all(view)
