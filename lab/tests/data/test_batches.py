"""Batches: pure, balanced, and true to the haze they tell of."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_restore.errors import BadParameter
from napari_restore_lab.data import BatchLoader, Prefetcher, Recipe, Sampler
from napari_restore_lab.loop import fill
from napari_restore_lab.synthetic_haze import Haze, add_haze

RECIPE = Recipe(size=64, batch=3)


def of_table(table) -> Recipe:
    """As a configuration fills it."""
    return fill(Recipe, table, "[recipe]", Path())


def same(one, other) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(one)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def test_a_batch_is_what_the_contract_says(packed):
    batch = BatchLoader(packed, RECIPE, 0).batch(4)
    assert batch.hazy.shape == batch.clear.shape == (3, 3, 64, 64)
    assert batch.depth.shape == batch.valid.shape == (3, 1, 64, 64)
    assert batch.airlight.shape == (3, 3)
    assert batch.valid.dtype == torch.bool
    assert {t.dtype for t in (batch.hazy, batch.clear, batch.depth, batch.airlight)} == {
        torch.float32
    }
    for picture in (batch.hazy, batch.clear):
        assert picture.min() >= 0
        assert picture.max() <= 1
        assert picture.std() > 0.02
    assert len(batch.names) == 3


def test_a_batch_follows_from_seed_and_step(packed):
    one, other = BatchLoader(packed, RECIPE, 5), BatchLoader(packed, RECIPE, 5)
    later = one.batch(9)
    assert same(one.batch(2), other.batch(2))
    assert same(later, other.batch(9))
    assert not same(later, one.batch(8))
    assert not same(later, BatchLoader(packed, RECIPE, 6).batch(9))


@pytest.mark.slow
def test_workers_change_nothing_and_end_when_closed(packed):
    alone, shared = BatchLoader(packed, RECIPE, 5), BatchLoader(packed, RECIPE, 5, workers=2)
    before = set(torch.multiprocessing.active_children())
    batches = shared.batches(7)
    # More than all of them can have ready, so that places are used again.
    for step, batch in enumerate(islice(batches, 9), 7):
        assert same(batch, alone.batch(step)), step
    assert len(set(torch.multiprocessing.active_children()) - before) == 2
    batches.close()
    assert set(torch.multiprocessing.active_children()) <= before


@pytest.mark.slow
def test_a_worker_that_fails_says_why(packed, monkeypatch, tmp_path):
    feed = BatchLoader(packed, RECIPE, 0, workers=1)
    feed.pack = replace_folder(packed, tmp_path)
    with pytest.raises(BadParameter, match="No picture is large enough"):
        next(feed.batches())


def replace_folder(packed, folder):
    """A pack whose pictures are too small, seen by workers only."""
    from PIL import Image

    from napari_restore_lab.data import Scene, pack

    Image.new("RGB", (20, 20)).save(folder / "a.png")
    return pack([Scene(folder / "a.png", "natural", "x")], folder / "pack")


@pytest.mark.slow
def test_kinds_and_sources_are_balanced(packed):
    recipe = replace(RECIPE, size=16, mixed=0, degraded=0, colour=0, aerial=0.75)
    sampler = Sampler(packed, recipe)
    draws = [sampler.sample(np.random.default_rng(n)).name for n in range(400)]
    found = Counter(name.rpartition("/")[2].partition("_")[0] for name in draws)
    assert found["drone"] + found["coast"] == pytest.approx(300, abs=32)
    # Four scenes against one: twice as often, not four times.
    assert found["drone"] / found["coast"] == pytest.approx(2, rel=0.3)
    for balance, times in ((0.0, 1), (1.0, 4)):
        sampler_of = Sampler(packed, replace(recipe, aerial=1, balance=balance))
        names = [sampler_of.sample(np.random.default_rng(n)).name for n in range(200)]
        coast = sum("coast" in name for name in names)
        assert (200 - coast) / coast == pytest.approx(times, rel=0.4)
    # A bird is an example of clear air only.
    wrens = [n for n, name in enumerate(draws) if "wren" in name]
    assert wrens
    assert all(sampler.sample(np.random.default_rng(n)).haze is None for n in wrens)


def bend(sample):
    """How far the haze's depth is from a slope: a distance is."""
    return np.abs(np.diff(sample.haze.depth, 2, axis=0)).max()


