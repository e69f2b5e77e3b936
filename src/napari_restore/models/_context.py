"""Statistics of the whole image, computed once per image block by block, shared by all models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 65536
BLOCK = 16
"""Side in pixels of the patches whose minimum is the context's dark channel."""


def bin_of(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Return a bin number per value, growing with the value, for any dtype."""
    # 8- and 16-bit integers have one bin per value. Other types are binned by the upper 16 bits of
    # their float32 pattern (relative width 2**-7), so no range has to be known in advance and
    # partial results can be added up.
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
    roles: tuple[str | None, ...] = ()
    """Roles of the bands of images that share it, where they are known; () of one image's own."""

    @property
    def bands(self) -> int:
        return int(self.histograms.shape[0])

    @property
    def valid_pixels(self) -> int:
        return int(self.histograms[0].sum())

    def percentile(self, q: float, bands: tuple[int, ...] | None = None) -> float:
        """Return the value below which `q` percent of the (pooled) bands' pixels lie; 0 if none are valid."""
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


OVERVIEW_SIDE = 2048


def overview_factor(height: int, width: int) -> int:
    """Return the power of two by which the long side shrinks to at most `OVERVIEW_SIDE`."""
    factor = 1
    while -(-max(height, width) // factor) > OVERVIEW_SIDE:
        factor *= 2
    return factor


STRIP = 128
"""Rows of a block that are counted at a time, a multiple of `BLOCK`: sums are in float64."""


@dataclass(frozen=True)
class BlockStatistics:
    """Statistics of one block of pixels, its part of a `Context`."""

    histograms: npt.NDArray[np.int64]
    """(C, BINS)."""
    dark_counts: npt.NDArray[np.int64]
    dark_sums: npt.NDArray[np.float64]

    def plus(self, other: BlockStatistics | None) -> BlockStatistics:
        """Return the sum of the statistics of both blocks; None is one without statistics."""
        if other is None:
            return self
        return BlockStatistics(
            self.histograms + other.histograms,
            self.dark_counts + other.dark_counts,
            self.dark_sums + other.dark_sums,
        )


def block_statistics(
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_] | None,
    dark_bands: tuple[int, ...],
    factor: int,
    overview: npt.NDArray[np.float32],
) -> BlockStatistics | None:
    """Return the statistics of `pixels` (h, w, C); `valid` (h, w) or None for all.

    None if no pixel is valid. Only `overview`, (h, w, C) on cells of `factor` pixels, is written
    to.
    """
    if valid is not None and valid.all():
        valid = None
    if valid is not None and not valid.any():
        return None
    fine = min(factor, BLOCK)
    height, _, bands = pixels.shape
    histograms = np.zeros((bands, BINS), np.int64)
    strips = []
    for top in range(0, height, STRIP):
        part = pixels[top : top + STRIP]
        known = None if valid is None else valid[top : top + STRIP]
        counts, sums = _block_sums(part, known, fine)
        if factor == fine:
            overview[top // factor :][: len(counts)] = _means(counts, sums)
        dark = _block_minimum(part[..., list(dark_bands)], known, BLOCK)
        strips.append((_pool(counts, BLOCK // fine), _pool(sums, BLOCK // fine), dark))
        for total, found in zip(histograms, _histograms(part, known), strict=True):
            total[: len(found)] += found
    counts, sums, dark = (np.concatenate(parts) for parts in zip(*strips, strict=True))
    used = counts > 0
    bins = bin_of(dark[used])
    dark_counts = np.bincount(bins, counts[used], BINS).astype(np.int64)
    columns = [np.bincount(bins, sums[used, b], BINS) for b in range(bands)]
    dark_sums = np.stack(columns, axis=1).astype(np.float64, copy=False)
    if factor != fine:
        step = factor // BLOCK
        overview[:] = _means(_pool(counts, step), _pool(sums, step))
    return BlockStatistics(histograms, dark_counts, dark_sums)


class ContextPass:
    """Sum of the blocks of one image; their order changes sums by rounding only.

    Blocks must start at multiples of both `BLOCK` and the overview factor, and end there or at the
    image's edge. Not thread safe: add blocks in one fixed order to get the same bytes every time.
    """

    def __init__(
        self,
        height: int,
        width: int,
        bands: int,
        dtype: npt.DTypeLike,
        dark_bands: tuple[int, ...],
    ) -> None:
        self.factor = overview_factor(height, width)
        rows, columns = -(-height // self.factor), -(-width // self.factor)
        self._context = Context(
            height,
            width,
            np.dtype(dtype).str,
            dark_bands,
            self.factor,
            overview=np.full((rows, columns, bands), np.nan, np.float32),
            histograms=np.zeros((bands, BINS), np.int64),
            dark_counts=np.zeros(BINS, np.int64),
            dark_sums=np.zeros((BINS, bands), np.float64),
        )

    def add(
        self, y0: int, x0: int, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None
    ) -> None:
        """Add `pixels` (h, w, C) whose top left pixel is (y0, x0); `valid` as in `block_statistics`."""
        self.add_statistics(self.measure(y0, x0, pixels, valid))

    def measure(
        self, y0: int, x0: int, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None
    ) -> BlockStatistics | None:
        """Return the statistics of a block, for `add_statistics`; writes its part of the overview."""
        # Several threads may measure different blocks at once.
        overview_part = self.overview_of(y0, x0, pixels.shape[:2])
        dark_bands = self._context.dark_bands
        return block_statistics(pixels, valid, dark_bands, self.factor, overview_part)

    def overview_of(self, y0: int, x0: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Return the part of the overview, (h, w, C), of a block of `shape` pixels: a view."""
        rows, columns = (-(-side // self.factor) for side in shape)
        top, left = y0 // self.factor, x0 // self.factor
        return self._context.overview[top : top + rows, left : left + columns]

    def add_statistics(self, statistics: BlockStatistics | None) -> None:
        """Add the statistics that `measure` returned for a block."""
        if statistics is None:
            return
        self._context.histograms[:] += statistics.histograms
        self._context.dark_counts[:] += statistics.dark_counts
        self._context.dark_sums[:] += statistics.dark_sums

    def finish(self) -> Context:
        return self._context


def context_of(
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_] | None = None,
    dark_bands: tuple[int, ...] | None = None,
) -> Context:
    """Return the context of an array (H, W, C) in memory."""
    height, width, bands = pixels.shape
    dark = tuple(range(bands)) if dark_bands is None else dark_bands
    whole = ContextPass(height, width, bands, pixels.dtype, dark)
    whole.add(0, 0, pixels, valid)
    return whole.finish()


def _histograms(
    pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None
) -> list[npt.NDArray[np.int64]]:
    """Return counts per bin and band, cut after the last used bin."""
    bands = [
        pixels[..., b] if valid is None else pixels[..., b][valid] for b in range(pixels.shape[2])
    ]
    return [np.bincount(bin_of(np.ascontiguousarray(band)).ravel()) for band in bands]


def _pad(array: npt.NDArray[Any], block: int, value: Any) -> npt.NDArray[Any]:
    """Return the array padded at bottom and right to whole blocks, filled with `value`."""
    bottom, right = -array.shape[0] % block, -array.shape[1] % block
    if not (bottom or right):
        return array
    widths = [(0, bottom), (0, right)] + [(0, 0)] * (array.ndim - 2)
    return np.pad(array, widths, constant_values=value)


def _pool(array: npt.NDArray[Any], block: int) -> npt.NDArray[Any]:
    """Return sums over `block` × `block` cells of the first two axes."""
    if block == 1:
        return array
    padded = _pad(array, block, 0)
    rows = np.add.reduceat(padded, np.arange(0, padded.shape[0], block), axis=0)
    return np.add.reduceat(rows, np.arange(0, padded.shape[1], block), axis=1)


def _means(counts: npt.NDArray[np.int64], sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return (h, w, C) means; NaN where no pixel was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means: npt.NDArray[np.float32] = (sums / counts[..., None]).astype(np.float32)
    return means


def _block_sums(
    pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None, block: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return valid pixels per `block`² cell (a power of two), and their sums per band."""
    small = pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2
    wide = np.uint32 if small else np.float64
    if valid is not None:
        pixels = np.where(valid[..., None], pixels, pixels.dtype.type(0))
    padded = _pad(pixels, block, 0)
    # Bands one by one and columns pair by pair: numpy adds long rows of equal steps fastest.
    planes = []
    for band in range(pixels.shape[2]):
        plane: npt.NDArray[Any] = padded[::block, :, band].astype(wide)
        for row in range(1, block):
            plane += padded[row::block, :, band]
        planes.append(_add_columns(plane, block))
    sums = np.stack(planes, axis=2).astype(np.float64, copy=False)
    if valid is None:
        # Pixels in each cell along an axis: fewer in the last.
        heights, widths = (
            np.minimum(block, n - np.arange(0, n, block, dtype=np.int64)) for n in pixels.shape[:2]
        )
        return heights[:, None] * widths, sums
    counted = _pad(valid, block, False)
    rows = counted.reshape(counted.shape[0] // block, block, -1).sum(axis=1, dtype=np.int64)
    return _add_columns(rows, block), sums


def _add_columns(plane: npt.NDArray[Any], block: int) -> npt.NDArray[Any]:
    while block > 1:
        plane = plane[:, 0::2] + plane[:, 1::2]
        block //= 2
    return plane


def _block_minimum(
    pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None, block: int
) -> npt.NDArray[Any]:
    """Return the smallest valid value per block over all given bands."""
    top = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else np.inf
    darkest = pixels[..., 0]
    for band in range(1, pixels.shape[2]):
        darkest = np.minimum(darkest, pixels[..., band])
    if valid is not None:
        darkest = np.where(valid, darkest, pixels.dtype.type(top))
    padded = _pad(darkest, block, top)
    rows = padded.reshape(padded.shape[0] // block, block, -1).min(axis=1)
    minimum: npt.NDArray[Any] = rows.reshape(rows.shape[0], -1, block).min(axis=2)
    return minimum
