"""Bands of classes, bits and angles are copied, and change nothing in the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio

import napari_restore as nr
from napari_restore.engine.statistics.bands import corrected_bands
from napari_restore.errors import UnknownBands

SIZE = (150, 180)
NAMES = ("B2", "B3", "B4", "B8", "SCL")
ROLES = "blue=1,green=2,red=3,nir=4"
LIGHT = slice(0, 4)


def scene(dtype: str = "uint16") -> npt.NDArray[Any]:
    """Return (H, W, 4), blue first, with haze that grows to the right."""
    rng = np.random.default_rng(4)
    ground = np.kron(rng.random((15, 18, 4)), np.ones((10, 10, 1))) * 2000 + 400
    haze = np.linspace(0, 2500, SIZE[1])[None, :, None] * np.array([1, 0.8, 0.6, 0.3])
    return (ground + haze).astype(dtype)


def write(path: Path, light: npt.NDArray[Any], other: npt.NDArray[Any], **profile: Any) -> Path:
    bands = np.dstack([light, other]).transpose(2, 0, 1)
    shape = {"count": len(bands), "height": SIZE[0], "width": SIZE[1], "dtype": bands.dtype}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 4e5, 0, -10, 5e6)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **profile) as new:
        new.write(bands)
        new.descriptions = NAMES
    return path


def restored(path: Path, model: str, scratch: Path, **options: Any) -> npt.NDArray[Any]:
    image = nr.open_image(path, bands=ROLES)
    return np.asarray(nr.restore(image, model, progress=False, scratch=scratch, **options))


CLASSES = {
    "codes": lambda rng: rng.integers(0, 12, SIZE),
    "bits": lambda rng: rng.integers(20000, 60000, SIZE),
    "nothing": lambda rng: np.zeros(SIZE),
}


@pytest.mark.parametrize("model", ["dcp", "hot", "htm"])
def test_whatever_they_hold(tmp_path: Path, model: str) -> None:
    light, results = scene(), []
    for name, make in CLASSES.items():
        other = make(np.random.default_rng(8)).astype("uint16")
        out = restored(write(tmp_path / f"{name}.tif", light, other), model, tmp_path)
        np.testing.assert_array_equal(out[..., 4], other)
        results.append(out[..., LIGHT])
    assert (results[0] != light).mean() > 0.1
    for each in results[1:]:
        np.testing.assert_array_equal(each, results[0])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["atmosphere-aerial", "haze-unet"])
@pytest.mark.ids("nightly", "atmosphere-aerial", "haze-unet")
def test_whatever_they_hold_beside_networks(tmp_path: Path, model: str) -> None:
    test_whatever_they_hold(tmp_path, model)


def test_values_that_are_no_numbers_and_nodata_in_them(tmp_path: Path) -> None:
    light, other = scene("float32"), np.full(SIZE, 0.5, np.float32)
    plain = restored(write(tmp_path / "a.tif", light, other, nodata=-9999), "hot", tmp_path)
    other[:60], other[60:120] = np.nan, -9999
    path = write(tmp_path / "b.tif", light, other, nodata=-9999)
    out = restored(path, "hot", tmp_path)
    np.testing.assert_array_equal(out[..., LIGHT], plain[..., LIGHT])
    np.testing.assert_array_equal(out[..., 4], other)


@pytest.mark.parametrize("fill", [0, 1])
def test_a_collar_is_invalid_whatever_fills_the_bits(tmp_path: Path, fill: int) -> None:
    light, other = scene(), np.full(SIZE, 21824, np.uint16)
    light[:40], other[:40] = 0, fill
    path = write(tmp_path / "a.tif", light, other, nodata=0)
    result = nr.restore(nr.open_image(path, bands=ROLES), "dcp", progress=False, scratch=tmp_path)
    np.testing.assert_array_equal(np.asarray(result)[:40, :, LIGHT], 0)
    shares = result.record["measured"]["quality_shares"]
    assert shares["nodata"] == pytest.approx(40 / SIZE[0])


def test_the_user_says_that_a_band_is_of_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    pixels = np.dstack([scene(), rng.integers(0, 12, SIZE)]).astype("uint16")
    image = nr.open_image(pixels, bands=f"{ROLES},class=5")
    out = np.asarray(nr.restore(image, "hot", progress=False, scratch=tmp_path))
    np.testing.assert_array_equal(out[..., 4], pixels[..., 4])
    assert (out[..., LIGHT] != pixels[..., LIGHT]).any()


def test_plans_name_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", scene(), np.zeros(SIZE, "uint16"))
    plan = nr.plan(nr.open_image(path, bands=ROLES), "dcp")
    assert "Not light, and copied: band 5 (SCL)." in plan.notes


def test_dropped_with_the_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", scene(), np.zeros(SIZE, "uint16"))
    assert restored(path, "dcp", tmp_path, other_bands="drop").shape[2] == 3


def described(waves: tuple[float | None, ...]) -> nr.Image:
    rng = np.random.default_rng(0)
    image = nr.open_image(
        0.5 + 0.3 * rng.random((60, 70, len(waves))), bands="blue=1,green=2,red=3"
    )
    bands = image.described
    image.described = type(bands)(bands.roles, waves)
    return image


def test_a_band_without_a_wavelength_leaves_the_others_to_be_corrected(tmp_path: Path) -> None:
    image = described((480, 560, 660, 850, None))
    plan = nr.plan(image, "dcp")
    assert plan.reading.other_bands == "correct"
    assert corrected_bands(image, plan.bands) == (3,)
    assert any("Bands 4 are corrected" in note and "5 are not" in note for note in plan.notes)
    out = np.asarray(nr.restore(image, "dcp", progress=False, scratch=tmp_path))
    source = image.read((0, 0, 60, 70))
    np.testing.assert_array_equal(out[..., 4], source[..., 4])
    assert (out[..., 3] != source[..., 3]).any()
    # As if it were alone.
    four = image.with_bands((0, 1, 2, 3))
    alone = np.asarray(nr.restore(four, "dcp", progress=False, scratch=tmp_path))
    np.testing.assert_array_equal(out[..., :4], alone)


def test_nothing_to_correct_is_said(tmp_path: Path) -> None:
    image = described((480, 560, 660, None, None))
    assert nr.plan(image, "dcp").reading.other_bands == "copy"
    with pytest.raises(UnknownBands, match="cannot be corrected"):
        nr.plan(image, "dcp", other_bands="correct")