def test_aerial_crops_may_be_borrowed_from_natural_scenes(packed):
    recipe = replace(RECIPE, size=16, aerial=1, clear=0, mixed=0, spectra={"even": 1.0})
    own, half, all_ = (
        [
            Sampler(packed, replace(recipe, borrowed=share)).sample(np.random.default_rng(n))
            for n in range(40)
        ]
        for share in (0.0, 0.5, 1.0)
    )
    assert not any(sample.name.startswith(("natural", "rgbd")) for sample in own)
    shares = [sample.name.startswith(("natural", "rgbd")) for sample in half]
    assert 8 < sum(shares) < 32
    # Also of what does not recede: an even layer lies over it, no haze of a distance.
    assert {"natural/hill_1.png", "natural/wren_1.png"} <= {sample.name for sample in all_}
    sampler = Sampler(packed, replace(recipe, aerial=0))
    natural = [sampler.sample(np.random.default_rng(n)) for n in range(40)]
    bends = [np.median([bend(sample) for sample in some]) for some in (natural, all_)]
    assert bends[0] > 3 * bends[1]


def test_a_clear_crop_may_keep_an_even_veil(packed):
    recipe = replace(RECIPE, size=16, clear=1, degraded=0, exposed=0, colour=0)

    def darkest(share):
        sampler = Sampler(packed, replace(recipe, pale=share))
        samples = [sampler.sample(np.random.default_rng(n)) for n in range(40)]
        for sample in samples:
            # It is no haze: what is seen is what is asked for.
            np.testing.assert_array_equal(sample.hazy, sample.clear)
        return np.array([sample.clear.min() for sample in samples])

    own, veiled = darkest(0.0), darkest(1.0)
    assert np.median(veiled) > np.median(own) + 0.03
    assert veiled.max() <= 1


def test_shares_are_kept(packed):
    sampler = Sampler(packed, replace(RECIPE, size=16, clear=0.3, degraded=0, spectra={"even": 1}))
    samples = [sampler.sample(np.random.default_rng(n)) for n in range(200)]
    clear = [sample for sample in samples if sample.haze is None]
    assert len(clear) == pytest.approx(60, abs=20)
    assert all((sample.hazy == sample.clear).all() for sample in clear)


@pytest.mark.parametrize("various", [{}, {"wide": 1}, {"wide": 1, "metered": 1}])
def test_the_truth_undoes_the_haze(packed, various):
    sampler = Sampler(packed, replace(RECIPE, clear=0, degraded=0, **various))
    kinds = set()
    for number in range(60):
        sample = sampler.sample(np.random.default_rng(number))
        if (haze := sample.haze) is None:
            continue  # wisps beside the crop
        t = np.exp(-haze.depth[..., None] * (550 / np.array([650, 550, 450])) ** haze.exponent)
        if haze.linear:
            light, veil = linear(sample.hazy), linear(haze.airlight)
            found = display((light - veil * (1 - t)) / t)
        else:
            found = (sample.hazy - haze.airlight * (1 - t)) / t
        # Hazy values were clipped to 1 where a bright picture met a bright airlight.
        inside = (sample.hazy < 1).all(axis=2)
        assert various or inside.mean() > 0.5
        if inside.any():
            assert np.abs(found - sample.clear)[inside].max() < 2e-3
        kinds.add((haze.linear, sample.name.partition("/")[0]))
    assert len(kinds) == 6, "three kinds of scene, in two kinds of light"


def test_a_camera_may_be_set_for_the_haze(packed):
    recipe = replace(RECIPE, clear=0, degraded=0, exposed=1, wide=1, sky=0, mixed=0)

    def medians(metered):
        sampler = Sampler(packed, replace(recipe, metered=metered))
        samples = [sampler.sample(np.random.default_rng(n)) for n in range(60)]
        # Where haze is thick, it is what is metered.
        thick = [s for s in samples if s.haze is not None and s.haze.depth.mean() > 0.5]
        pictures = [(np.median(s.hazy), np.median(s.clear)) for s in thick]
        return np.array(pictures).mean(axis=0)

    (hazy, clear), (metered_hazy, metered_clear) = medians(0.0), medians(1.0)
    assert hazy > clear + 0.15
    # Fog is a middle grey, and what lies behind it is darker.
    assert 0.3 < metered_hazy < 0.62
    assert metered_hazy < hazy and metered_clear < clear - 0.05


def test_fog_is_what_a_camera_shows_of_it(packed):
    recipe = replace(RECIPE, clear=0, degraded=0, fog=1)
    for number in range(12):
        sample = Sampler(packed, recipe).sample(np.random.default_rng(number))
        assert sample.haze is not None and sample.haze.light is not None
        codes = 255 * sample.hazy
        np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)
        seen = add_haze(sample.clear, sample.haze)
        assert np.abs(sample.hazy - np.clip(seen, 0, 1)).mean() < 0.03
        # A batch has one airlight of each crop.
        assert sample.haze.airlight.shape == (3,)


