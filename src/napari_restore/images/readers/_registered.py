"""A frame on the grid of another image."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from napari_restore.images._reader import Reader
from napari_restore.images._source import Box, Level, chunk_box

if TYPE_CHECKING:
    from pathlib import Path

    from napari_restore.images._base import ImageBase

Array = npt.NDArray[Any]
REACH = 2
"""Pixels around a point that its interpolation takes."""


class RegisteredReader(Reader):
    """The pixels of `image` where `matrix` puts them on a grid of `size` (height, width).

    `matrix` (3, 3) maps (x, y, 1) of pixel centres of the grid to those of the image. A shift by
    whole pixels copies them, anything else interpolates with cubic polynomials. Beyond the image's
    edges nothing is valid. Positions follow from the whole grid, so chunks join without a seam.
    """

    cached: ClassVar[bool] = True

    def __init__(
        self, image: ImageBase, matrix: npt.NDArray[np.float64], size: tuple[int, int]
    ) -> None:
        inner = image.reader
        super().__init__(inner.path)
        self.image, self.matrix = image, matrix
        self.name, self.bands, self.dtype = inner.name, inner.bands, inner.dtype
        self.profile, self.georeference = inner.profile, inner.georeference
        rows, columns = image.chunk
        self.levels = (Level(*size, min(rows, size[0]), min(columns, size[1])),)
        whole = np.array([[1, 0, matrix[0, 2]], [0, 1, matrix[1, 2]], [0, 0, 1]])
        self._is_shift = np.array_equal(matrix, np.rint(whole))
        is_same = self._is_shift and np.array_equal(matrix, np.eye(3))
        self.may_be_invalid = image.may_be_invalid or not is_same

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        return self._pixels(chunk_box(self.levels[level], row, column))

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        y, x = self._positions(box)
        height, width = self.image.height, self.image.width
        # A hair beyond the last centre is rounding.
        inside = (y > -1e-6) & (x > -1e-6) & (y < height - 1 + 1e-6) & (x < width - 1 + 1e-6)
        if self.image.may_be_invalid and inside.any():
            source = self._source_box(y, x)
            valid = self.image.read_valid(source)
            rows = (np.rint(y).astype(int) - source[0]).clip(0, valid.shape[0] - 1)
            columns = (np.rint(x).astype(int) - source[1]).clip(0, valid.shape[1] - 1)
            inside &= valid[rows, columns]
        result: npt.NDArray[np.bool_] = inside
        return result

    def files(self) -> tuple[Path, ...]:
        return self.image.reader.files()

    def fingerprint(self) -> str:
        # Two placements of one file are two contents.
        named = f"{self.image.reader.fingerprint()}{self.matrix.tolist()}{self.levels[0][:2]}"
        return hashlib.sha256(named.encode()).hexdigest()

    def close(self) -> None:
        self.image.close()

    def _positions(self, box: Box) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return y and x (h, w) in the image of the pixels of `box`."""
        y0, x0, y1, x1 = box
        x, y = np.meshgrid(np.arange(x0, x1, dtype=float), np.arange(y0, y1, dtype=float))
        a, b, c = (row[0] * x + row[1] * y + row[2] for row in self.matrix)
        return b / c, a / c

    def _source_box(self, y: Array, x: Array) -> Box:
        """Return the part of the image that positions are interpolated from; not empty."""
        height, width = self.image.height, self.image.width
        bounds = []
        for values, length in ((y, height), (x, width)):
            low = min(max(0, int(np.floor(values.min())) - REACH), length - 1)
            bounds.append((low, max(low + 1, min(length, int(np.ceil(values.max())) + REACH + 1))))
        return bounds[0][0], bounds[1][0], bounds[0][1], bounds[1][1]

    def _pixels(self, box: Box) -> Array:
        y, x = self._positions(box)
        source = self._source_box(y, x)
        pixels = self.image.read(source)
        if self._is_shift:
            rows = (y[:, 0].astype(int) - source[0]).clip(0, pixels.shape[0] - 1)
            columns = (x[0].astype(int) - source[1]).clip(0, pixels.shape[1] - 1)
            return np.ascontiguousarray(pixels[rows[:, None], columns[None, :]])
        return _interpolated(pixels, y - source[0], x - source[1])


def _interpolated(pixels: Array, y: Array, x: Array) -> Array:
    """Return (h, w, C) at positions within `pixels` (H, W, C), by cubic convolution (Keys 1981)."""
    rows, row_weights = _taps(y, pixels.shape[0])
    columns, column_weights = _taps(x, pixels.shape[1])
    total = np.zeros((*y.shape, pixels.shape[2]), np.float64)
    for row, by_row in zip(rows, row_weights, strict=True):
        line = np.zeros_like(total)
        for column, by_column in zip(columns, column_weights, strict=True):
            line += by_column[..., None] * pixels[row, column]
        total += by_row[..., None] * line
    if pixels.dtype.kind in "iu":
        limits = np.iinfo(pixels.dtype)
        total = np.rint(total).clip(limits.min, limits.max)
    return total.astype(pixels.dtype)


def _taps(positions: Array, length: int) -> tuple[list[Array], list[Array]]:
    """Return four indices and their weights for each position."""
    first = np.floor(positions)
    t = positions - first
    weights = [
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]
    start = first.astype(int)
    return [(start + step).clip(0, length - 1) for step in (-1, 0, 1, 2)], weights
