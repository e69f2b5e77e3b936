"""Which pixels are valid, compared with GDAL's masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import tifffile

from napari_restore.images import open_image
from napari_restore.images.values.validity import beside_nodata, is_nodata, may_lack_a_band

LOWEST = -3.4028234663852886e38
NODATA = 42113
"""TIFF tag of GDAL."""


def write(path: Path, pixels: npt.NDArray[Any], nodata: str) -> Path:
    """Write (H, W) with the text of its nodata value, as other programs round it."""
    tifffile.imwrite(
        path,
        pixels,
        photometric="minisblack",
        metadata=None,
        extratags=[(NODATA, 2, 0, nodata, True)],
    )
    return path


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        ("float32", LOWEST, "-3.4028234663852886e+38"),
        ("float32", LOWEST, "-3.40282e+38"),
        ("float32", -3.39999995214436425e38, "-3.4e+38"),
        ("float32", LOWEST, "-3.3e+38"),
        ("float32", 1e20, "1e+20"),
        ("float32", -99999.9, "-99999.9"),
        ("float32", -99999.9, "-99999.8984375"),
        ("float32", 0.1, "0.1"),
        ("float32", -9999.01, "-9999"),
        ("float64", -9999.0001, "-9999"),
        ("float64", LOWEST, "-3.40282e+38"),
        ("float64", -9999.9, "-9999.9"),
        ("float32", -9999, "nan"),
        ("int16", -9999, "-9999"),
        ("int8", -128, "-128"),
        ("uint8", 241, "-9999"),
        ("uint8", 0, "256"),
        ("uint16", 65535, "65535"),
        ("int32", 2147483647, "2147483647"),
    ],
)
def test_nodata_is_what_gdal_takes_for_it(
    tmp_path: Path, dtype: str, value: float, text: str
) -> None:
    pixels = np.full((16, 16), 5, dtype)
    pixels[:4] = value
    path = write(tmp_path / "a.tif", pixels, text)
    with rasterio.open(path) as dataset:
        wanted = dataset.dataset_mask() != 0
    np.testing.assert_array_equal(open_image(path).read_valid((0, 0, 16, 16)), wanted)


@pytest.mark.parametrize("nodata", [-9999.0, LOWEST, 1e20, 0.1, 0.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_beside_nodata_are_no_nodata(nodata: float, dtype: str) -> None:
    low, high = beside_nodata(nodata, np.dtype(dtype))
    assert not is_nodata(np.array([low, high], dtype), nodata).any()
    assert is_nodata(np.array([nodata], dtype), nodata).all()


@pytest.mark.parametrize("sidecar", [False, True])
@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 0), ("uint16", 65535), ("int16", -9999)])
def test_a_mask_beside_nodata_decides(
    tmp_path: Path, dtype: str, nodata: int, sidecar: bool
) -> None:
    path = tmp_path / "a.tif"
    pixels = np.full((3, 32, 32), 50, dtype)
    pixels[:, 8:16, 8:16] = nodata
    mask = np.full((32, 32), True)
    mask[:4] = False
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not sidecar),
        rasterio.open(
            path, "w", driver="GTiff", width=32, height=32, count=3, dtype=dtype, nodata=nodata
        ) as new,
    ):
        new.write(pixels)
        new.write_mask(mask)
    assert (tmp_path / "a.tif.msk").exists() == sidecar
    np.testing.assert_array_equal(open_image(path).read_valid((0, 0, 32, 32)), mask)


def test_alpha_beside_nodata_decides_about_black(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.full((4, 32, 32), 255, np.uint8)
    pixels[:3, 8:16] = 0
    pixels[:, :4] = 0
    profile = {"width": 32, "height": 32, "count": 4, "dtype": "uint8", "nodata": 0}
    with rasterio.open(path, "w", driver="GTiff", photometric="RGB", alpha="YES", **profile) as new:
        new.write(pixels)
    # GDAL's mask of the dataset, too, is 0 only where all bands are.
    np.testing.assert_array_equal(open_image(path).read_valid((0, 0, 32, 32)), pixels[3] != 0)


def test_auxiliary_bands_make_nothing_valid_or_invalid(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.full((4, 32, 32), 500, np.uint16)
    pixels[:3, :8] = 0
    pixels[3] = 1  # fill of the quality band
    pixels[3, 20:] = 0
    profile = {"width": 32, "height": 32, "count": 4, "dtype": "uint16", "nodata": 0}
    with rasterio.open(path, "w", driver="GTiff", **profile) as new:
        new.write(pixels)
        new.descriptions = ("SR_B2", "SR_B3", "SR_B4", "QA_PIXEL")
    valid = open_image(path).read_valid((0, 0, 32, 32))
    assert not valid[:8].any()
    assert valid[8:].all()
    # The user says that it is a band of light.
    assert open_image(path, bands="nir=4").read_valid((0, 0, 32, 32)).all()
    assert open_image(path).with_roles("nir=4").read_valid((0, 0, 32, 32)).all()


def test_values_of_auxiliary_bands_that_are_not_finite_or_nodata(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.full((3, 16, 16), 0.5, np.float32)
    pixels[2, :4], pixels[2, 4:8], pixels[1, 12:] = np.nan, -9999, -9999
    profile = {"width": 16, "height": 16, "count": 3, "dtype": "float32", "nodata": -9999}
    with rasterio.open(path, "w", driver="GTiff", **profile) as new:
        new.write(pixels)
        new.descriptions = ("red", "green", "cloud probability")
    valid = open_image(path).read_valid((0, 0, 16, 16))
    assert valid[:12].all()
    assert not valid[12:].any()


def test_a_band_lacks_only_beside_others_and_where_nodata_is_a_usual_value() -> None:
    dtype = np.dtype(np.int16)
    assert may_lack_a_band((0, 1), 0.0, dtype)
    assert not may_lack_a_band((0,), 0.0, dtype)
    assert not may_lack_a_band((0, 1), -32768.0, dtype)
    assert not may_lack_a_band((0, 1), None, dtype)
