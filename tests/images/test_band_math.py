"""Expressions over bands: their language, their bands, reflectance and nodata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import napari_restore as nr
from napari_restore.errors import BadParameter
from napari_restore.images import BandMath, BandValues, combinations, indices

NAMES = ("SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B6", "SR_B7", "QA_PIXEL")


def number_of(reflectance: float) -> int:
    """The integer of Landsat Collection 2 Level-2."""
    return round((reflectance + 0.2) / 2.75e-5)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """A Landsat stack of known reflectance, with a column without data and one band missing."""
    truth = [0.05, 0.08, 0.1, 0.4, 0.2, 0.15]
    pixels = np.stack([np.full((40, 60), number_of(value), np.uint16) for value in truth])
    pixels = np.concatenate([pixels, np.full((1, 40, 60), 21824, np.uint16)])
    pixels[:, :, 0] = 0
    # Near infrared lacks here; other bands have values.
    pixels[3, :, 1] = 0
    path = tmp_path / "stack.tif"
    profile = {"driver": "GTiff", "height": 40, "width": 60, "count": 7, "dtype": "uint16"}
    place = from_origin(300000, 4000000, 30, 30)
    with rasterio.open(path, "w", nodata=0, crs="EPSG:32654", transform=place, **profile) as file:
        file.write(pixels)
        for number, name in enumerate(NAMES, start=1):
            file.set_band_description(number, name)
    return path


def test_ndvi_is_of_reflectance_and_nan_without_data(stack: Path):
    ndvi = nr.band_math(stack, "ndvi")
    assert (ndvi.shape, ndvi.dtype) == ((40, 60), np.float32)
    values = ndvi.compute()
    assert np.isnan(values[:, :2]).all()
    np.testing.assert_allclose(values[:, 2:], 0.6, atol=2e-4)


def test_evi_needs_the_scale(stack: Path):
    values = nr.band_math(stack, "EVI").compute()[:, 2:]
    np.testing.assert_allclose(values, 2.5 * 0.3 / (0.4 + 0.6 - 7.5 * 0.05 + 1), atol=2e-3)


def test_a_zero_that_was_subtracted_already(stack: Path):
    image = nr.open_image(stack)
    values = BandValues.of(image, black=0)
    assert values.zeros[0] == 0 and values.scales[0] == 2.75e-5
    assert values.is_reflectance == (True,) * 6 + (False,)
    # Bits are no light: they stay what they are.
    assert (values.zeros[6], values.scales[6]) == (0, 1)


@pytest.mark.parametrize(
    ("text", "band"),
    [
        *(("nir", 3), ("b5", 3), ("B05", 3), ("sr_b5", 3), ("'SR_B5'", 3), ("swir1", 4)),
        *(("swir2", 5), ("QA_PIXEL", 6), ("swir", 4)),
    ],
)
def test_names_of_bands(stack: Path, text: str, band: int):
    assert list(BandMath(nr.open_image(stack), text).bands.values()) == [band]


def test_a_number_is_no_band_where_the_file_counts_otherwise(stack: Path):
    # The first band is B2: "b1" must not be it.
    with pytest.raises(BadParameter, match="no band 'b1'"):
        BandMath(nr.open_image(stack), "b1")


def test_numbers_where_nothing_is_named():
    image = nr.open_image(np.arange(24, dtype=np.int32).reshape(2, 3, 4))
    assert list(BandMath(image, "b4 / b1").bands.values()) == [3, 0]
    with pytest.raises(BadParameter, match="no band 'b5'"):
        BandMath(image, "b5")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "nir.real",
        "[nir]",
        "nir if red else green",
        "lambda: nir",
        "(nir := red)",
        "f'{nir}'",
        "sqrt(nir, red)",
        "sqrt(x=nir)",
        "nir < red",
        "True + nir",
        "1 + 1",
        "",
        "nir +",
        "(" * 300 + "nir" + ")" * 300,
        "+".join(["nir"] * 400),
        "no_such_band",
    ],
)
def test_what_is_no_arithmetic_of_bands_is_refused(stack: Path, text: str):
    with pytest.raises(BadParameter):
        BandMath(nr.open_image(stack), text)


def test_large_powers_end_at_once(stack: Path):
    assert np.isnan(nr.band_math(stack, "9**9**9**9 * nir").compute()).all()


def test_functions_and_signs(stack: Path):
    values = nr.band_math(stack, "max(-red, sqrt(abs(nir))) ** 2").compute()[:, 2:]
    np.testing.assert_allclose(values, 0.4, atol=2e-4)


def test_levels_have_their_own_shape():
    pixels = np.random.default_rng(0).uniform(0.1, 0.9, (150, 90, 2)).astype(np.float32)
    image = nr.open_image([pixels, pixels[::2, ::2]], bands="red=1,nir=2")
    assert len(image.level_shapes) == 2
    for level, shape in enumerate(image.level_shapes):
        assert nr.band_math(image, "ndvi", level=level).shape == shape
    part = nr.band_math(image, "nir - red", level=1)[:8, :8].compute()
    below = image.read((0, 0, 8, 8), 1)
    np.testing.assert_allclose(part, below[..., 1] - below[..., 0], atol=1e-6)
    with pytest.raises(BadParameter, match="no level 9"):
        nr.band_math(image, "ndvi", level=9)


def test_only_what_the_bands_allow_is_offered(stack: Path):
    image = nr.open_image(stack)
    assert combinations(image)["False colour infrared"] == (3, 2, 1)
    assert "Short-wave infrared" in combinations(image)
    assert "Vegetation, red edge" not in combinations(image)
    photo = nr.open_image(np.zeros((4, 4, 3), np.uint8))
    assert list(combinations(photo)) == ["Natural colour"]
    assert indices(photo) == [] and "NDVI" in indices(image)


def test_before_after_and_the_share_that_differs(stack: Path):
    result = nr.restore(stack, "dcp", region=nr.Region(0, 0, 40, 30), device="cpu")
    change = nr.band_math_change(result, "NDVI")
    assert change.before.shape == change.after.shape == (40, 30)
    difference = change.difference.compute()
    valid = np.isfinite(difference)
    assert change.share(0.01) == pytest.approx((np.abs(difference[valid]) > 0.01).mean())
    assert np.isnan(difference[:, :2]).all()
    plain = result.with_adjustment(nr.questions.Adjustment(strength=0.0))
    assert nr.band_math_change(plain, "NDVI").warning() is None
