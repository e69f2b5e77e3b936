"""Tiles of a run of sweeps, the boxes that they cover, and bytes of what is kept by tile."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from napari_restore.engine._region import Region
from napari_restore.models import Counts, Shapes

COUNT_BYTES = 8
"""Bytes of one count: a float64."""
PAGE = 4096
"""Bytes of which a tile's record is a multiple: machines that write tiles beside each other share no
page of the file."""
TOKEN_BYTES = 4
"""Bytes of one value of a map that a step takes as a whole: float32 whatever the precision of the
model, since layer by layer is added to it."""


@dataclass(frozen=True)
class Grid:
    """Tiles of `tile` pixels from the corner of `box`, numbered row by row.

    The model sees `box` grown at bottom and right to multiples of `multiple`, by reflection.
    """

    box: Region
    """Level-0 pixels that the model sees."""
    tile: int
    multiple: int

    @cached_property
    def rows(self) -> int:
        return -(-self.box.height // self.tile)

    @cached_property
    def columns(self) -> int:
        return -(-self.box.width // self.tile)

    @property
    def count(self) -> int:
        return self.rows * self.columns

    @cached_property
    def padded(self) -> Region:
        """The box with its padding."""
        y0, x0 = self.box.y0, self.box.x0
        height, width = (-(-side // self.multiple) * self.multiple for side in self.box.shape)
        return Region(y0, x0, y0 + height, x0 + width)

    def number(self, core: Region) -> int:
        """Return the number of the tile that the corner of `core` lies in."""
        row = (core.y0 - self.box.y0) // self.tile
        return row * self.columns + (core.x0 - self.box.x0) // self.tile

    def whole(self, number: int) -> Region:
        """Return all of a tile, which may reach beyond the padding."""
        row, column = divmod(number, self.columns)
        y, x = self.box.y0 + row * self.tile, self.box.x0 + column * self.tile
        return Region(y, x, y + self.tile, x + self.tile)

    def core(self, number: int) -> Region:
        """Return a tile's part of the image."""
        return self.whole(number).intersect(self.box)

    def cells(self, number: int) -> Region:
        """Return a tile's part of the padded box: where its maps have cells."""
        return self.whole(number).intersect(self.padded)

    def blocks(self, box: Region, block: int) -> Region:
        """Return `box` grown to whole blocks of so many pixels, but not beyond the padding."""
        y0, x0 = self.box.y0, self.box.x0
        return box.shift(-y0, -x0).align(block).shift(y0, x0).intersect(self.padded)

    def around(self, box: Region, halo: int) -> Region:
        """Return `box` grown by `halo`, but not beyond the padding."""
        grown = Region(box.y0 - halo, box.x0 - halo, box.y1 + halo, box.x1 + halo)
        return grown.intersect(self.padded)

    def touched(self, box: Region) -> Iterable[int]:
        """Return the numbers of the tiles that `box`, within the padding, has a part of."""
        rows = range((box.y0 - self.box.y0) // self.tile, -(-(box.y1 - self.box.y0) // self.tile))
        first = (box.x0 - self.box.x0) // self.tile
        last = -(-(box.x1 - self.box.x0) // self.tile)
        return (
            row * self.columns + column
            for row in rows
            for column in range(first, min(last, self.columns))
            if row < self.rows
        )


def count_bytes(counts: Counts, grid: Grid) -> int:
    """Return the bytes of the counts of one tile of `grid`."""
    return bytes_of(counts.shapes_of(grid.tile, grid.box.shape))


def bytes_of(shapes: Shapes) -> int:
    """Return the bytes of a tile's record of counts of these shapes."""
    return -(-COUNT_BYTES * values_of(shapes) // PAGE) * PAGE


def values_of(shapes: Shapes) -> int:
    """Return how many numbers counts of these shapes are."""
    return sum(math.prod(shape) for shape in shapes.values())


def tile_bytes(width: int, side: int, margin: int = 0) -> int:
    """Return bytes of a tile's tokens of `width` channels, with `margin` more on every side."""
    return int(width * (side + 2 * margin) ** 2 * TOKEN_BYTES)
