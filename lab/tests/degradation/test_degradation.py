"""Noise and low light: as large as they say, and the same for the same scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_restore.images import light_of_srgb
from napari_restore_lab.degradation import (
    SCORED,
    LowLight,
    add_noise,
    darken,
    degraded_scene,
    draw_low_light,
)

GREY = np.full((64, 64, 3), 0.5, np.float32)
FULL = LowLight(1.0, 1e9, 0.0, (1.0, 1.0, 1.0), None)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("sigma", [0.0, 10.0, 25.0])
def test_noise_has_its_deviation_in_eight_bits(sigma: float):
    noisy = add_noise(GREY, sigma, rng())
    codes = noisy * 255
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)
    # Rounding adds a twelfth of a code.
    assert noisy.std() * 255 == pytest.approx((sigma**2 + 1 / 12 * (sigma > 0)) ** 0.5, rel=0.03)
    assert noisy.mean() == pytest.approx(0.5, abs=0.01)
    assert add_noise(np.ones_like(GREY), 50.0, rng()).max() == 1


def test_light_is_divided_in_linear_light():
    for factor in (4.0, 30.0):
        dark = darken(GREY, replace(FULL, factor=factor), rng())
        # To half a code of display values.
        np.testing.assert_allclose(
            light_of_srgb(dark), light_of_srgb(GREY) / factor, rtol=0.02, atol=1e-4
        )
    balanced = darken(GREY, replace(FULL, balance=(1.1, 1.0, 0.9)), rng())
    light = light_of_srgb(balanced).mean((0, 1)) / light_of_srgb(GREY).mean()
    np.testing.assert_allclose(light, (1.1, 1.0, 0.9), rtol=0.01)


def test_photons_make_noise_and_darkness_more_of_it():
    light = replace(FULL, electrons=4000.0, read=3.0)
    for factor in (1.0, 8.0):
        dark = light_of_srgb(darken(GREY, replace(light, factor=factor), rng()))
        electrons = float(light_of_srgb(GREY)[0, 0, 0]) * 4000 / factor
        expected = (electrons + 9) ** 0.5 / electrons
        assert dark.std() / dark.mean() == pytest.approx(expected, rel=0.06)
    jpeg = darken(GREY, replace(light, quality=70), rng())
    assert 0 < float(np.abs(jpeg - darken(GREY, light, rng())).mean()) < 0.05


def test_drawn_light_stays_in_its_ranges():
    drawn = [draw_low_light(rng(n), (4.0, 30.0), 0.5) for n in range(100)]
    factors = np.array([light.factor for light in drawn])
    assert 4 <= factors.min() < 6 < 20 < factors.max() <= 30
    # As many between 4 and 11 as between 11 and 30.
    assert np.median(factors) == pytest.approx(11, rel=0.25)
    assert {light.quality is None for light in drawn} == {True, False}
    assert all(light.balance[1] == 1 for light in drawn)


@pytest.mark.parametrize("degradation", ["noise", "lowlight"])
def test_a_scene_is_degraded_the_same_every_time(degradation: str):
    clear = rng(3).random((40, 50, 3), np.float32)
    first, second = SCORED[degradation][:2]
    one = degraded_scene(clear, "a/b.png", degradation, first, 0)[0]
    np.testing.assert_array_equal(one, degraded_scene(clear, "b.tif", degradation, first, 0)[0])
    for name, level, seed in (("c.png", first, 0), ("b.png", second, 0), ("b.png", first, 1)):
        other = degraded_scene(clear, name, degradation, level, seed)[0]
        assert np.abs(one - other).mean() > 1e-3
    assert one.dtype == np.float32
    assert 0 <= one.min() and one.max() <= 1
