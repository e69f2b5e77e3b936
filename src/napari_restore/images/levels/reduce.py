"""Halving an image: means over blocks of 2 × 2 valid pixels.

The mean of integers is rounded half up, ``floor((2 * sum + n) / (2 * n))`` with `n` the number of
valid pixels of the block, also for negative values; that of floats is summed in float64 and rounded
once. Blocks at an odd edge have the pixels that exist. Every level of every pyramid is made by
`halve`, so that equal pixels give equal overviews wherever they are computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images.values import validity

Pixels = npt.NDArray[Any]
Valid = npt.NDArray[np.bool_]

SMALLEST = 512
"""The long side of the coarsest level is at most this."""
STRIP_BYTES = 1 << 18
"""Rows are summed in strips of about this size, so that sums stay in cache."""


def half(size: int) -> int:
    """Return the size of the next level; an odd pixel at the end counts."""
    return (size + 1) // 2


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return (height, width) of all levels, level 0 first, until the long side is ≤ `SMALLEST`."""
    sizes = [(height, width)]
    while max(sizes[-1]) > SMALLEST:
        sizes.append((half(sizes[-1][0]), half(sizes[-1][1])))
    return sizes


def halve(
    pixels: Pixels,
    valid: Valid | None = None,
    *,
    fill: float | None = None,
    nodata: float | None = None,
) -> tuple[Pixels, Valid | None]:
    """Return the next pyramid level of `pixels` (h, w, C), (ceil(h/2), ceil(w/2), C), and its validity.

    Of any integer, float or bool dtype. Pixels that are not `valid` (h, w) are not part of the means,
    and a block without a valid one becomes `fill`, by default `default_fill`; None: all are, and the
    validity is None. A mean that falls on `nodata`, so that a valid pixel would be read as nodata later,
    is moved to the next value.
    """
    pixels = _even(pixels)
    if valid is None:
        return _off_nodata(_mean(pixels), None, nodata), None
    valid = _even(valid)
    if valid.all():
        result = _mean(pixels)
        counts = None
    else:
        counts = _sum4(valid[..., None].view(np.uint8))
        result = np.empty_like(pixels, shape=(*counts.shape[:2], pixels.shape[2]))
        for top, step in _strips(pixels):
            rows, halved = np.s_[2 * top : 2 * (top + step)], np.s_[top : top + step]
            result[halved] = _mean_valid(pixels[rows], valid[rows], counts[halved])
    has_pixels = np.ones(result.shape[:2], bool) if counts is None else counts[..., 0] > 0
    result[~has_pixels] = validity.default_fill(pixels.dtype, nodata) if fill is None else fill
    return _off_nodata(result, has_pixels, nodata), has_pixels


def _even(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `pixels` with even sides by repeating the last row and column: means stay the same."""
    if array.shape[0] % 2:
        array = np.concatenate([array, array[-1:]], axis=0)
    if array.shape[1] % 2:
        array = np.concatenate([array, array[:, -1:]], axis=1)
    return array


def _sum4(pixels: Pixels) -> Pixels:
    """Return sums over 2 × 2 blocks, of floats in float64, of integers in twice as many bits."""
    dtype = pixels.dtype
    wide = np.dtype("f8" if dtype.kind == "f" else f"{dtype.kind}{2 * dtype.itemsize}")
    rows = np.add(pixels[0::2], pixels[1::2], dtype=wide)
    shape = (rows.shape[0], rows.shape[1] // 2, rows.shape[2])
    sums = np.empty_like(rows, wide, shape=shape)
    # One long strided addition per band is three times faster than one over (…, 3).
    for band in range(rows.shape[2]):
        np.add(rows[:, 0::2, band], rows[:, 1::2, band], out=sums[..., band])
    return sums


def _strips(pixels: Pixels) -> Iterator[tuple[int, int]]:
    """Yield (first row, rows) of the result, for parts whose sums stay in cache."""
    step = max(1, STRIP_BYTES // max(1, 4 * pixels[:1].nbytes))
    return ((top, step) for top in range(0, len(pixels) // 2, step))


def _mean(pixels: Pixels) -> Pixels:
    """Return means over full 2 × 2 blocks."""
    height, width, bands = pixels.shape
    dtype = pixels.dtype
    # In the memory layout of `pixels`, band by band or pixel by pixel.
    result = np.empty_like(pixels, shape=(height // 2, width // 2, bands))
    for top, step in _strips(pixels):
        strip = pixels[2 * top : 2 * (top + step)]
        target = result[top : top + step]
        if dtype == np.float64:
            # Scaling by a power of two is exact and keeps the sum from overflowing.
            sums = _sum4(strip * 0.25)
        elif dtype.kind == "f":
            sums = _sum4(strip)
            sums *= 0.25
        else:
            sums = _sum4(strip)
            sums += sums.dtype.type(2)
            sums >>= sums.dtype.type(2)
        target[...] = sums
    return result


def _mean_valid(pixels: Pixels, valid: Valid, counts: npt.NDArray[np.uint16]) -> Pixels:
    """Return means over the valid pixels of 2 × 2 blocks; `counts` (h/2, w/2, 1) of them."""
    dtype = pixels.dtype
    filled = np.where(valid[..., None], pixels, dtype.type(0))
    divisors = np.maximum(counts, 1)
    if dtype == np.float64:
        share = np.repeat(np.repeat(1.0 / divisors, 2, axis=0), 2, axis=1)
        return _sum4(filled * share)
    sums = _sum4(filled)
    n = divisors.astype(sums.dtype)
    mean: Pixels = sums / n if dtype.kind == "f" else (2 * sums + n) // (2 * n)
    return mean.astype(dtype)


def _off_nodata(pixels: Pixels, has_pixels: Valid | None, nodata: float | None) -> Pixels:
    """Return `pixels` with valid ones that would be read as `nodata` moved by one step."""
    if nodata is None or not np.isfinite(nodata):
        return pixels
    hit = validity.is_nodata(pixels, nodata)
    if not validity.is_sentinel(nodata, pixels.dtype):
        hit = np.logical_and.reduce(hit, axis=-1)
    if has_pixels is not None:
        hit &= has_pixels if hit.ndim == 2 else has_pixels[..., None]
    if hit.any():
        # Upwards, unless it is at the top.
        pixels[hit] = validity.beside_nodata(nodata, pixels.dtype)[1]
    return pixels
