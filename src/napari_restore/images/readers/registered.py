"""A frame on the grid of another image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._base import ImageBase
from napari_restore.images._source import Box, Level, chunk_box
from napari_restore.images.levels.level_view import LevelsReader

Array = npt.NDArray[Any]
REACH = 2
"""Pixels around a point that its interpolation takes."""
STRIP = 32
"""Rows that are interpolated at once, so that sums stay in cache."""
TAPS = 4
"""Pixels along a side that a value is interpolated from: one before its position, two after it."""


class RegisteredReader(LevelsReader):
    """The pixels of `image` where `matrix` puts them on a grid of `size` (height, width).

    `matrix` (3, 3) maps (x, y, 1) of pixel centres of the grid to those of the image. A shift by
    whole pixels copies them, anything else interpolates with cubic polynomials. Beyond the image's
    edges nothing is valid. Positions follow from the whole grid, so chunks join without a seam.
    Coarser levels are placed by themselves, from those of the image, not made of the finest.
    """

    def __init__(
        self, image: ImageBase, matrix: npt.NDArray[np.float64], size: tuple[int, int]
    ) -> None:
        super().__init__(image)
        self.matrix = matrix
        self._matrices = [scaled_matrix(matrix, 1 << number) for number in range(len(self._views))]
        self.levels = tuple(
            Level.cut(-(-size[0] >> number), -(-size[1] >> number), *view.chunk)
            for number, view in enumerate(self._views)
        )
        self.may_be_invalid |= not np.array_equal(matrix, np.eye(3))

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        return self.pixels(chunk_box(self.levels[level], row, column), level)

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        view = self._views[level]
        y, x = self._positions(box, level)
        inside = self._inside(level, y, x)
        if view.may_be_invalid and inside.any():
            source = _source_box(view, y, x)
            valid = view.read_valid(source)
            rows = (np.rint(y).astype(int) - source[0]).clip(0, valid.shape[0] - 1)
            columns = (np.rint(x).astype(int) - source[1]).clip(0, valid.shape[1] - 1)
            inside &= valid[rows, columns]
        return inside

    def shows(self, box: Box) -> bool:
        """Return whether all pixels of `box` are valid."""
        y0, x0, y1, x1 = box
        corners = [(y, x, y + 1, x + 1) for y in (y0, y1 - 1) for x in (x0, x1 - 1)]
        # What a homography makes of a box is convex.
        if not all(self._inside(0, *self._positions(each, 0)).all() for each in corners):
            return False
        no_pixels: Array = np.empty(0)
        return not self._views[0].may_be_invalid or bool(self.valid_in(0, box, no_pixels).all())

    def digest(self) -> str:
        return f"{self.matrix.tolist()}{self.levels[0][:2]}"

    def _inside(self, level: int, y: Array, x: Array) -> npt.NDArray[np.bool_]:
        """Return whether positions lie between centres of pixels."""
        view = self._views[level]
        # A hair beyond the last centre is rounding.
        inside: npt.NDArray[np.bool_] = (y > -1e-6) & (x > -1e-6)
        inside &= (y < view.height - 1 + 1e-6) & (x < view.width - 1 + 1e-6)
        return inside

    def _positions(
        self, box: Box, level: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return y and x (h, w) in the image of the pixels of `box`, both at `level`."""
        y0, x0, y1, x1 = box
        x, y = np.arange(x0, x1, dtype=float)[None], np.arange(y0, y1, dtype=float)[:, None]
        a, b, c = (row[0] * x + row[1] * y for row in self._matrices[level])
        for values, row in zip((a, b, c), self._matrices[level], strict=True):
            values += row[2]
        a /= c
        b /= c
        return b, a

    def pixels(
        self, box: Box, level: int = 0, made: Callable[[Array], Array] | None = None
    ) -> Array:
        """Return the pixels (h, w, C) of `box`; not by chunks, so that no others are computed.

        `made` returns what is placed, other bands of floats for instance, of pixels of the image.
        """
        view = self._views[level]
        y, x = self._positions(box, level)
        source = _source_box(view, y, x)
        pixels = view.read(source)
        if made is not None:
            pixels = made(pixels)
        matrix = self._matrices[level]
        whole = np.eye(3)
        whole[:2, 2] = np.rint(matrix[:2, 2])
        if np.array_equal(matrix, whole):
            rows = (y[:, 0].astype(int) - source[0]).clip(0, pixels.shape[0] - 1)
            columns = (x[0].astype(int) - source[1]).clip(0, pixels.shape[1] - 1)
            return np.ascontiguousarray(pixels[rows[:, None], columns[None, :]])
        return _interpolated(pixels, y, x, source[:2])


