"""Validity of pixels: nodata, alpha, finite values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Nodata = tuple[float | None, ...]
"""Per band of the file; None where no value of its dtype means nodata."""
TOLERANCE = 2 * 2.0**-23
"""Share of the sum of two floats, of both widths, below which their difference is none to GDAL."""


def as_dtype(value: float | None, dtype: np.dtype[Any]) -> float | None:
    """Return `value` as a pixel would store it; None if it cannot."""
    if value is None:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return float(dtype.type(value))
    limits = np.iinfo(dtype)
    if not np.isfinite(value) or value != int(value) or not limits.min <= value <= limits.max:
        return None
    return float(value)


def nodata_bounds(nodata: float, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the least and the largest value that GDAL takes for `nodata` in pixels of `dtype`."""
    if dtype.kind != "f" or nodata == 0 or not np.isfinite(nodata):
        return nodata, nodata
    # Floats have a tolerance, for a header's text is often a rounding of what the pixels have
    # (-3.40282e+38). Near the ends of the range GDAL's sum overflows, and all of that size is
    # nodata.
    size, limits = abs(nodata), np.finfo(dtype)
    near, far = size * (1 - TOLERANCE) / (1 + TOLERANCE), size * (1 + TOLERANCE) / (1 - TOLERANCE)
    top = float(limits.max)
    if size > top / 2:
        near, far = min(near, top - size + top * float(limits.epsneg)), top
    return (near, far) if nodata > 0 else (-far, -near)


def is_nodata(values: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.bool_]:
    """Return where `values`, of any shape, are `nodata`; see `nodata_bounds`."""
    if nodata is None:
        return np.zeros(values.shape, bool)
    low, high = nodata_bounds(nodata, values.dtype)
    if low == high:
        equal: npt.NDArray[np.bool_] = values == nodata
        return equal
    within: npt.NDArray[np.bool_] = (values >= low) & (values <= high)
    return within


def beside_nodata(nodata: float, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the values of `dtype` next below and above `nodata` that are not taken for it."""
    # At an end of the range both are on the same side.
    if dtype.kind == "f":
        low, high = nodata_bounds(nodata, dtype)
        with np.errstate(over="ignore"):
            down = np.nextafter(dtype.type(low), dtype.type(-np.inf))
            up = np.nextafter(dtype.type(high), dtype.type(np.inf))
        ends: tuple[float, float] = -np.inf, np.inf
    else:
        down, up = int(nodata) - 1, int(nodata) + 1
        ends = np.iinfo(dtype).min - 1, np.iinfo(dtype).max + 1
    down, up = (up if down <= ends[0] else down), (down if up >= ends[1] else up)
    return dtype.type(down), dtype.type(up)


def is_sentinel(nodata: float | None, dtype: np.dtype[Any]) -> bool:
    """Return whether `nodata` is a value that no real pixel of `dtype` has."""
    return dtype.kind in "fi" and nodata is not None and nodata != 0


def default_fill(dtype: np.dtype[Any], nodata: float | None) -> float:
    """Return the value of pixels where nothing is valid: nodata, else NaN for floats, else 0."""
    if nodata is not None:
        return nodata
    return float("nan") if dtype.kind == "f" else 0


def valid_by_values(
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    bands: Sequence[int],
    alpha: int | None,
    nodata: Nodata,
) -> npt.NDArray[np.bool_]:
    """Return `valid` without pixels that are transparent, not finite, or nodata."""
    # Only `bands` count: neither alpha nor what is no light (`Reader.data_bands`). Floats and
    # signed integers have nodata values that no real pixel has (-9999, the least value): one band
    # of it is enough, for it must not reach statistics or neighbours. 0, and any value of unsigned
    # integers, may be real in a single band: there all must have it. Where there is alpha it
    # decides about these, as in GDAL.
    if alpha is not None:
        valid &= pixels[..., alpha] != 0
    if pixels.dtype.kind == "f":
        for band in bands:
            valid &= np.isfinite(pixels[..., band])
    if len(nodata) != pixels.shape[2]:
        return valid
    for band in bands:
        if is_sentinel(nodata[band], pixels.dtype):
            valid &= ~is_nodata(pixels[..., band], nodata[band])
    if alpha is None and all(nodata[b] is not None for b in bands):
        empty = np.ones(valid.shape, bool)
        for band in bands:
            empty &= is_nodata(pixels[..., band], nodata[band])
        valid &= ~empty
    return valid


Mask = npt.NDArray[np.bool_]
KERNEL = 3
"""Pixels from nodata up to which resampling mixes it in: Lanczos reaches 3, cubic 2, bilinear 1."""
STAGGER = 16
"""Pixels by which bands of a scanner may end apart; 8 is the most seen in Landsat scenes."""
REACH = STAGGER + 2 * KERNEL + 1
"""Pixels around a box that `clear_of_edges` must see to be right within it."""


def may_lack_a_band(bands: tuple[int, ...], nodata: float | None, dtype: np.dtype[Any]) -> bool:
    """Return whether a valid pixel may be nodata in one of `bands`."""
    # Where nodata is a value that no real pixel has, one band of it makes a pixel invalid.
    return nodata is not None and len(bands) > 1 and not is_sentinel(nodata, dtype)


def lacks_a_band(pixels: npt.NDArray[Any], bands: tuple[int, ...], nodata: float | None) -> Mask:
    """Return (h, w) True where one of `bands` of `pixels` (h, w, C) is nodata."""
    lacking = np.zeros(pixels.shape[:2], bool)
    for band in bands:
        lacking |= is_nodata(pixels[..., band], nodata)
    return lacking


def clear_of_edges(valid: Mask, lacking: Mask | None) -> Mask:
    """Return (h, w) the pixels of `valid` whose values statistics can rely on."""
    # Left out are those within `KERNEL` of nodata, where resampling has darkened them, and those
    # that lack a band between nodata and complete pixels, where bands end apart, with what is
    # within `KERNEL` of them. In parts too narrow to have any other, pixels count; so there is
    # always one within `REACH` of a valid pixel.
    there = valid
    if lacking is not None and lacking.any():
        between = widened(~valid, STAGGER) & widened(valid & ~lacking, STAGGER)
        there = valid & ~(lacking & between)
    inner = ~widened(~there, KERNEL)
    return inner | (there & ~widened(inner, KERNEL + 1))


def widened(mask: Mask, radius: int) -> Mask:
    """Return True within `radius` rows and columns of a True pixel of `mask` (h, w)."""
    size = 2 * radius + 1
    for _ in range(2):
        mask = np.pad(mask.T, ((radius, radius), (0, 0)))
        covered = 1
        while covered < size:
            step = min(covered, size - covered)
            mask = mask[:-step] | mask[step:]
            covered += step
    return mask
