"""An image on a grid with other pixels, by nearest neighbours."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images._base import DerivedReader, ImageBase
from napari_restore.images._source import CHUNK, Box, Level, chunk_box
from napari_restore.images.levels.level_view import halved_views, scaled

Array = npt.NDArray[Any]


class ResampledReader(DerivedReader):
    """The pixels (H, W, C) of `image` on a grid that has `ratio` times as many along a side.

    `ratio` is N or 1/N. With N each pixel is repeated N × N times; with 1/N one of each block of
    N × N pixels is taken, that at `phase` (row, column), by default the one at (N // 2, N // 2), or the
    last there is in those at the end. Coarser levels are taken from those of the
    image that are there.
    """

    def __init__(
        self, image: ImageBase, ratio: Fraction, phase: tuple[int, int] | None = None
    ) -> None:
        super().__init__(image)
        self.ratio = ratio
        middle = ratio.denominator // 2
        self.phase = (middle, middle) if phase is None else phase
        self.profile = self.profile.scaled(1 / ratio)
        if self.georeference is not None:
            self.georeference = scaled(self.georeference, 1 / ratio, keeps_rpcs=True)
        height, width = (math.ceil(side * ratio) for side in (image.height, image.width))
        built = [view for n, view in enumerate(halved_views(image)) if image.is_built(n)]
        self._views = built if phase is None else built[:1]
        # Level k has pixels of 2^k / ratio of the image's: from the view of the next finer ones.
        shift = math.floor(math.log2(1 / ratio))
        self._numbers = [0]
        while phase is None and max(0, len(self._numbers) + shift) < len(self._views):
            if -(-max(height, width) >> len(self._numbers)) < 2:
                break
            self._numbers.append(max(0, len(self._numbers) + shift))
        sizes = [(-(-height >> k), -(-width >> k)) for k in range(len(self._numbers))]
        self.levels = tuple(Level.cut(h, w) for h, w in sizes)
        # What has no tiles is decoded as a whole, and cached as that.
        whole = image.chunk[0] * image.chunk[1] * image.bands * image.dtype.itemsize
        self.block_bytes = max(image.block_bytes, whole if max(image.chunk) > CHUNK else 0)

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        box, taken = self._taken(level, chunk_box(self.levels[level], row, column))
        return np.ascontiguousarray(self._view(level).read(box)[taken])

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        source, taken = self._taken(level, box)
        return self._view(level).read_valid(source)[taken]

    def band_valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        source, taken = self._taken(level, box)
        return self._view(level).read_band_valid(source)[taken]

    def uncached(self) -> ResampledReader:
        return ResampledReader(self.image.uncached(), self.ratio, self.phase)

    def digest(self) -> str:
        return f" {self.ratio}, {self.phase}"

    def _view(self, level: int) -> ImageBase:
        return self._views[self._numbers[level]]

    def _taken(self, level: int, box: Box) -> tuple[Box, tuple[npt.NDArray[np.intp], ...]]:
        """Return the part of the view of `level` that `box` lies in, and which of its pixels are taken."""
        y0, x0, y1, x1 = box
        view = self._view(level)
        rows = self._indices(level, y0, y1, self.phase[0], view.height)
        columns = self._indices(level, x0, x1, self.phase[1], view.width)
        source = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
        return source, np.ix_(rows - rows[0], columns - columns[0])

    def _indices(
        self, level: int, start: int, stop: int, phase: int, length: int
    ) -> npt.NDArray[np.intp]:
        """Return the rows or columns of the view that those of `level` are taken from."""
        up, down = self.ratio.numerator, self.ratio.denominator
        at = np.arange(start, stop)
        if level == 0:
            indices = at * down + phase if down > 1 else at // up
        else:
            # At their middles.
            indices = (2 * at + 1) * (down << level) // (2 * up << self._numbers[level])
        return np.minimum(indices, length - 1).astype(np.intp)
