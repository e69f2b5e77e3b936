"""Whole-image statistics, computed once per image and shared by all models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 65536
BLOCK = 16
"""Side in pixels of the patches whose minimum is the context's dark channel."""


def bin_of(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Return a bin number per value, growing with the value, for any dtype.

    8- and 16-bit integers have one bin per value. Other types are binned by the upper 16 bits of
    their float32 pattern (relative width 2**-7), so no range has to be known in advance and partial
    results can be added up.
    """
    dtype = values.dtype
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return values.astype(np.uint16)
    if dtype.kind == "i" and dtype.itemsize <= 2:
        return (values.astype(np.int32) + 32768).astype(np.uint16)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    negative = bits >> 31 == 1
    ordered = np.where(negative, ~bits, bits | np.uint32(0x80000000))
    return (ordered >> 16).astype(np.uint16)


def value_of(bins: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray[np.float64]:
    """Return the lower edge of each bin of `bin_of` for values of `dtype`."""
    b, kind = np.asarray(bins, np.uint32), np.dtype(dtype)
    if kind.kind == "u" and kind.itemsize <= 2:
        return b.astype(np.float64)
    if kind.kind == "i" and kind.itemsize <= 2:
        return b.astype(np.float64) - 32768
    ordered = b << 16
    positive = ordered >> 31 == 1
    bits = np.where(positive, ordered & np.uint32(0x7FFFFFFF), ~ordered)
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Context:
    """Statistics of one image over its valid, not excluded pixels, in source units.

    The dark channel here is the minimum over `dark_bands` and over blocks of
    `BLOCK` × `BLOCK` pixels aligned to the image's origin, so that the statistics do
    not depend on how the pass was tiled.
    """

    height: int
    width: int
    dtype: str
    dark_bands: tuple[int, ...]
    factor: int
    """Level-0 pixels per overview pixel; a power of two, long side ≤ 2048."""
    overview: npt.NDArray[np.float32]
    """(h, w, C) means over valid pixels; NaN where there is none."""
    histograms: npt.NDArray[np.int64]
    """(C, BINS) counts, binned by `bin_of`."""
    dark_counts: npt.NDArray[np.int64]
    """(BINS,) valid pixels in blocks whose dark channel falls in the bin."""
    dark_sums: npt.NDArray[np.float64]
    """(BINS, C) sums of those pixels' values."""

    @property
    def bands(self) -> int:
        return int(self.histograms.shape[0])

    @property
    def valid_pixels(self) -> int:
        return int(self.histograms[0].sum())

    def percentile(self, q: float, bands: tuple[int, ...] | None = None) -> float:
        """Return the value below which `q` percent of the (pooled) bands' pixels lie.

        It is 0 if none are valid.
        """
        pooled = self.histograms[list(bands) if bands is not None else slice(None)].sum(axis=0)
        total = int(pooled.sum())
        if total == 0:
            return 0.0
        rank = min(total - 1, int(np.floor(q / 100 * total)))
        index = int(np.searchsorted(np.cumsum(pooled), rank, side="right"))
        return float(value_of(index, self.dtype))

    def brightest_dark(self, share: float) -> npt.NDArray[np.float64]:
        """Return (C,) mean colour of the `share` of pixels with the largest dark channel.

        This is the candidate set for the airlight (He, Sun, Tang, CVPR 2009, section 4.4), taken
        over blocks. Zeros if no pixel is valid.
        """
        counts, sums = self.dark_counts[::-1], self.dark_sums[::-1]
        total = int(counts.sum())
        if total == 0:
            return np.zeros(self.bands)
        last = int(np.searchsorted(np.cumsum(counts), max(1, int(np.ceil(share * total)))))
        chosen: npt.NDArray[np.float64] = sums[: last + 1].sum(axis=0)
        return chosen / int(counts[: last + 1].sum())