def linear(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def display(values):
    bright = np.maximum(values, 0) ** (1 / 2.4)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * bright - 0.055)


def test_a_batch_tells_the_haze_that_was_applied(packed):
    recipe = replace(RECIPE, clear=0.4, degraded=0, spectra={"even": 1})
    batch, sampler = BatchLoader(packed, recipe, 3).batch(0), Sampler(packed, recipe)
    hazes = [sampler.sample(np.random.default_rng((3, 0, n))).haze for n in range(3)]
    assert 0 < hazes.count(None) < 3
    for n, haze in enumerate(hazes):
        if haze is None:
            assert not batch.depth[n].any()
            assert torch.equal(batch.hazy[n], batch.clear[n])
            continue
        clear = batch.clear[n].permute(1, 2, 0).numpy()
        told = (batch.depth[n, 0].numpy(), batch.airlight[n].numpy(), haze.exponent)
        errors = [
            np.abs(
                np.clip(add_haze(clear, Haze(*told, light)), 0, 1)
                - batch.hazy[n].permute(1, 2, 0).numpy()
            ).max()
            for light in (True, False)
        ]
        assert min(errors) < 1e-5


def test_a_border_is_marked_in_the_crop(packed):
    recipe = replace(RECIPE, smallest=1, aerial=1, mixed=0, colour=0, exposed=0, degraded=0)
    sampler = Sampler(packed, recipe)
    seen = 0
    for number in range(40):
        sample = sampler.sample(np.random.default_rng(number))
        if not sample.name.endswith("coast_1.png"):
            assert sample.valid.all()
            continue
        seen += 1
        black = sample.clear.max(axis=2) < 0.02
        assert black.any()
        assert not (black & sample.valid).any()
        assert sample.valid.any()
    assert seen


def test_scenes_are_enlarged_up_to_twice_and_smaller_ones_left_out(packed, tmp_path):
    from PIL import Image

    from napari_restore_lab.data import Scene, pack

    Image.new("RGB", (60, 60), "gray").save(tmp_path / "small.png")
    Image.new("RGB", (66, 90), "gray").save(tmp_path / "large.png")
    names = ("small.png", "large.png")
    scenes = [Scene(tmp_path / name, "aerial", "x", name=name) for name in names]
    sampler = Sampler(pack(scenes, tmp_path / "pack"), replace(RECIPE, size=130))
    assert sampler.left_out == ("small.png",)
    assert sampler.sample(np.random.default_rng(0)).name == "large.png"
    assert Sampler(packed, replace(RECIPE, size=195, enlarge_small=1.3)).left_out == ()
    assert Sampler(packed, replace(RECIPE, size=300)).left_out == ()
    with pytest.raises(BadParameter, match="large enough"):
        Sampler(packed, replace(RECIPE, size=310))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signals of POSIX")
