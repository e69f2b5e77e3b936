"""Boxes of level-0 pixels together, on levels, and the grid of tiles."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from napari_restore.questions import Region as Region

CELL = 128
"""Tile edges are multiples of this many pixels, counted from the image's origin."""


def bounding_box(regions: Sequence[Region]) -> Region:
    """Return the smallest box that contains all of `regions`, of which there is at least one."""
    return functools.reduce(Region.union, regions)


def smaller(region: Region, level: int) -> Region:
    """Return `region` in pixels of `level`, expanded to whole ones."""
    return Region(
        region.y0 >> level,
        region.x0 >> level,
        -(-region.y1 >> level),
        -(-region.x1 >> level),
    )
