"""Haze of many kinds: as various as it should be, and true to what is told of it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_restore_lab.synthetic_haze import (
    DISTANCES,
    SPECTRA,
    bright,
    draw_haze,
    draw_wide,
    synthetic_distance,
)

SHAPE = (96, 128)


def rng(seed=0):
    return np.random.default_rng(seed)


def picture(seed: int) -> np.ndarray:
    """Luminance in random pieces."""
    return np.repeat(np.repeat(rng(seed).random((6, 8), np.float32), 16, 0), 16, 1)


def wide(seed, scene="aerial", spectrum="octaves", **choices):
    given = {"extent": 2.0, "distance": None, "guide": picture(seed), **choices}
    return draw_wide(rng(seed), SHAPE, scene=scene, spectrum=spectrum, **given)


@pytest.mark.parametrize("scene", ["aerial", "natural"])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_it_follows_from_its_generator_and_keeps_its_ranges(scene, spectrum):
    one, again = wide(4, scene, spectrum), wide(4, scene, spectrum)
    assert np.array_equal(one.depth, again.depth) and np.array_equal(one.airlight, again.airlight)
    assert not np.array_equal(one.depth, wide(5, scene, spectrum).depth)
    assert one.depth.dtype == np.float32 and one.depth.shape == SHAPE
    assert one.depth.min() >= 0 and one.depth.max() <= np.float32(2.2)


def test_thickness_airlight_colour_and_light_are_various():
    hazes = [wide(seed) for seed in range(200)]
    means = np.array([haze.depth.mean() for haze in hazes])
    assert np.quantile(means, 0.1) < 0.2 and np.quantile(means, 0.9) > 1.0
    assert 0.4 < np.median(means) < 0.8
    grey = np.array([haze.airlight.mean() for haze in hazes])
    assert grey.min() < 0.5 and grey.max() > 0.95 and (grey > 0.7).mean() > 0.5
    exponents = np.array([haze.exponent for haze in hazes])
    assert 0.1 < (exponents == 0).mean() < 0.4 and exponents.max() > 1
    assert 0.4 < np.mean([haze.linear for haze in hazes]) < 0.6
    # Thin places are clear in some and veiled in others.
    least = np.array([haze.depth.min() / haze.depth.mean() for haze in hazes])
    assert (least < 0.2).mean() > 0.1 and (least > 0.8).mean() > 0.1


@pytest.mark.parametrize("maker", DISTANCES.values())
def test_distances_are_from_near_to_far(maker):
    for seed in range(12):
        distance = maker(rng(seed), SHAPE, picture(seed))
        assert distance.shape == SHAPE and distance.dtype == np.float32
        assert distance.min() >= 0 and distance.max() <= np.float32(1.1)


@pytest.mark.parametrize("maker", [m for m in DISTANCES.values() if m is not bright])
def test_brightness_does_not_tell_how_far_a_thing_is(maker):
    found = []
    for seed in range(60):
        guide = picture(seed)
        distance = maker(rng(seed), SHAPE, guide)
        if distance.std() > 1e-3:
            found.append(np.corrcoef(guide.ravel(), distance.ravel())[0, 1])
    assert abs(np.mean(found)) < 0.12


def test_a_small_picture_has_distances_too():
    for shape in ((1, 1), (3, 5), (2, 40)):
        for seed in range(10):
            assert synthetic_distance(rng(seed), shape, np.ones(shape, np.float32)).shape == shape


def test_a_kind_of_distance_without_a_weight_is_not_drawn():
    for seed in range(20):
        made = synthetic_distance(rng(seed), SHAPE, picture(seed), {"planes": 2.0, "ramp": 0.0})
        states = rng(seed)
        states.random()
        assert np.array_equal(made, DISTANCES["planes"](states, SHAPE, picture(seed)))


def test_known_distances_are_mostly_followed():
    distance = np.zeros(SHAPE, np.float32)
    distance[:, 64:] = 1
    deeper = [
        haze.depth[:, 64:].mean() > haze.depth[:, :64].mean() + 0.02
        for haze in (wide(seed, "natural", "even", distance=distance) for seed in range(60))
    ]
    assert 0.5 < np.mean(deeper) < 0.95


def test_fine_haze_has_structure_down_to_the_pixel():
    def bends(spectrum):
        haze = draw_haze(rng(3), (256, 256), scene="aerial", spectrum=spectrum)
        inside = (haze.depth > 0) & (haze.depth < 2.2)
        return (np.abs(np.diff(haze.depth, 2)) > 1e-6)[inside[:, 1:-1]].mean()

    # Others are drawn on cells of four pixels, straight between their centres.
    assert bends("octaves") < 0.6
    assert bends("fine") > 0.95
