"""A source and a weight on the grid of a result's coarser levels, for looking at them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.engine._weight import (
    Feathered,
    PolygonWeight,
    RegionWeight,
    Weight,
    Within,
    pieces_of,
)
from napari_restore.images import Image, halve, level_sizes

AT_ONCE = 2**22
"""Pixels of a finer level that are halved at a time."""
KEPT_BOXES = 64


def nearest_level(image: Image, level: int) -> int:
    """The coarsest level of `image` that can be read and halved to `level` of a result.

    A file's own overviews may have other sizes than halving gives: they do not count.
    """
    sizes = level_sizes(image.height, image.width, smallest=1)
    shapes = image.level_shapes
    found = [
        number
        for number in range(min(level + 1, len(shapes), len(sizes)))
        if shapes[number] == sizes[number] and image.is_built(number)
    ]
    return max(found, default=0)


def read_source(
    image: Image, box: Region, level: int = 0
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Pixels (h, w, C) of `box`, in pixels of a result's `level`, and which are valid.

    Levels the image does not have (yet) are halved from the nearest finer one.
    Validity (h, w) is None where every pixel is valid.
    """
    stored = nearest_level(image, level)
    if stored == level:
        pixels = image.read(box, level)
        return pixels, image.read_valid(box, level) if image.may_be_invalid else None
    steps = level - stored
    pixels = np.empty((*box.shape, image.bands), image.dtype)
    valid = np.empty(box.shape, bool) if image.may_be_invalid else None
    whole = Region(0, 0, *image.level_shapes[stored])
    for piece in pieces_of(box, pixels=max(1, AT_ONCE >> 2 * steps)):
        y0, x0, y1, x1 = piece
        part = Region(y0 << steps, x0 << steps, y1 << steps, x1 << steps).intersect(whole)
        found = image.read(part, stored)
        flags = None if valid is None else image.read_valid(part, stored)
        for _ in range(steps):
            found, flags = halve(found, flags, fill=image.nodata or 0, nodata=image.nodata)
        place = piece.shift(-box.y0, -box.x0).slices
        pixels[place] = found
        if valid is not None:
            valid[place] = flags
    return pixels, valid


def weight_at(weight: Weight, level: int, size: tuple[int, int]) -> Weight:
    """`weight` on the grid of `level`; `size` is (height, width) of level 0.

    Shapes are drawn smaller, rasters asked in the middle of every pixel.
    """
    if level == 0:
        return weight
    step = 1 << level
    height, width = (-(-length // step) for length in size)
    if isinstance(weight, RegionWeight):
        return RegionWeight([smaller(region, level) for region in weight.regions])
    if isinstance(weight, PolygonWeight):
        polygons = [
            [[(x / step, y / step) for x, y in ring] for ring in polygon]
            for polygon in weight.polygons
        ]
        return PolygonWeight(polygons, height, width)
    if isinstance(weight, Within):
        return Within(weight_at(weight.weight, level, size), weight_at(weight.regions, level, size))
    if isinstance(weight, Feathered):
        inner = weight_at(weight.weight, level, size)
        fade = round(weight.width / step)
        return Feathered(inner, fade, (height, width)) if fade else inner
    return SampledWeight(weight, level, size)


class SampledWeight:
    """Another weight, asked at the middle of every pixel of a level.

    The boxes asked for last are kept: a display asks for the same ones again and again.
    """

    def __init__(self, weight: Weight, level: int, size: tuple[int, int]) -> None:
        self._weight, self._level, self._size = weight, level, size
        self.digest = f"{weight.digest}/{level}"
        self.bounds = smaller(weight.bounds, level)
        self._kept = lru_cache(KEPT_BOXES)(self._read)

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        """(h, w) strengths of `box`."""
        return self._kept(Region(*box))

    def _read(self, box: Region) -> npt.NDArray[np.float32]:
        step, (height, width) = 1 << self._level, self._size
        weight = np.zeros(box.shape, np.float32)
        inside = box.intersect(self.bounds)
        if inside.is_empty:
            return weight
        x0, x1 = inside.x0 * step, min(inside.x1 * step, width)
        columns = np.minimum(np.arange(x0, x1, step) + step // 2, width - 1) - x0
        for y in range(inside.y0, inside.y1):
            row = min(y * step + step // 2, height - 1)
            values = self._weight.read(Region(row, x0, row + 1, x1))[0]
            weight[y - box.y0, inside.x0 - box.x0 : inside.x1 - box.x0] = values[columns]
        return weight


def smaller(region: Region, level: int) -> Region:
    """`region` in pixels of `level`, grown to whole ones."""
    return Region(
        region.y0 >> level,
        region.x0 >> level,
        -(-region.y1 >> level),
        -(-region.x1 >> level),
    )
