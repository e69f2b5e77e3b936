"""Fog: opaque in places, drifting, unevenly lit, and true to what is told of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_restore_lab.synthetic_haze import add_haze, draw_fog, metered

SHAPE = (96, 128)


def fog(seed: int, scene="natural"):
    ramp = np.linspace(1, 0, SHAPE[0], dtype=np.float32)[:, None].repeat(SHAPE[1], 1)
    return draw_fog(np.random.default_rng(seed), SHAPE, scene=scene, extent=2.0, distance=ramp)


@pytest.mark.parametrize("scene", ["aerial", "natural"])
def test_it_follows_from_its_generator_and_keeps_its_ranges(scene):
    one, again = fog(3, scene), fog(3, scene)
    assert np.array_equal(one.depth, again.depth) and np.array_equal(one.light, again.light)
    assert not np.array_equal(one.depth, fog(4, scene).depth)
    assert one.depth.shape == SHAPE and one.depth.dtype == np.float32
    assert one.light.shape == (*SHAPE, 3) and one.light.dtype == np.float32
    assert one.depth.min() >= 0 and np.exp(-one.depth.max()) >= 0.02 - 1e-6
    assert 0.2 <= one.light.min() and one.light.max() <= 1


def test_fogs_are_various():
    fogs = [fog(seed, scene) for seed in range(60) for scene in ("aerial", "natural")]
    thickest = np.array([np.exp(-one.depth.max()) for one in fogs])
    assert (thickest < 0.06).mean() > 0.05 and (thickest > 0.2).mean() > 0.2
    # Sharp and soft edges: the largest step between neighbours, as a share of the whole range.
    steps = [np.abs(np.diff(one.depth, axis=1)).max() / max(np.ptp(one.depth), 0.1) for one in fogs]
    assert np.quantile(steps, 0.1) < 0.04 and np.quantile(steps, 0.9) > 0.1
    # Even and uneven light.
    spread = np.array([one.light.mean(axis=2).std() / one.light.mean() for one in fogs])
    assert (spread < 0.01).mean() > 0.05 and (spread > 0.05).mean() > 0.2


def test_the_airlight_is_the_mean_of_the_light_where_fog_is_seen():
    one = fog(7)
    share = 1 - np.exp(-one.depth.astype(np.float64))
    mean = np.average(one.light.reshape(-1, 3), axis=0, weights=share.ravel())
    np.testing.assert_allclose(one.airlight, mean, rtol=1e-4)


@pytest.mark.parametrize("linear", [False, True])
def test_light_of_every_pixel_is_added_and_exposed(linear):
    clear = np.random.default_rng(0).random((*SHAPE, 3)).astype(np.float32)
    one = replace(fog(5), linear=linear)
    hazy = add_haze(clear, one)
    even = add_haze(clear, replace(one, light=np.broadcast_to(one.airlight, clear.shape)))
    np.testing.assert_allclose(even, add_haze(clear, replace(one, light=None)), atol=1e-6)
    opaque = replace(one, depth=np.full(SHAPE, 30.0, np.float32))
    np.testing.assert_allclose(add_haze(clear, opaque), one.light, atol=2e-4)
    # What a camera does to the hazy image it does to both parts of it.
    generator = np.random.default_rng(1)
    darker, seen = metered(generator, clear, hazy, one, float(np.median(hazy)), (0.3, 0.31))
    again = add_haze(darker, seen)
    assert np.median(again @ [0.299, 0.587, 0.114]) == pytest.approx(0.305, abs=0.03)
    np.testing.assert_allclose(seen.light.mean((0, 1)), seen.airlight, atol=0.1)