def test_ctrl_c_does_not_reach_a_worker_that_is_still_importing(packed, points):
    points.hold("batches begin")
    with Prefetcher(packed, RECIPE, 0, 1, 0) as ahead:
        (process,) = ahead._processes
        assert points.wait("batches begin") == process.pid
        os.kill(process.pid, signal.SIGINT)
        points.go("batches begin")
        arrays, names = ahead.next()
    assert len(names) == len(arrays["hazy"]) == 3
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_recipe_comes_from_a_table_and_goes_back():
    table = {"size": 128, "aerial": 1, "gamma": [0.8, 1.2], "spectra": {"even": 2, "power": 1}}
    recipe = of_table(table)
    assert (recipe.size, recipe.aerial, recipe.gamma) == (128, 1.0, (0.8, 1.2))
    assert of_table(recipe.to_table()) == recipe
    assert {"plumes", "billows"}.isdisjoint(Recipe().spectra)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"sise": 128}, "sise"),
        ({"size": "128"}, "size"),
        ({"size": 1.5}, "size"),
        ({"clear": 1.2}, "clear"),
        ({"gamma": [1.2, 0.8]}, "gamma"),
        ({"gamma": 1.2}, "gamma"),
        ({"spectra": {"fog": 1}}, "fog"),
        ({"spectra": {"even": 0}}, "weights"),
        ({"distances": {"walls": 1}}, "walls"),
        ({"distances": {"planes": 0}}, "weights"),
        ({"smallest": 0}, "cover"),
        ({"batch": 0}, "batch"),
        ({"strength": [0.5, 1.5]}, "strength"),
        ({"median": [0.5, 1.5]}, "median"),
        ({"gain": 3}, "gain"),
        ({"gain": -0.5}, "gain"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(table, told):
    with pytest.raises(BadParameter, match=told):
        of_table(table)


def test_crops_may_suffer_from_noise(packed):
    recipe = replace(RECIPE, degradation="noise", sigma=(10.0, 40.0), clear=0.2)
    sampler = Sampler(packed, recipe)
    samples = [sampler.sample(np.random.default_rng(n)) for n in range(40)]
    spread = np.array([(s.hazy - s.clear).std() * 255 for s in samples])
    kept = spread == 0
    assert 1 <= kept.sum() <= 20
    # Clipping makes it a little less.
    assert 6 < spread[~kept].min() < 20 < spread[~kept].max() < 41
    assert all(s.haze is None and s.hazy.shape == (64, 64, 3) for s in samples)
    # Also scenes in which haze would be wrong.
    assert any("wren" in s.name for s in samples)


def test_crops_may_be_in_low_light(packed):
    recipe = replace(RECIPE, degradation="lowlight", darkness=(8.0, 8.0), clear=0, exposed=1)
    sampler = Sampler(packed, recipe)
    for number in range(10):
        sample = sampler.sample(np.random.default_rng(number))
        light = linear(sample.hazy).mean() / linear(sample.clear).mean()
        assert light == pytest.approx(1 / 8, rel=0.2)


@pytest.mark.parametrize("degradation", ["noise", "lowlight"])
def test_a_share_of_crops_is_taken_by_cameras(packed, degradation):
    recipe = replace(RECIPE, degradation=degradation, clear=0, colour=0, exposed=0)
    alone = Sampler(packed, recipe)
    for share, limits in ((0.5, (1, 19)), (1.0, (20, 20))):
        sampler = Sampler(packed, replace(recipe, camera=share, iso=(6400.0, 6400.0)))
        taken = 0
        for number in range(20):
            sample = sampler.sample(np.random.default_rng(number))
            scene = alone.sample(np.random.default_rng(number)).clear
            assert sample.hazy.shape == sample.clear.shape == scene.shape
            # What a camera sees is sharpened, smoothed and demosaiced without noise as well.
            developed = not np.array_equal(sample.clear, scene)
            taken += developed
            if developed and degradation == "noise":
                assert np.abs(sample.clear - scene).mean() < 0.05
        assert limits[0] <= taken <= limits[1]


@pytest.mark.slow
def test_a_batch_has_one_of_several_sizes_and_about_as_many_pixels(packed):
    recipe = replace(RECIPE, sizes=(32, 64, 96), batch=4, degradation="noise")
    alone, shared = BatchLoader(packed, recipe, 5), BatchLoader(packed, recipe, 5, workers=2)
    shapes = [tuple(alone.batch(step).hazy.shape) for step in range(12)]
    assert set(shapes) == {(16, 3, 32, 32), (4, 3, 64, 64), (2, 3, 96, 96)}
    batches = shared.batches(3)
    for step, batch in enumerate(islice(batches, 9), 3):
        assert same(batch, alone.batch(step)), step
    batches.close()
    # Without several sizes batches are what they were.
    single = replace(recipe, sizes=(), size=64)
    assert same(
        BatchLoader(packed, single, 5).batch(1),
        BatchLoader(packed, replace(single, sizes=(64,)), 5).batch(1),
    )


def test_brackets_have_three_frames_of_one_scene(packed):
    recipe = replace(RECIPE, degradation="bracket", batch=4, clipped=(0.1, 0.1), moved=0.0)
    batch = BatchLoader(packed, recipe, 5).batch(0)
    assert batch.hazy.shape == (4, 9, 64, 64) and batch.clear.shape == (4, 3, 64, 64)
    brightness = batch.hazy.unflatten(1, (3, 3)).mean((2, 3, 4))
    assert (brightness.diff(dim=1) > 0).all()
    assert not batch.depth.any()
    assert not torch.equal(batch.clear, batch.hazy[:, 3:6])


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"degradation": "rain"}, "cannot be 'rain'"),
        ({"sigma": [30, 10]}, "sigma is 30 to 10"),
        ({"darkness": [0.5, 2]}, "darkness is 0.5 to 2"),
        ({"iso": [3200, 100]}, "iso is 3200 to 100"),
        ({"camera": 1.5}, "share camera is 1.5"),
        ({"sizes": [8, 64]}, "8 pixels is too small"),
    ],
)
def test_wrong_settings_of_degradations_are_refused(table, told):
    with pytest.raises(BadParameter, match=told):
        of_table(table)
