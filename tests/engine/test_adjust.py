"""What becomes of a result under strength, luminance only, protected tones and exposure."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import api, errors
from napari_restore.engine import Region
from napari_restore.engine.masks.mask_level import mask_at_level
from napari_restore.engine.masks.mask_strength import Feathered, PolygonMask, RegionMask
from napari_restore.engine.results.luma import REC_709, LumaModel, blend
from napari_restore.engine.results.source_levels import read_source
from napari_restore.images import Radiometry
from napari_restore.questions import TONE, Adjustment

from ._whole import model, whole

RGB = "red=1,green=2,blue=3"
EVERYTHING = {
    "strength": 0.8,
    "luminance_only": True,
    "protect_shadows": 0.7,
    "protect_highlights": 0.4,
    "exposure": 0.7,
}
ONE_BY_ONE = [{name: value} for name, value in EVERYTHING.items()]


def light(bands=3, black=0.0, white=1.0, colours=(0, 1, 2)):
    radiometry = Radiometry(np.full(bands, black), white, "", "")
    return LumaModel(radiometry, tuple(range(bands)), colours)


def luma(values):
    return values.astype(np.float64) @ np.array(REC_709)


def hazy(dtype, seed=3, height=300, width=420):
    """(h, w, 3) with every tone from black to white, under haze in its middle."""
    rng = np.random.default_rng(seed)
    clear = np.kron(rng.random((height // 10, width // 10, 3)), np.ones((10, 10, 1)))
    ramp = np.linspace(0, 1, width)[None, :, None]
    scene = np.clip(clear * 0.4 + ramp * 0.7 - 0.05, 0, 1)
    top = {"uint8": 255, "uint16": 60_000, "int16": 9000}.get(dtype, 1)
    return (scene * top).astype(dtype) if top == 1 else np.rint(scene * top).astype(dtype)


TYPES = ("uint8", "uint16", "float32", "float64")


@pytest.fixture(scope="module", params=TYPES)
def result(request, run_once):
    """A finished run of dark channel prior, neutral."""
    return run_once(nr.open_image(hazy(request.param), bands=RGB), pyramid=True)


# -- the settings ----------------------------------------------------------------------


def test_settings_beyond_their_limits_are_refused():
    for wrong in ({"strength": 1.6}, {"strength": -0.1}, {"protect_shadows": 1.1}):
        with pytest.raises(errors.BadParameter, match="is outside 0"):
            nr.plan(hazy("uint8"), model(), **wrong)
    with pytest.raises(errors.BadParameter, match="protect-highlights"):
        Adjustment(protect_highlights=float("nan"))


def test_colour_cannot_be_kept_where_it_is_not_known():
    with pytest.raises(errors.BadParameter, match="no red, green and blue"):
        nr.plan(hazy("uint16")[..., :2], model(), luminance_only=True)


def test_it_enters_task_record_and_the_plan_made_of_them(result):
    other = result.with_adjustment(Adjustment(**EVERYTHING))
    assert other.record["adjustment"] == Adjustment(**EVERYTHING).to_dict()
    assert result.record["adjustment"] == Adjustment().to_dict()
    assert other.plan.key == result.plan.key
    assert {*EVERYTHING, *TONE} == {field.name for field in fields(Adjustment)}


def test_it_travels_with_a_task(sample):
    plan = nr.plan(sample, "identity", **EVERYTHING)
    task = json.loads(json.dumps(api.task_of(plan)))
    assert api.plan_of(task).adjustment == Adjustment(**EVERYTHING)
    for name in EVERYTHING:
        del task["options"][name]
    # A record from before there were such settings.
    assert api.plan_of(task).adjustment.is_neutral


# -- pixels of whole runs ----------------------------------------------------------------


def test_neutral_is_the_model_bit_for_bit(result):
    stored = result.store.read(whole(result.image))
    again = result.with_adjustment(Adjustment(**EVERYTHING)).with_adjustment(Adjustment())
    np.testing.assert_array_equal(again.read(whole(result.image)), stored)
    assert (stored != result.image.read(whole(result.image))).mean() > 0.3


@pytest.mark.parametrize(
    ("result", "options"),
    [*(("uint8", each) for each in ONE_BY_ONE), *((each, EVERYTHING) for each in TYPES)],
    indirect=["result"],
    ids=str,
)
@pytest.mark.ids(
    "slow",
    "float32-{'strength': 0.8, 'luminance_only': True, 'protect_shadows': 0.7, 'protect_highlights': 0.4, 'exposure': 0.7}",
    "float64-{'strength': 0.8, 'luminance_only': True, 'protect_shadows': 0.7, 'protect_highlights': 0.4, 'exposure': 0.7}",
)
@pytest.mark.ids(
    "nightly",
    "float64-{'strength': 0.8, 'luminance_only': True, 'protect_shadows': 0.7, 'protect_highlights': 0.4, 'exposure': 0.7}",
)
def test_boxes_and_the_file_agree_with_the_whole(result, options, tmp_path):
    image = result.image
    adjusted = result.with_adjustment(Adjustment(**options))
    together = adjusted.read(whole(image))
    assert (together != result.read(whole(image))).any()
    for box in (Region(33, 41, 170, 250), Region(0, 0, 1, 420), Region(299, 17, 300, 18)):
        np.testing.assert_array_equal(adjusted.read(box), together[box.slices])
    np.testing.assert_array_equal(np.asarray(adjusted.array), together)
    written = nr.open_image(adjusted.save(tmp_path / "out.tif"))
    np.testing.assert_array_equal(written.read(whole(image)), together)


def test_a_run_asked_for_it_gives_the_same(result, run):
    adjusted = result.with_adjustment(Adjustment(**EVERYTHING))
    asked = run(result.image, **EVERYTHING)
    np.testing.assert_array_equal(asked.read(whole(asked.image)), adjusted.read(whole(asked.image)))


@pytest.mark.parametrize("dtype", TYPES)
def test_before_there_is_a_record_light_is_that_of_the_plan(dtype, run):
    result = run(nr.open_image(hazy(dtype), bands=RGB))
    early = type(result).of_run(result.plan, {}).with_adjustment(Adjustment(**EVERYTHING))
    late = result.with_adjustment(Adjustment(**EVERYTHING))
    np.testing.assert_array_equal(early.read(whole(early.image)), late.read(whole(early.image)))


def test_luminance_only_has_the_models_luma_and_the_sources_colour(result):
    image = result.image
    box = whole(image)
    white = result.record["input"]["white"]
    source, restored = image.read(box), result.read(box)
    mixed = result.with_adjustment(Adjustment(luminance_only=True)).read(box)
    wide = [values.astype(np.float64) / white for values in (source, restored, mixed)]
    step = 1.0 / white if image.dtype.kind in "iu" else 2e-6
    # Luma cannot follow to where the model left what the type holds.
    target = luma(wide[1])
    assert np.abs(luma(wide[2]) - target).max() <= step
    shift = wide[2] - wide[0]
    even = np.ptp(shift, axis=2) <= step
    assert even.mean() > 0.5
    # The others were brought back into the type's range: greyer, of the same hue.
    apart = wide[2][~even] - luma(wide[2][~even])[:, None]
    before = wide[0][~even] - luma(wide[0][~even])[:, None]
    assert (np.abs(apart) <= np.abs(before) + 2 * step).all()
    same = (restored == source).all(axis=2)
    assert same.any()
    np.testing.assert_array_equal(mixed[same], source[same])


@pytest.mark.parametrize(
    ("name", "dark"), [("protect_shadows", True), ("protect_highlights", False)]
)
def test_protected_tones_stay_and_the_middle_is_the_models(result, name, dark):
    image = result.image
    box = whole(image)
    source, restored = image.read(box), result.read(box)
    mixed = result.with_adjustment(Adjustment(**{name: 1.0})).read(box)
    tone = luma(source / result.record["input"]["white"])
    extreme = tone <= 1e-3 if dark else tone >= 1
    np.testing.assert_array_equal(mixed[extreme], source[extreme])
    beyond = tone > 0.34 if dark else tone < 0.66
    assert (restored != source)[beyond].any()
    np.testing.assert_array_equal(mixed[beyond], restored[beyond])
    between = ~beyond & ~extreme
    change, full = (np.abs(v.astype(float) - source)[between] for v in (mixed, restored))
    assert (change <= full + 1e-9).all() and change.sum() < 0.95 * full.sum()


@pytest.mark.slow
def test_maps_tell_of_the_adjusted_pixels(run, tmp_path):
    image = nr.open_image(hazy("uint8"), bands=RGB)
    result = run(image, maps=True).with_adjustment(Adjustment(**EVERYTHING))
    paths = {path.stem: nr.open_image(path) for path in result.save_maps(tmp_path / "maps")}
    source, written = image.read(whole(image)), result.read(whole(image))
    np.testing.assert_array_equal(
        paths["change"].read(whole(image)), written.astype(np.float32) - source
    )
    unchanged = paths["quality"].read(whole(image))[..., 0] & 1
    np.testing.assert_array_equal(unchanged, (written == source).all(axis=2))


def test_an_unfinished_result_is_read_without_complaint_only_when_asked(run):
    result = run(nr.open_image(hazy("uint8"), bands=RGB), pyramid=True)
    adjusted = result.with_adjustment(Adjustment(**EVERYTHING))
    result.store._done[0, 0] = False
    box = Region(100, 100, 200, 200)
    with pytest.raises(errors.ResourceError, match="not complete"):
        adjusted.read(box)
    assert adjusted.read_landed(box).shape == (100, 100, 3)
    np.testing.assert_array_equal(
        adjusted.read(Region(128, 128, 200, 200)), adjusted.read_landed(box)[28:, 28:]
    )


# -- what blend promises -----------------------------------------------------------------


def test_what_is_not_valid_stays_and_nothing_valid_becomes_nodata():
    rng = np.random.default_rng(1)
    source = rng.integers(1, 60, (80, 90, 3)).astype(np.int16)
    restored = (source - rng.integers(0, 60, source.shape)).astype(np.int16)
    restored[restored == 0] = 1
    valid = rng.random(source.shape[:2]) < 0.8
    source[~valid] = 0
    weight = rng.choice(np.array([0, 0.3, 0.9, 1], np.float32), source.shape[:2])
    # Nodata is reached by the shift, never written where something else was.
    mixed = blend(source, restored, weight, 0, valid, light(white=60.0))
    np.testing.assert_array_equal(mixed[~valid], source[~valid])
    np.testing.assert_array_equal(mixed[weight == 0], source[weight == 0])
    assert (mixed[valid] != 0).all()
    exact = luma(restored - source.astype(float)) * weight
    assert (np.rint(luma(source) + exact)[valid] == 0).any()


def test_bands_beside_the_colours_follow_the_model():
    rng = np.random.default_rng(2)
    source = rng.integers(100, 200, (20, 30, 4)).astype(np.uint8)
    restored = rng.integers(100, 200, (20, 30, 4)).astype(np.uint8)
    one = np.ones((20, 30), np.float32)
    mixed = blend(source, restored, one, None, None, light(4, white=255.0))
    np.testing.assert_array_equal(mixed[..., 3], restored[..., 3])
    assert (mixed[..., :3] != restored[..., :3]).any()


def test_lightness_comes_before_saturation_at_the_ends_of_the_range():
    source = np.array([[[200, 40, 20], [10, 120, 240]]], np.uint8)
    restored = np.array([[[30, 30, 30], [250, 250, 250]]], np.uint8)
    one = np.ones((1, 2), np.float32)
    mixed = blend(source, restored, one, None, None, light(white=255.0))
    np.testing.assert_allclose(luma(mixed), luma(restored), atol=0.51)
    assert mixed[0, 0].argmax() == 0 and mixed[0, 1].argmax() == 2
    assert np.ptp(mixed[0, 0]) < np.ptp(source[0, 0])


def test_the_share_is_smooth_and_whole_in_the_middle_third():
    tones = np.linspace(-0.2, 1.2, 1401)
    pixels = np.repeat(tones[None, :, None], 3, axis=2)
    share = light().share(pixels, 1.0, 0.5)[0]
    assert (share[tones <= 0] == 0).all()
    np.testing.assert_allclose(share[tones >= 1], 0.5)
    assert (share[(tones > 1 / 3) & (tones < 2 / 3)] == 1).all()
    assert np.abs(np.diff(share)).max() < 0.006
    assert share[np.abs(tones - 1 / 6).argmin()] == pytest.approx(0.5, abs=0.01)


def test_without_colours_luma_is_the_mean_of_the_models_bands():
    pixels = np.random.default_rng(3).random((5, 7, 4))
    only = LumaModel(Radiometry(np.zeros(4), 1.0, "", ""), (1, 3), None)
    np.testing.assert_allclose(only.luma(pixels), pixels[..., [1, 3]].mean(axis=2))


def test_luma_counts_from_the_physical_zero():
    pixels = np.full((2, 2, 3), 1600, np.uint16)
    np.testing.assert_allclose(light(black=1000, white=3000).luma(pixels), 0.3, rtol=1e-6)


# -- levels ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [*ONE_BY_ONE, EVERYTHING], ids=str)
@pytest.mark.slow
@pytest.mark.ids(
    "nightly",
    "{'protect_shadows': 0.7}",
    "{'luminance_only': True}",
    "{'strength': 0.8}",
    "{'protect_highlights': 0.4}",
)
def test_coarse_levels_are_about_the_means_of_the_fine_one(run, options):
    image = nr.open_image(hazy("uint8", height=300, width=1100), bands=RGB)
    result = run(image, pyramid=True).with_adjustment(Adjustment(**options))
    assert result.store.level_count > 2
    fine = result.read(whole(image)).astype(np.float64)
    for level in range(1, result.store.level_count):
        step = 1 << level
        height, width = 300 // step, 1100 // step
        coarse = result.read((0, 0, height, width), level)
        cut = fine[: height * step, : width * step]
        means = cut.reshape(height, step, width, step, 3).mean(axis=(1, 3))
        assert np.abs(coarse - means).mean() < 1.5
        box = Region(7, 30, 60, 90)
        np.testing.assert_array_equal(result.read(box, level), coarse[box.slices])
    with pytest.raises(IndexError):
        result.read((0, 0, 1, 1), 9)


@pytest.mark.slow
def test_levels_an_image_lacks_are_halved_from_what_it_has():
    pixels = hazy("uint8", height=2300, width=2500)
    array = nr.open_image(pixels, bands=RGB)
    assert len(array.level_shapes) > 2 and not array.is_built(2)
    box = Region(100, 3, 400, 600)
    on_the_fly, valid = read_source(array, box, 2)
    assert valid is None
    array.build_pyramid()
    assert array.is_built(2)
    np.testing.assert_array_equal(on_the_fly, array.read(box, 2))
    np.testing.assert_array_equal(read_source(array, box, 2)[0], on_the_fly)


def test_masks_keep_their_place_at_every_level(tmp_path):
    size = (800, 1000)
    ring = [[200.0, 160.0], [600.0, 160.0], [600.0, 640.0], [200.0, 640.0], [200.0, 160.0]]
    polygon = PolygonMask([[[tuple(point) for point in ring]]], *size)

    class Drawn:
        """Some other weight."""

        digest, bounds = "drawn", polygon.bounds

        def read(self, box):
            return polygon.read(box)

    weights = (polygon, RegionMask([Region(160, 200, 640, 600)]), Drawn())
    for weight in (*weights, Feathered(polygon, 64, size)):
        fine = weight.read(Region(0, 0, *size))
        for level in (1, 3):
            step = 1 << level
            found = mask_at_level(weight, level, size).read(Region(0, 0, 800 // step, 1000 // step))
            middle = fine[step // 2 :: step, step // 2 :: step]
            assert np.abs(found - middle).max() <= (0.15 if isinstance(weight, Feathered) else 0)
            assert 0 < found.mean() < 1


# -- photos ------------------------------------------------------------------------------


def test_luma_of_a_photo_is_that_of_the_working_space(run, tmp_path):
    import imagecodecs
    import tifffile

    path = tmp_path / "wide.tif"
    profile = bytes(imagecodecs.cms_profile("adobergb"))
    tifffile.imwrite(path, hazy("uint16"), photometric="rgb", iccprofile=profile)
    image = nr.open_image(path)
    assert image.working_space is not None
    result = run(image)
    source, restored = image.read(whole(image)), result.read(whole(image))
    seen = LumaModel.of_run(result.plan, result.record)
    mixed = result.with_adjustment(Adjustment(luminance_only=True)).read(whole(image))
    inside = (mixed > 0).all(axis=2) & (mixed < 65535).all(axis=2)
    # There and back at 16 bit; luma of the file's own numbers is another.
    apart = np.abs(seen.luma(mixed) - seen.luma(restored))[inside]
    assert np.median(apart) < 1e-4 and np.quantile(apart, 0.99) < 5e-3
    assert np.abs(seen.luma(source) - luma(source / 65535)).max() > 0.01
    same = (restored == source).all(axis=2)
    np.testing.assert_array_equal(mixed[same], source[same])
