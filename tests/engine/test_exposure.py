"""Exposure of a result: its curve, and what "auto" measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import tifffile

import napari_restore as nr
from napari_restore import errors
from napari_restore.engine import Region
from napari_restore.engine.results.blended import expose, exposure_between, light_luma, sample_boxes
from napari_restore.engine.results.luma import LumaModel
from napari_restore.images import Radiometry, light_of_srgb
from napari_restore.questions import Adjustment

from ._whole import whole
from .test_adjust import RGB, hazy


def luma_model(bands=3, white=1.0, is_display=False):
    radiometry = Radiometry(np.zeros(bands), white, "", "")
    colours = (0, 1, 2) if bands >= 3 else None
    return LumaModel(radiometry, tuple(range(bands)), colours, is_display)


def grey(tones, bands=3):
    return np.repeat(np.asarray(tones)[None, :, None], bands, axis=2)


# -- the curve -------------------------------------------------------------------------


@pytest.mark.parametrize("is_display", [False, True])
def test_black_and_white_stay_and_the_order_of_tones(is_display):
    tones = np.linspace(-0.2, 1.3, 1501)
    model = luma_model(is_display=is_display)
    for ev in (-3, -0.4, 0.4, 3):
        exposed = expose(grey(tones), ev, model, (0, 1, 2), None)[0, :, 0]
        assert (np.diff(exposed) > 0).all()
        np.testing.assert_allclose(exposed[np.isclose(tones, 0)], 0, atol=1e-7)
        np.testing.assert_allclose(exposed[np.isclose(tones, 1)], 1, atol=1e-6)
        inside = (tones > 0.01) & (tones < 0.99)
        assert ((exposed > tones) == (ev > 0))[inside].all()


def test_one_ev_doubles_dark_light_and_the_odds_of_every_tone():
    tones = np.linspace(0.001, 0.999, 999)
    exposed = expose(grey(tones), 1, luma_model(), (0, 1, 2), None)[0, :, 0]
    assert exposed[0] / tones[0] == pytest.approx(2, rel=2e-3)
    np.testing.assert_allclose(exposed / (1 - exposed), 2 * tones / (1 - tones), rtol=1e-9)
    shown = expose(grey(tones), 1, luma_model(is_display=True), (0, 1, 2), None)[0, :, 0]
    light, before = light_of_srgb(shown), light_of_srgb(tones)
    np.testing.assert_allclose(light / (1 - light), 2 * before / (1 - before), rtol=1e-5)


def test_minus_takes_plus_back():
    tones = np.linspace(-0.1, 1.2, 500)
    for is_display in (False, True):
        model = luma_model(is_display=is_display)
        there = expose(grey(tones), 1.7, model, (0, 1, 2), None)
        back = expose(there, -1.7, model, (0, 1, 2), None)
        np.testing.assert_allclose(back, grey(tones), atol=1e-6)


def test_other_bands_stay_and_no_value_becomes_nodata():
    pixels = np.random.default_rng(0).integers(1, 255, (40, 50, 4)).astype(np.uint8)
    model = luma_model(4, white=255.0)
    lowered = expose(pixels, -3, model, (0, 1, 2), 0)
    np.testing.assert_array_equal(lowered[..., 3], pixels[..., 3])
    assert (lowered[..., :3] < pixels[..., :3]).mean() > 0.9
    assert (lowered[..., :3] > 0).all()
    assert (expose(pixels, -3, model, (0, 1, 2), None)[..., :3] == 0).any()


# -- what "auto" measures ----------------------------------------------------------------


def odds(light):
    return light / (1 - light)


def test_seven_tenths_of_the_lost_light_are_given_back():
    rng = np.random.default_rng(1)
    source = rng.beta(4, 4, 9001)
    restored = np.clip(source - 0.2, 0.02, 1) ** 1.3
    ev = exposure_between(source, restored)
    exposed = expose(grey(restored), ev, luma_model(), (0, 1, 2), None)[0, :, 0]
    before, after, found = (odds(np.median(light)) for light in (source, restored, exposed))
    assert after < 0.5 * before
    assert found == pytest.approx(before**0.7 * after**0.3, rel=0.01)


def test_a_brighter_result_stays_and_black_is_limited():
    dark, bright = np.full(9, 0.1), np.full(9, 0.4)
    assert exposure_between(dark, bright) == 0
    assert exposure_between(bright, np.zeros(9)) == 3
    assert exposure_between(np.empty(0), np.empty(0)) == 0


def test_samples_lie_inside_and_a_small_area_is_read_whole():
    area = Region(13, 7, 13 + 500, 7 + 512)
    assert list(sample_boxes(area)) == [area]
    for large in (Region(5, 9, 5 + 5000, 9 + 20_000), Region(0, 0, 20, 4000)):
        boxes = list(sample_boxes(large))
        assert all(box == box.intersect(large) and not box.is_empty for box in boxes)
        assert 16 <= len(boxes) <= 256
        assert min(b.x0 for b in boxes) == large.x0 and max(b.x1 for b in boxes) == large.x1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.slow
@pytest.mark.ids("nightly", "uint8")
def test_a_run_with_auto_gets_seven_tenths_of_its_light_back(run, dtype):
    image = nr.open_image(hazy(dtype), bands=RGB)
    plain = run(image)
    auto = run(image, exposure="auto")
    ev = auto.adjustment.exposure
    assert 0 < ev <= 3
    assert auto.record["adjustment"]["exposure"] == ev
    assert auto.plan.adjustment.exposure == ev
    fixed = plain.with_adjustment(Adjustment(exposure=ev))
    np.testing.assert_array_equal(auto.read(whole(image)), fixed.read(whole(image)))
    model = LumaModel.of_run(plain.plan, plain.record)
    assert model.is_display == (dtype == "uint8")
    medians = [
        np.median(light_luma(pixels, model))
        for pixels in (image.read(whole(image)), auto.read(whole(image)), plain.read(whole(image)))
    ]
    # Bands follow the curve, and luminance only about.
    source, exposed, restored = map(odds, medians)
    assert exposed == pytest.approx(source**0.7 * restored**0.3, rel=0.06)
    assert medians[2] < 0.9 * medians[0]


def test_auto_waits_for_the_end_of_a_run(run):
    image = nr.open_image(hazy("uint8"), bands=RGB)
    result = run(image, exposure="auto")
    early = type(result).of_run(replace(result.plan, adjustment=Adjustment(exposure="auto")), {})
    assert early.adjustment.exposure == "auto" and early.adjustment.ev == 0
    early.store._done[0, 0] = False
    with pytest.raises(errors.ResourceError, match="not complete"):
        early.measured_exposure()


def test_excluded_pixels_and_nodata_are_not_exposed(run, tmp_path):
    pixels = hazy("uint16")
    pixels[:40, :60] = 0
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[100:200, 50:250] = 1
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, mask)
    scene = tmp_path / "scene.tif"
    options = {"driver": "GTiff", "count": 3, "height": 300, "width": 420, "dtype": "uint16"}
    with rasterio.open(scene, "w", nodata=0, **options) as file:
        file.write(pixels.transpose(2, 0, 1))
    image = nr.open_image(scene, bands=RGB)
    result = run(image, exclude=path).with_adjustment(Adjustment(exposure=1.0))
    exposed = result.read(whole(image))
    np.testing.assert_array_equal(exposed[:40, :60], 0)
    np.testing.assert_array_equal(exposed[mask == 1], pixels[mask == 1])
    rest = (mask == 0) & (pixels > 0).all(axis=2) & (pixels < 60_000).all(axis=2)
    assert (exposed[rest] != pixels[rest]).mean() > 0.9


@pytest.mark.parametrize("wrong", [3.5, -4, float("nan")])
def test_exposures_beyond_the_limits_are_refused(wrong):
    with pytest.raises(errors.BadParameter, match="outside -3 … 3 EV"):
        Adjustment(exposure=wrong)


def test_a_small_mask_is_measured_where_it_lies(run, tmp_path):
    """Over the whole image its pixels would fall between the samples."""
    pixels = np.tile(hazy("uint8"), (4, 3, 1))
    mask = np.zeros(pixels.shape[:2], np.uint8)
    mask[505:520, 700:712] = 255
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, mask)
    image = nr.open_image(pixels, bands=RGB)
    result = run(image, mask=path)
    inside = mask > 0
    model = LumaModel.of_run(result.plan, result.record)
    lights = [light_luma(values, model)[inside] for values in (pixels, result.read(whole(image)))]
    assert result.measured_exposure() == exposure_between(*lights) > 0
