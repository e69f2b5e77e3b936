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
    Coarser levels are placed by themselves, from those of the image, not made of the finest.
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
        self._views = [image]
        while self._has_level(len(self._views)):
            self._views.append(image.level_view(len(self._views)))
        self._matrices = [_scaled(matrix, 1 << number) for number in range(len(self._views))]
        sizes = [
            (-(-size[0] >> number), -(-size[1] >> number)) for number in range(len(self._views))
        ]
        self.levels = tuple(
            Level(height, width, min(view.chunk[0], height), min(view.chunk[1], width))
            for (height, width), view in zip(sizes, self._views, strict=True)
        )
        is_same = np.array_equal(matrix, np.eye(3))
        self.may_be_invalid = image.may_be_invalid or not is_same

    def _has_level(self, number: int) -> bool:
        """Return whether the image has a level that is halved so many times."""
        levels = len(self.image.level_shapes)
        return number < levels and self.image.level_scale(number) == 1 << number

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        return self._pixels(chunk_box(self.levels[level], row, column), level)

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        view = self._views[level]
        y, x = self._positions(box, level)
        # A hair beyond the last centre is rounding.
        inside = (y > -1e-6) & (x > -1e-6)
        inside &= (y < view.height - 1 + 1e-6) & (x < view.width - 1 + 1e-6)
        if view.may_be_invalid and inside.any():
            source = _source_box(view, y, x)
            valid = view.read_valid(source)
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

    def _positions(
        self, box: Box, level: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return y and x (h, w) in the image of the pixels of `box`, both at `level`."""
        y0, x0, y1, x1 = box
        x, y = np.meshgrid(np.arange(x0, x1, dtype=float), np.arange(y0, y1, dtype=float))
        a, b, c = (row[0] * x + row[1] * y + row[2] for row in self._matrices[level])
        return b / c, a / c

    def _pixels(self, box: Box, level: int = 0) -> Array:
        view = self._views[level]
        y, x = self._positions(box, level)
        source = _source_box(view, y, x)
        pixels = view.read(source)
        if _is_shift(self._matrices[level]):
            rows = (y[:, 0].astype(int) - source[0]).clip(0, pixels.shape[0] - 1)
            columns = (x[0].astype(int) - source[1]).clip(0, pixels.shape[1] - 1)
            return np.ascontiguousarray(pixels[rows[:, None], columns[None, :]])
        return _interpolated(pixels, y - source[0], x - source[1])


def _scaled(matrix: npt.NDArray[np.float64], scale: int) -> npt.NDArray[np.float64]:
    """Return `matrix` between pixels that are `scale` times as large."""
    if scale == 1:
        return matrix
    # The centre of a large pixel is that of the pixels it covers.
    middle = (scale - 1) / 2
    finer = np.array([[scale, 0, middle], [0, scale, middle], [0, 0, 1.0]])
    large = np.linalg.inv(finer) @ matrix @ finer
    result: npt.NDArray[np.float64] = large / large[2, 2]
    return result


def _is_shift(matrix: npt.NDArray[np.float64]) -> bool:
    whole = np.array([[1, 0, matrix[0, 2]], [0, 1, matrix[1, 2]], [0, 0, 1]])
    return np.array_equal(matrix, np.rint(whole))


def _source_box(image: ImageBase, y: Array, x: Array) -> Box:
    """Return the part of the image that positions are interpolated from; not empty."""
    bounds = []
    for values, length in ((y, image.height), (x, image.width)):
        low = min(max(0, int(np.floor(values.min())) - REACH), length - 1)
        bounds.append((low, max(low + 1, min(length, int(np.ceil(values.max())) + REACH + 1))))
    return bounds[0][0], bounds[1][0], bounds[0][1], bounds[1][1]


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
