"""Halving: exact rounding, validity, edges, every dtype."""

from __future__ import annotations

import numpy as np
import pytest

from napari_restore.images import halve, level_sizes
from napari_restore.images._reader import SUPPORTED
from napari_restore.images.values.validity import beside_nodata, is_nodata

DTYPES = sorted(SUPPORTED)


def samples(dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Values over the whole range of `dtype`."""
    rng = np.random.default_rng(7)
    if dtype.kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    return np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


def by_hand(pixels: np.ndarray, valid: np.ndarray, fill: float) -> np.ndarray:
    """The documented rule, pixel by pixel, in exact integers."""
    height, width, bands = pixels.shape
    result = np.empty((-(-height // 2), -(-width // 2), bands), pixels.dtype)
    for y in range(result.shape[0]):
        for x in range(result.shape[1]):
            block = np.s_[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            for band in range(bands):
                values = [v.item() for v in pixels[block][valid[block]][:, band]]
                if not values:
                    result[y, x, band] = fill
                elif pixels.dtype.kind == "f":
                    result[y, x, band] = np.float64(sum(values)) / len(values)
                else:
                    total = sum(int(v) for v in values)
                    result[y, x, band] = (2 * total + len(values)) // (2 * len(values))
    return result


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(8, 6, 3), (7, 5, 1), (1, 1, 4), (1, 6, 2)])
def test_every_dtype_follows_the_rule(name: str, shape: tuple[int, int, int]) -> None:
    dtype = np.dtype(name)
    pixels = samples(dtype, shape)
    valid = np.random.default_rng(3).random(shape[:2]) < 0.6
    valid[: 2 * (shape[0] // 4), :2] = False
    everywhere = np.ones(shape[:2], bool)

    whole, nothing = halve(pixels)
    some, found = halve(pixels, valid, fill=1)

    assert nothing is None and found is not None
    rtol = {"float64": 1e-12, "float16": 2**-10}.get(name, 0)
    for halved, weighed in ((whole, everywhere), (some, valid)):
        expected = by_hand(pixels, weighed, 1)
        assert (halved.shape, halved.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(halved, expected, rtol=rtol)
    for y in range(found.shape[0]):
        for x in range(found.shape[1]):
            assert found[y, x] == valid[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].any()


def test_all_valid_equals_no_mask() -> None:
    pixels = samples(np.dtype("u1"), (9, 9, 3))
    masked, found = halve(pixels, np.ones((9, 9), bool))
    np.testing.assert_array_equal(masked, halve(pixels)[0])
    assert found is not None and found.all()


def test_invalid_nan_does_not_spread() -> None:
    pixels = np.full((4, 4, 1), 5, np.float32)
    pixels[0, 0] = np.nan
    pixels[2:, 2:] = np.inf
    result, found = halve(pixels, np.isfinite(pixels[..., 0]), fill=np.nan)
    assert found is not None
    assert result[0, 0, 0] == 5 and found[0, 0]
    assert np.isnan(result[1, 1, 0]) and not found[1, 1]


def test_largest_values_do_not_overflow() -> None:
    for name in ("f4", "f8", "u4", "i4", "u2"):
        dtype = np.dtype(name)
        top = np.finfo(dtype).max if dtype.kind == "f" else np.iinfo(dtype).max
        pixels = np.full((4, 4, 2), top, dtype)
        np.testing.assert_array_equal(halve(pixels)[0], pixels[:2, :2])
        valid = np.ones((4, 4), bool)
        valid[0, 0] = False
        np.testing.assert_allclose(halve(pixels, valid)[0], pixels[:2, :2], rtol=1e-15)


def test_a_valid_mean_never_becomes_nodata() -> None:
    pixels = np.array([[-9998, -10000], [-9998, -10000]], np.int16)[..., None]
    valid = np.ones((2, 2), bool)
    assert halve(pixels, valid, fill=-9999, nodata=-9999)[0].item() == -9998
    assert halve(pixels, valid)[0].item() == -9999
    two = np.concatenate([pixels, pixels + 50], axis=2)
    assert halve(two, valid, nodata=-9999)[0].tolist() == [[[-9998, -9949]]]
    # Of unsigned integers one band alone may hold the value: such a pixel is valid.
    two = np.array([[[2, 4], [4, 6]], [[2, 4], [4, 6]]], np.uint8)
    assert halve(two, valid, nodata=3)[0].tolist() == [[[3, 5]]]


def test_next_value_stays_in_range() -> None:
    assert beside_nodata(255, np.dtype("u1"))[1] == 254
    assert beside_nodata(0, np.dtype("u1"))[1] == 1
    # The nearest that GDAL does not take for nodata as well.
    _, above = beside_nodata(-9999.0, np.dtype("f4"))
    assert -9999 < above < -9998.9
    assert not is_nodata(np.array([above]), -9999.0).any()


def test_level_sizes_end_at_512() -> None:
    assert level_sizes(30000, 20001)[-1] == (469, 313)
    assert level_sizes(512, 3) == [(512, 3)]
    assert level_sizes(513, 1) == [(513, 1), (257, 1)]