def scaled_matrix(matrix: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.float64]:
    """Return `matrix` (3, 3) between pixels that are `scale` times as large."""
    if scale == 1:
        return matrix
    # The centre of a large pixel is that of the pixels it covers.
    middle = (scale - 1) / 2
    finer = np.array([[scale, 0, middle], [0, scale, middle], [0, 0, 1.0]])
    large = np.linalg.inv(finer) @ matrix @ finer
    result: npt.NDArray[np.float64] = large / large[2, 2]
    return result


def _source_box(image: ImageBase, y: Array, x: Array) -> Box:
    """Return the part of the image that positions are interpolated from; not empty."""
    bounds = []
    for values, length in ((y, image.height), (x, image.width)):
        low = min(max(0, int(np.floor(values.min())) - REACH), length - 1)
        bounds.append((low, max(low + 1, min(length, int(np.ceil(values.max())) + REACH + 1))))
    return bounds[0][0], bounds[1][0], bounds[0][1], bounds[1][1]


def _interpolated(pixels: Array, y: Array, x: Array, corner: tuple[int, int]) -> Array:
    """Return (h, w, C) at positions of an image, by cubic convolution (Keys 1981).

    `pixels` (H, W, C) is the part of the image whose first pixel is at `corner` (row, column).
    """
    height, width, bands = pixels.shape
    # 24 bits hold a value of 16 and the fractions that rounding needs.
    kind = np.float32 if pixels.dtype.itemsize <= 2 or pixels.dtype == np.float32 else np.float64
    # Beyond an edge its pixel is repeated: by so many, all that a position is interpolated from.
    beyond = TAPS - 1
    padded = np.pad(pixels, ((beyond, beyond), (beyond, beyond), (0, 0)), "edge")
    # Band by band: numpy is slow on short last axes.
    planes = np.ascontiguousarray(np.moveaxis(padded, 2, 0), kind).reshape(bands, -1)
    result = np.empty((*y.shape, bands), pixels.dtype)
    for top in range(0, len(y), STRIP):
        rows = slice(top, top + STRIP)
        row, down = _taps(y[rows], corner[0], height, kind)
        place, across = _taps(x[rows], corner[1], width, kind)
        row *= width + 2 * beyond
        place += row
        total = _weighted(planes, place.astype(np.intp), width + 2 * beyond, down, across)
        if pixels.dtype.kind in "iu":
            limits = np.iinfo(pixels.dtype)
            np.rint(total, out=total)
            total.clip(limits.min, limits.max, out=total)
        result[rows] = np.moveaxis(total, 0, 2)
    return result


def _weighted(
    planes: Array, place: Array, width: int, down: Sequence[Array], across: Sequence[Array]
) -> Array:
    """Return the sums (C, h, w) of four by four pixels, from index `place`, of planes (C, H · `width`), weighted."""
    total = np.zeros((len(planes), *place.shape), planes.dtype)
    line, pixel = np.empty_like(total), np.empty(place.shape, planes.dtype)
    for row, by_row in enumerate(down):
        for column, by_column in enumerate(across):
            for band, plane in enumerate(planes[:, row * width + column :]):
                # All places are inside; "clip" alone writes without a buffer.
                np.take(plane, place, out=pixel if column else line[band], mode="clip")
                if column:
                    np.multiply(pixel, by_column, out=pixel)
                    line[band] += pixel
                else:
                    line[band] *= by_column
        line *= by_row
        total += line
    return total


def _taps(
    positions: Array, corner: int, length: int, kind: npt.DTypeLike
) -> tuple[Array, tuple[Array, Array, Array, Array]]:
    """Return the first of the pixels, `length` from `corner` on, of each position, and the weights of all four."""
    first = np.floor(positions)
    # Of the position in the whole image, so that no box rounds it otherwise.
    t = (positions - first).astype(kind)
    weights = (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
    first -= corner - 2
    return first.clip(0, length + 2, out=first), weights
