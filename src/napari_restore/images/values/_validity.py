"""Validity of pixels: nodata, alpha, finite values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Nodata = tuple[float | None, ...]
"""Per band of the file; None where no value of its dtype means nodata."""


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


def is_sentinel(nodata: float | None, dtype: np.dtype[Any]) -> bool:
    """Return whether `nodata` is a value that no real pixel of `dtype` has."""
    return dtype.kind in "fi" and nodata is not None and nodata != 0


def default_fill(dtype: np.dtype[Any], nodata: float | None) -> float:
    """Return the value of pixels where nothing is valid: nodata, else NaN for floats, else 0."""
    if nodata is not None:
        return nodata
    return float("nan") if dtype.kind in "fc" else 0


def valid_by_values(
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    alpha: int | None,
    nodata: Nodata,
) -> npt.NDArray[np.bool_]:
    """Return `valid` without pixels that are transparent, not finite, or nodata.

    Floats and signed integers have nodata values that no real pixel has (-9999, the least value):
    one band of it is enough, for it must not reach statistics or neighbours. 0, and any value of
    unsigned integers, may be real in a single band: there all data bands must have it.
    """
    bands = [b for b in range(pixels.shape[2]) if b != alpha]
    if alpha is not None:
        valid &= pixels[..., alpha] != 0
    if pixels.dtype.kind == "f":
        for band in bands:
            valid &= np.isfinite(pixels[..., band])
    if len(nodata) != pixels.shape[2]:
        return valid
    for band in bands:
        if is_sentinel(nodata[band], pixels.dtype):
            valid &= pixels[..., band] != nodata[band]
    if all(nodata[b] is not None for b in bands):
        empty = np.ones(valid.shape, bool)
        for band in bands:
            empty &= pixels[..., band] == nodata[band]
        valid &= ~empty
    return valid
