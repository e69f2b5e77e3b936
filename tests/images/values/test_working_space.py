"""Photos with colours of their own: models see sRGB, files keep what they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from napari_restore.images import Image, Pixels, open_image, resolve_radiometry, write_image

Noise = Callable[..., np.ndarray]
BANDS = (0, 1, 2)
SRGB = bytes(imagecodecs.cms_profile("srgb"))


@pytest.fixture
def wide() -> bytes:
    """A profile whose green lies far outside sRGB, with another curve."""
    return bytes(imagecodecs.cms_profile("adobergb"))


def photo(path: Path, pixels: np.ndarray, icc: bytes | None) -> Image:
    import tifffile

    tifffile.imwrite(path, pixels, photometric="rgb", iccprofile=icc)
    return open_image(path)


def converted(values: np.ndarray, source: bytes, target: bytes) -> np.ndarray:
    """(h, w, 3) in 0 … 1, by LittleCMS in floats."""
    options = {"colorspace": "rgb", "outcolorspace": "rgb", "outdtype": "float32"}
    result = imagecodecs.cms_transform(values.astype(np.float32), source, target, **options)
    return np.clip(result, 0, 1)


def srgb_of(stored: np.ndarray, icc: bytes) -> np.ndarray:
    return converted(stored / np.iinfo(stored.dtype).max, icc, SRGB)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_models_see_srgb(tmp_path: Path, noise: Noise, wide: bytes, dtype: type) -> None:
    image = photo(tmp_path / "a.tif", noise(40, 50, 3, dtype), wide)
    radiometry = resolve_radiometry(image)
    stored = image.read((0, 0, 40, 50))
    tile = radiometry.to_model_tile(stored, BANDS)
    assert tile.dtype == np.float32
    np.testing.assert_allclose(tile, srgb_of(stored, wide), atol=2e-5)
    assert np.abs(tile - stored / np.iinfo(dtype).max).max() > 0.03
    np.testing.assert_allclose(radiometry.to_model(stored), tile, atol=1e-6)
    turned = radiometry.to_model_tile(stored, (2, 1, 0))
    np.testing.assert_array_equal(turned, tile[..., ::-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_unchanged_pixels_stay_bit_for_bit(
    tmp_path: Path, noise: Noise, wide: bytes, dtype: type
) -> None:
    image = photo(tmp_path / "a.tif", noise(40, 50, 3, dtype), wide)
    stored = image.read((0, 0, 40, 50))
    change = np.zeros(stored.shape, np.float32)
    change[10:20] = 0.2
    change[30, 30] = np.nan
    result = resolve_radiometry(image).apply_change(stored, change, BANDS)
    moved = (result != stored).any(axis=2)
    assert moved[10:20].mean() > 0.9
    assert not moved[:10].any() and not moved[20:].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_change_in_srgb_comes_back_as_one(tmp_path: Path, wide: bytes, dtype: type) -> None:
    full = np.iinfo(dtype).max
    # Muted colours, which both spaces hold.
    muted = np.random.default_rng(3).uniform(0.35, 0.6, (30, 30, 3))
    image = photo(tmp_path / "a.tif", np.rint(muted * full).astype(dtype), wide)
    radiometry = resolve_radiometry(image)
    stored = image.read((0, 0, 30, 30))
    change = np.random.default_rng(4).uniform(-0.1, 0.1, stored.shape).astype(np.float32)
    result = radiometry.apply_change(stored, change, BANDS)
    wanted = converted(srgb_of(stored, wide) + change, SRGB, wide) * full
    # At 16 bit the way over sRGB and back costs a step or two.
    assert np.abs(result - wanted).max() <= (0.51 if dtype == np.uint8 else 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("black", [0.0, 0.3, 7.9, -7.9, 40.0])
@pytest.mark.parametrize("white", [1.0, 0.37])
def test_what_a_model_saw_gives_the_same_change(
    tmp_path: Path, wide: bytes, dtype: type, black: float, white: float
) -> None:
    full = np.iinfo(dtype).max
    values = np.arange(65536).reshape(128, 512, 1) * np.array([1, 257, 4099]) % (full + 1)
    stored = values.astype(dtype)
    image = photo(tmp_path / "a.tif", stored, wide)
    blacks = np.array([0.5, 1, -1]) * black * full
    radiometry = replace(
        resolve_radiometry(image), black=blacks, white=white * full + blacks.max() + 1
    )
    change = np.random.default_rng(0).normal(0, 0.1, stored.shape).astype(np.float32)
    change[:8], change[9, 9] = 0, np.inf
    seen = radiometry.to_model_tile(stored, BANDS)
    result = radiometry.apply_change(stored, change, BANDS, seen=seen)
    np.testing.assert_array_equal(result, radiometry.apply_change(stored, change, BANDS))
    # Of what lies elsewhere the result is another: it was used.
    if abs(black) < 8:
        other = radiometry.apply_change(stored, change, BANDS, seen=1 - seen)
        assert (other != result).any()


def test_colours_beyond_srgb_are_moved_not_clipped(tmp_path: Path, wide: bytes) -> None:
    green = np.zeros((4, 4, 3), np.uint8)
    green[..., 1] = 250
    image = photo(tmp_path / "a.tif", green, wide)
    change = np.full(green.shape, -0.01, np.float32)
    result = resolve_radiometry(image).apply_change(green, change, BANDS)
    assert np.abs(result.astype(int) - green).max() <= 6


def test_models_that_see_not_all_colours_get_them_as_stored(
    tmp_path: Path, noise: Noise, wide: bytes
) -> None:
    image = photo(tmp_path / "a.tif", noise(8, 8, 3, np.uint8), wide)
    stored = image.read((0, 0, 8, 8))
    tile = resolve_radiometry(image).to_model_tile(stored, (1,))
    np.testing.assert_array_equal(tile, stored[..., 1:2] / np.float32(255))


def test_the_profile_goes_into_the_output(tmp_path: Path, noise: Noise, wide: bytes) -> None:
    image = photo(tmp_path / "a.tif", noise(40, 50, 3, np.uint8), wide)
    out = write_image(tmp_path / "b.png", Pixels((0, 0, 40, 50), image.read), like=image)
    assert open_image(out).profile.icc == wide


def test_what_is_said(tmp_path: Path, noise: Noise, wide: bytes) -> None:
    from PIL import Image as Pillow, ImageCms

    pixels = noise(8, 8, 3, np.uint8)
    image = photo(tmp_path / "a.tif", pixels, wide)
    assert image.working_space is not None
    assert sum("Adobe RGB" in note for note in image.notes) == 1
    for number, icc in enumerate(
        (ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
         SRGB)
    ):  # fmt: skip
        same = photo(tmp_path / f"srgb{number}.tif", pixels, icc)
        assert same.working_space is None
        assert same.notes == []
    Pillow.fromarray(pixels).save(tmp_path / "untagged.png")
    untagged = open_image(tmp_path / "untagged.png")
    assert untagged.working_space is None
    assert any("taken as sRGB" in note for note in untagged.notes)
    broken = photo(tmp_path / "broken.tif", pixels, wide[:200])
    assert broken.working_space is None
    assert any("cannot be used" in note for note in broken.notes)


def test_maps_and_arrays_have_no_colour_space(make_tiff: Callable[..., Path], noise: Noise) -> None:
    pixels = noise(8, 8, 3, np.uint8)
    placed = make_tiff(pixels, "map.png", driver="PNG")
    for image in (
        open_image(placed),
        open_image(make_tiff(pixels, photometric="RGB")),
        open_image(pixels),
    ):
        assert image.working_space is None
        assert not any("sRGB" in note for note in image.notes)
