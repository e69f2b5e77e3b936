"""Made-up haze follows from its generator, obeys its model and covers what it should."""

from __future__ import annotations

import numpy as np
import pytest

from napari_restore.errors import BadParameter
from napari_restore.images import light_of_srgb, srgb_of_light
from napari_restore_lab.synthetic_haze import (
    SPECTRA,
    Haze,
    add_haze,
    degrade,
    draw_haze,
    transmission_of,
)

SHAPE = (96, 128)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("scene", ["aerial", "natural"])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_haze_follows_from_its_generator(scene, spectrum):
    first, again, other = (
        draw_haze(rng(seed), SHAPE, scene=scene, spectrum=spectrum, extent=2.0)
        for seed in (4, 4, 5)
    )
    assert np.array_equal(first.depth, again.depth) and first.depth.shape == SHAPE
    assert np.array_equal(first.airlight, again.airlight)
    assert not np.array_equal(first.depth, other.depth)
    assert first.depth.dtype == np.float32 and first.depth.min() >= 0 and first.depth.max() <= 2.2


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_a_wider_scene_shows_less_of_its_unevenness(spectrum):
    def spread(extent):
        fields = [SPECTRA[spectrum].draw(rng(s), SHAPE, extent) for s in range(40)]
        assert all(f.min() > -0.1 and f.max() < 1.1 for f in fields)
        return np.mean([np.abs(np.diff(f, axis=1)).mean() for f in fields])

    assert spread(8.0) < 0.6 * spread(1.0)


def test_the_mean_transmission_covers_what_was_asked_for():
    hazes = [
        draw_haze(rng(s), SHAPE, scene="aerial", spectrum="octaves", strength=(0.5, 0.6))
        for s in range(30)
    ]
    means = [np.exp(-h.depth).mean() for h in hazes]
    assert 0.45 < np.mean(means) < 0.65


def test_colours_and_spaces_vary():
    hazes = [draw_haze(rng(s), (16, 16), scene="aerial", spectrum="even") for s in range(60)]
    exponents = [h.exponent for h in hazes]
    assert min(exponents) == 0 and max(exponents) > 1
    assert 0.3 < np.mean([h.linear for h in hazes]) < 0.7
    assert all(0.4 <= h.airlight.min() and h.airlight.max() <= 1 for h in hazes)


def test_natural_haze_is_thickest_far_away():
    hazes = [draw_haze(rng(s), SHAPE, scene="natural", spectrum="octaves") for s in range(20)]
    bottom = np.mean([h.depth[-12:].mean() for h in hazes])
    top = np.mean([h.depth[:12].mean() for h in hazes])
    assert top > 2 * bottom


def test_a_given_distance_is_followed():
    distance = np.zeros(SHAPE, np.float32)
    distance[:, 64:] = 1
    haze = draw_haze(rng(1), SHAPE, scene="natural", spectrum="even", distance=distance)
    assert haze.depth[:, 64:].min() > haze.depth[:, :64].max()


def test_a_guide_makes_edges():
    guide = np.zeros(SHAPE, np.float32)
    guide[:, 64:] = 1
    hazes = [
        draw_haze(rng(s), SHAPE, scene="natural", spectrum="even", guide=g)
        for s in range(10)
        for g in (guide, None)
    ]
    jumps = [abs(float((h.depth[:, 72] - h.depth[:, 56]).mean())) for h in hazes]
    assert np.mean(jumps[0::2]) > 5 * np.mean(jumps[1::2])


def test_an_unknown_spectrum_is_named():
    with pytest.raises(BadParameter, match="octaves"):
        draw_haze(rng(), SHAPE, scene="aerial", spectrum="octave")


@pytest.mark.parametrize("linear", [False, True])
def test_the_scattering_model(linear):
    clear = rng(2).random((8, 9, 3), np.float32)
    haze = Haze(rng(3).random((8, 9), np.float32), np.float32([0.9, 0.8, 0.7]), 1.2, linear)
    hazy, t = add_haze(clear, haze), transmission_of(haze)
    # Blue sees more haze than red.
    assert (t[..., 0] > t[..., 2]).all()
    a, j, x = (v.astype(np.float64) for v in (haze.airlight, clear, hazy))
    if linear:
        a, j, x = (light_of_srgb(v.astype(np.float32)).astype(np.float64) for v in (a, j, x))
    assert np.allclose(x, j * t + a * (1 - t), atol=2e-6)


def test_no_haze_changes_nothing():
    clear = rng(2).random((8, 9, 3), np.float32)
    haze = Haze(np.zeros((8, 9), np.float32), np.ones(3, np.float32), 1.0, True)
    assert np.array_equal(add_haze(clear, haze), clear)


def test_the_display_curve_comes_back():
    values = np.linspace(0, 1, 1001, dtype=np.float32)
    assert np.allclose(srgb_of_light(light_of_srgb(values)), values, atol=1e-5)
    assert np.isclose(light_of_srgb(np.float32([0.5]))[0], 0.21404, atol=1e-4)


def test_a_sensor_adds_a_little_noise_in_steps_of_a_byte():
    picture = np.full((64, 64, 3), 0.5, np.float32)
    seen = [degrade(picture, rng(s)) for s in range(20)]
    noise = [float(np.std(s - picture)) for s in seen]
    assert 0 < min(noise) and max(noise) < 0.02
    assert all(np.allclose(s * 255, np.round(s * 255), atol=1e-3) for s in seen)
