"""The light of a scene from a bracket: noise, clipped and invalid pixels."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from napari_restore.errors import BadParameter
from napari_restore.images import light_of_srgb, open_image, srgb_of_light
from napari_restore.models import RestorationModel, for_frames, load

Array = npt.NDArray[Any]
EVS = tuple(range(-3, 4))


def model_for(evs: tuple[float, ...], step: float = 1 / 255, **values: Any) -> RestorationModel:
    place = evs.index(0)
    model = load("radiance", parameters=values)
    return for_frames(model, len(evs), place, exposures=evs, step=step)


def merged(
    photos: Array, evs: tuple[float, ...] = EVS, valid: Array | None = None, **values: Any
) -> Array:
    """The light (H, W, 3) of photos (F, H, W, 3), 8-bit display values."""
    light = light_of_srgb(photos.astype(np.float32) / np.float32(255))
    light = light * np.float32(2.0) ** -np.array(evs, np.float32)[:, None, None, None]
    x = torch.from_numpy(light).permute(0, 3, 1, 2).reshape(1, -1, *photos.shape[1:3])
    mask = None if valid is None else torch.from_numpy(valid)[None]
    y, _ = model_for(evs, **values).forward_with_maps(x, None, mask)
    return y[0].permute(1, 2, 0).numpy()


def scene(height: int = 90, width: int = 120) -> Array:
    """A radiance map (H, W, 3) of 14 EV."""
    rng = np.random.default_rng(3)
    light = 2.0 ** np.linspace(-9, 5, width)[None, :, None]
    return light * rng.uniform(0.5, 1, (height, width, 3))


def taken(light: Array, evs: tuple[float, ...], electrons: float = 20000.0) -> Array:
    """8-bit photos of `light` with the noise of photons and of reading, 5 electrons."""
    rng = np.random.default_rng(4)
    photos = []
    for ev in evs:
        count = light * 2.0**ev * electrons
        count = count + np.sqrt(count) * rng.standard_normal(light.shape)
        count = count + 5 * rng.standard_normal(light.shape)
        shown = srgb_of_light(np.clip(count / electrons, 0, 1).astype(np.float32))
        photos.append(np.rint(shown * 255).astype(np.uint8))
    return np.stack(photos)


def test_light_is_measured_to_one_percent_where_a_frame_is_not_clipped() -> None:
    light = scene()
    photos = taken(light, EVS)
    found = merged(photos)
    seen = (photos.max(axis=3) < 250).any(axis=0)
    # What the brightest frame sees as black but for its noise is not measured.
    seen &= light.min(axis=2) > 2**-8
    error = np.abs(found - light)[seen] / light[seen]
    assert seen.mean() > 0.7
    assert np.median(error) <= 0.01
    assert abs(np.median((found - light)[seen] / light[seen])) <= 1e-3


@pytest.mark.nightly
def test_real_radiance_maps_are_measured_again(data_dir: Path) -> None:
    maps = sorted((data_dir / "brackets" / "hdr_maps").glob("*.hdr"))
    assert len(maps) > 10
    for path in maps:
        image = open_image(path)
        light = image.read((0, 0, image.height, image.width)).astype(float)
        # Exposed as a photographer would.
        light *= 0.3 / np.percentile(light, 70)
        photos = taken(light, EVS)
        found = merged(photos)
        seen = (photos.max(axis=3) < 250).any(axis=0) & (light.min(axis=2) > 0)
        error = (found - light)[seen] / light[seen]
        assert np.median(np.abs(error)) <= 0.0085, path.name
        assert abs(np.median(error)) <= 1e-4, path.name


@pytest.mark.parametrize("evs", [(0, 2), (-4, 0, 4), (-3, -1, 0)])
def test_the_only_frame_that_is_not_clipped_counts_wholly(evs: tuple[float, ...]) -> None:
    photos = np.full((len(evs), 4, 5, 3), 255, np.uint8)
    photos[0] = 200
    expected = light_of_srgb(np.float32(200 / 255)) * 2.0 ** -evs[0]
    np.testing.assert_allclose(merged(photos, evs), expected, rtol=1e-6)


def test_a_clipped_band_takes_its_pixel_along() -> None:
    photos = np.full((3, 4, 5, 3), 255, np.uint8)
    photos[1] = 90
    photos[1, ..., 2] = 255
    photos[0] = 40
    found = merged(photos, (-2, 0, 2))
    np.testing.assert_allclose(found, 4 * light_of_srgb(np.float32(40 / 255)), rtol=1e-6)


def test_where_all_are_clipped_the_darkest_valid_one_counts() -> None:
    photos = np.full((3, 2, 6, 3), 255, np.uint8)
    valid = np.ones((3, 2, 6), bool)
    valid[0, :, 2:] = False
    valid[1, :, 4:] = False
    found = merged(photos, (-2, 0, 2), valid)
    np.testing.assert_allclose(found[:, :2], 4)
    np.testing.assert_allclose(found[:, 2:4], 1)
    np.testing.assert_allclose(found[:, 4:], 0.25)


def test_invalid_pixels_weigh_nothing() -> None:
    light = scene() / 8
    photos = taken(light, (-2, 0, 2))
    valid = np.ones(photos.shape[:3], bool)
    expected = merged(photos[:2], (-2, 0))[:40]
    valid[2, :40] = False
    photos[2, :40] = 130
    found = merged(photos, (-2, 0, 2), valid)
    np.testing.assert_allclose(found[:40], expected, rtol=1e-6)
    assert np.isfinite(found).all()


def test_the_brighter_frame_counts_more_where_it_is_not_clipped() -> None:
    model = model_for((-2, 0, 2))
    light = torch.full((1, 3, 3, 1, 1), 0.01)
    weights = model.weights(light)[0, :, 0, 0, 0].tolist()  # type: ignore[operator]
    assert sum(weights) == pytest.approx(1)
    assert weights == sorted(weights) and weights[2] > 3 * weights[1]
    # With nothing but noise of photons by the light that each collects.
    model = model_for((-2, 0, 2), step=0.0, read=0.0)
    weights = model.weights(light)[0, :, 0, 0, 0].tolist()  # type: ignore[operator]
    assert weights == pytest.approx([1 / 21, 4 / 21, 16 / 21], rel=1e-4)


def test_gradients_are_finite_without_light_and_where_all_is_clipped() -> None:
    x = torch.zeros(1, 9, 4, 5)
    x[:, :, 2:] = 8
    x.requires_grad_()
    model_for((-2, 0, 2))(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_grey_and_many_bands_are_merged_alike() -> None:
    x = torch.rand(1, 3 * 5, 6, 7)
    model = load("radiance")
    assert for_frames(model, 3)(x).shape == (1, 5, 6, 7)
    assert for_frames(model, 5)(x).shape == (1, 3, 6, 7)
    with pytest.raises(BadParameter, match="one image"):
        for_frames(model, 1)


def test_a_curve_for_the_screen_clips_nothing() -> None:
    from napari_restore.images import curve_of

    curve = curve_of((-4, 0, 2), np.dtype(np.uint8))
    assert (curve.gain, curve.white) == (0.5, 8)
    light = np.array([0, 0.002, 0.18, 1, 8, 16, 20, np.nan, -1], np.float32)[:, None]
    shown = curve.shown(light)[:, 0]
    assert shown.dtype == np.uint8
    assert shown.tolist()[5:] == [255, 255, 0, 0]
    assert (np.diff(shown[:6].astype(int)) > 0).all()
    # Shadows are those of the photo in the middle of the bracket.
    assert abs(int(shown[1]) - 255 * float(srgb_of_light(np.float32(0.001)))) <= 1
    deep = curve.shown(np.full((2, 2), 0.5, np.float32), np.uint16, alpha=[1])
    assert deep.dtype == np.uint16 and deep[0, 1] == 32768
    assert math.isclose(curve.shown(light, np.float32).max(), 1, rel_tol=1e-6)


def test_noise_of_the_dark_is_that_of_reading_and_of_the_straight_start_of_the_curve() -> None:
    """sRGB begins as a line of slope 12.92; a step of the file is rounded evenly: 1/12 of its square."""
    step, electrons, read = 1 / 255, 1000.0, 5.0
    model: Any = model_for(EVS, step, electrons=electrons, read=read)
    dark, light = model._variance(torch.tensor([0.0, 0.25])).tolist()
    assert dark == pytest.approx((read / electrons) ** 2 + (step / 12.92) ** 2 / 12, rel=1e-5)
    # Of a curve with an exponent of 2 the slope is 1 at 0.25.
    expected = 0.25 / electrons + (read / electrons) ** 2 + step**2 / 12
    assert light == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count", [2, 3, 5, 7])
def test_without_exposures_the_middle_frame_has_none_and_the_others_are_two_ev_apart(
    count: int,
) -> None:
    model: Any = load("radiance")
    gains = model._gains(torch.zeros(1, count, 3, 1, 1)).flatten().tolist()
    assert gains[(count - 1) // 2] == 1
    assert [after / before for before, after in itertools.pairwise(gains)] == [4.0] * (count - 1)
