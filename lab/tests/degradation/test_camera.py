"""Noise of cameras: as large as the sensor says, absent where there is none, developed like the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_restore.images import light_of_srgb
from napari_restore_lab.degradation import (
    DEMOSAICINGS,
    Camera,
    LowLight,
    camera_scene,
    developed,
    draw_camera,
    exposed_mosaic,
    photograph,
    read_out,
    sites,
)

ISO = (100.0, 25600.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def plain(seed: int = 0, **changes: object) -> Camera:
    """A drawn camera that changes nothing but by noise and demosaicing."""
    still = {"lens": 0.0, "smoothed_colour": 0, "smoothed_luma": 0.0, "sharpening": 0.0}
    still |= {"scale": 1.0, "quality": None, "banding": 0.0, "bits": 14, "exposure": 0.9}
    return replace(draw_camera(rng(seed), ISO), **{**still, **changes})  # type: ignore[arg-type]


def smooth(height: int = 32, width: int = 48) -> np.ndarray:
    """A scene of slow ramps, other ones in each colour."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    return np.stack([0.2 + 0.5 * x, 0.3 + 0.4 * y, 0.6 - 0.3 * x * y], 2).astype(np.float32)


def test_variance_on_the_mosaic_grows_in_proportion_to_light():
    camera = plain(electrons=2000.0, read=8.0)
    levels = np.array([0.02, 0.1, 0.3, 0.6])
    read = [read_out(np.full((200, 200), level, np.float32), camera, rng(1)) for level in levels]
    # Of electrons: as many as there are, and those of reading.
    variances = np.array([values.var() for values in read]) * 2000**2
    np.testing.assert_allclose(variances, levels * 2000 + 64, rtol=0.04)
    np.testing.assert_allclose([values.mean() for values in read], levels, rtol=0.004)


def test_dark_mosaics_keep_their_mean_below_black_and_full_ones_saturate():
    camera = plain(electrons=500.0, read=5.0)
    dark = read_out(np.zeros((200, 200), np.float32), camera, rng(1))
    assert dark.min() < 0
    assert abs(dark.mean()) < 3 * 5 / 500 / 200
    assert read_out(np.ones((50, 50), np.float32), camera, rng(1)).max() == 1


def test_rows_or_columns_have_noise_of_their_own():
    camera = plain(electrons=1e4, read=1.0, banding=20.0, upright=False)
    mosaic = np.zeros((100, 100), np.float32)
    for upright, axis in ((False, 1), (True, 0)):
        lines = read_out(mosaic, replace(camera, upright=upright), rng(1)).mean(axis)
        assert lines.std() * 1e4 == pytest.approx(20, rel=0.25)


@pytest.mark.parametrize("bits", [12, 14])
def test_codes_are_whole(bits: int):
    codes = (
        read_out(np.full((40, 40), 0.3, np.float32), plain(bits=bits), rng()) * 15 * 2 ** (bits - 4)
    )
    np.testing.assert_allclose(codes, np.rint(codes), atol=2e-3)


@pytest.mark.parametrize("phase", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("name", DEMOSAICINGS)
def test_demosaicing_keeps_measured_values_and_planes(name: str, phase: tuple[int, int]):
    # A plane of grey, which all of them continue exactly, away from the edges.
    y, x = np.mgrid[0:12, 0:16].astype(np.float32)
    grey = 0.2 + 0.01 * x + 0.02 * y
    colours = DEMOSAICINGS[name](grey, phase)
    np.testing.assert_allclose(colours[3:-3, 3:-3], grey[3:-3, 3:-3, None].repeat(3, 2), atol=1e-6)
    mosaic = rng(3).random((12, 16), np.float32)
    colours = DEMOSAICINGS[name](mosaic, phase)
    for colour, site in sites(phase):
        np.testing.assert_allclose(colours[..., colour][site], mosaic[site], atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_developing_undoes_what_the_sensor_did(seed: int):
    clear = smooth()
    camera = plain(seed)
    picture = developed(exposed_mosaic(clear, camera), camera)
    # Ramps are not straight in linear light, and no demosaicing follows them exactly.
    np.testing.assert_allclose(picture[4:-4, 4:-4], clear[4:-4, 4:-4], atol=0.01)


@pytest.mark.parametrize("seed", range(6))
def test_without_noise_the_picture_is_the_truth(seed: int):
    camera = replace(draw_camera(rng(seed), ISO), electrons=1e12, read=0.0, banding=0.0, bits=24)
    noisy, truth = photograph(smooth(31, 45), replace(camera, quality=None), rng())
    assert noisy.shape == truth.shape == (31, 45, 3)
    # To half a code of 8 bits.
    np.testing.assert_allclose(noisy, truth, atol=0.51 / 255)


def test_noise_leaves_the_mean_of_light():
    camera = plain(electrons=3000.0, read=5.0, contrast=1.0)
    noisy, truth = photograph(np.full((160, 160, 3), 0.5, np.float32), camera, rng())
    assert 0.01 < (noisy - truth).std() < 0.1
    means = [light_of_srgb(values).mean((0, 1)) for values in (noisy, truth)]
    np.testing.assert_allclose(*means, rtol=0.01)


def test_noise_of_higher_iso_is_more():
    def noise(iso: float) -> float:
        made = [camera_scene(smooth(), f"{n}.png", int(iso), 0) for n in range(12)]
        return float(np.median([(noisy - truth).std() for noisy, truth in made]))

    assert noise(200) < noise(1600) < noise(12800)


def test_low_light_darkens_the_picture_alone():
    clear, camera = smooth(), plain(electrons=1e9, read=0.0, contrast=1.0)
    noisy, truth = photograph(clear, camera, rng(), LowLight(4.0, 1.0, 0.0, (1.1, 1.0, 0.9), None))
    np.testing.assert_array_equal(truth, photograph(clear, camera, rng())[1])
    light = light_of_srgb(noisy).mean() / light_of_srgb(truth).mean()
    assert light == pytest.approx(1 / 4, rel=0.05)


def test_the_same_seed_draws_the_same_picture():
    clear = smooth()
    pictures = [
        photograph(clear, draw_camera(generator, ISO), generator)
        for generator in (rng(5), rng(5), rng(6))
    ]
    for first, second, other in zip(*pictures, strict=True):
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, other)
        assert first.dtype == np.float32
        assert 0 <= first.min() and first.max() <= 1
    codes = pictures[0][0] * 255
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-4)


def test_drawn_cameras_stay_in_their_ranges():
    drawn = [draw_camera(rng(n), (400.0, 3200.0)) for n in range(200)]
    assert min(c.electrons for c in drawn) >= 10_000 * 100 / 3200
    assert max(c.electrons for c in drawn) <= 80_000 * 100 / 400
    assert {c.demosaicing for c in drawn} == set(DEMOSAICINGS)
    assert {c.phase for c in drawn} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {c.quality is None for c in drawn} == {True, False}
    assert all(0.3 <= c.scale <= 1 for c in drawn)
    for camera in drawn:
        np.testing.assert_allclose(np.sum(camera.matrix, axis=1), 1)
        # What the matrix mixes can be told apart again.
        assert np.linalg.cond(camera.matrix) < 8
