"""All levels of an image computed from its rows in order, in the memory of a few bands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._source import CHUNK, Level
from napari_restore.images.levels.reduce import halve, level_sizes

BAND_BYTES = 48 << 20
"""Approximate bytes of a band of rows."""
LEAST_ROWS = 16

Sink = Callable[[int, int, npt.NDArray[Any], npt.NDArray[np.bool_] | None], None]
"""Called with (level, first row, pixels (h, width, C), validity (h, width) or None)."""


def row_levels(
    height: int, width: int, pixel_bytes: int, band_bytes: int | None = None
) -> tuple[Level, ...]:
    """Return all levels, with chunks as high as a band of `band_bytes`, by default `BAND_BYTES`."""
    # That is a power of two up to `CHUNK`, less where rows are long.
    rows = CHUNK
    while rows > LEAST_ROWS and rows * width * pixel_bytes > (band_bytes or BAND_BYTES):
        rows //= 2
    return tuple(Level(h, w, rows, CHUNK) for h, w in level_sizes(height, width))


class RowPyramid:
    """Halves bands of rows into all levels, handing each full row of chunks to `sink`."""

    # Bands are added in order, each as high as a chunk of level 0, the last one up to the end. At
    # most two bands are in memory.
    def __init__(self, levels: Sequence[Level], sink: Sink, *, nodata: float | None = None) -> None:
        self._levels, self._sink, self._nodata = levels, sink, nodata
        self._collectors = [_Collector(level) for level in levels]

    def add(
        self, y0: int, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None
    ) -> None:
        """Add the band (h, width, C) of level 0 that begins at row `y0`."""
        level, top = 0, y0
        while True:
            self._sink(level, top, pixels, valid)
            level += 1
            if level == len(self._levels):
                return
            smaller, fewer = halve(pixels, valid, nodata=self._nodata)
            ready = self._collectors[level].add(smaller, fewer)
            if ready is None:
                return
            top, pixels, valid = ready


class _Collector:
    """Rows of one level, kept until they fill a row of its chunks."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self._top = self._count = 0
        self._pixels: npt.NDArray[Any] | None = None
        self._valid: npt.NDArray[np.bool_] | None = None

    def add(
        self, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None
    ) -> tuple[int, npt.NDArray[Any], npt.NDArray[np.bool_] | None] | None:
        """Return (first row, pixels, validity) once a row of chunks is full or the level ends."""
        size = min(self._level.chunk_height, self._level.height - self._top)
        if self._pixels is None:
            self._pixels = np.empty_like(pixels, shape=(size, *pixels.shape[1:]))
            self._valid = None if valid is None else np.empty((size, pixels.shape[1]), bool)
        end = self._count + len(pixels)
        self._pixels[self._count : end] = pixels
        if self._valid is not None and valid is not None:
            self._valid[self._count : end] = valid
        self._count = end
        if end < size:
            return None
        full = self._top, self._pixels, self._valid
        self._top, self._count, self._pixels, self._valid = self._top + size, 0, None, None
        return full
