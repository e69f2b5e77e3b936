"""Boxes of level-0 pixels together, on levels, and the grid of tiles."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from napari_restore.questions import Region as Region

if TYPE_CHECKING:
    from torch import Tensor

CELL = 128
"""Tile edges are multiples of this many pixels, counted from the image's origin."""


def bounding_box(regions: Sequence[Region]) -> Region:
    """Return the smallest box that contains all of `regions`, of which there is at least one."""
    return functools.reduce(Region.union, regions)


def smaller(region: Region, level: int) -> Region:
    """Return `region` in pixels of `level`, expanded to whole ones."""
    return region.scale(Fraction(1, 1 << level))


def cut(box: Region, height: int, width: int | None = None) -> Iterator[Region]:
    """Yield the parts of `box` of this size, square without a width, row by row; those at its ends are smaller."""
    width = height if width is None else width
    for y in range(box.y0, box.y1, height):
        for x in range(box.x0, box.x1, width):
            yield Region(y, x, y + height, x + width).intersect(box)


def cut_on_grid(box: Region, side: int) -> Iterator[Region]:
    """Yield the parts of `box` in each cell of `side` pixels, counted from the image's origin."""
    return (part.intersect(box) for part in cut(box.align(side), side))


def joined(box: Region, parts: Iterable[tuple[Region, Tensor]]) -> Tensor:
    """Return (..., h, w) of `box` from that of boxes within it, of which there is at least one."""
    whole: Tensor | None = None
    for part, values in parts:
        if whole is None:
            whole = values.new_zeros(*values.shape[:-2], *box.shape)
        whole[(..., *part.within(box))] = values
    assert whole is not None
    return whole
