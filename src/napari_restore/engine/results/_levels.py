"""Source and mask on the grid of a result's coarser levels, for display."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.engine.masks._mask_strength import (
    Feathered,
    MaskStrength,
    PolygonMask,
    RegionMask,
    Within,
    pieces_of,
)
from napari_restore.images import Image, default_fill, halve

AT_ONCE = 2**22
"""Pixels of a finer level that are read at a time."""
AFFORDABLE = 16
"""Pixels read per pixel of a coarser level without noticeable delay: two halvings."""
KEPT_BOXES = 64


def nearest_level(image: Image, level: int) -> int:
    """Return the coarsest level of `image` that can be read and halved to `level` of a result.

    A file's own overviews may have other sizes than halving gives: they do not count.
    """
    return max(
        number
        for number in range(len(image.level_shapes))
        if (scale := image.level_scale(number)) is not None
        and scale <= 1 << level
        and image.is_built(number)
    )


def is_affordable(image: Image, level: int) -> bool:
    """Return whether `read_source` reads a bounded number of pixels per pixel of `level`.

    Else it reads so many that a window must not wait for it: `image` then lacks levels, which
    `build_pyramid` makes.
    """
    return image.source.random_access and _costs_little(image, level, _read_level(image, level))


def read_source(
    image: Image, box: Region, level: int = 0
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Return pixels (h, w, C) of `box`, in pixels of a result's `level`, and which are valid.

    Levels the image does not have (yet) are halved from the nearest finer one; where that is much
    finer and there are overviews of other sizes, resampled from those. Validity (h, w) is None
    where every pixel is valid.
    """
    number = _read_level(image, level)
    scale = image.level_scale(number)
    if scale == 1 << level:
        pixels = image.read(box, number)
        return pixels, image.read_valid(box, number) if image.may_be_invalid else None
    per_pixel = -(-_area(image.level_shapes[number]) // _area(_size(image, level)))
    pixels = np.empty((*box.shape, image.bands), image.dtype)
    valid = np.empty(box.shape, bool) if image.may_be_invalid else None
    read = _halved if scale is not None and scale < 1 << level else _picked
    for piece in pieces_of(box, pixels=max(1, AT_ONCE // per_pixel)):
        values, flags = read(image, piece, level, number)
        place = piece.within(box)
        pixels[place] = values
        if valid is not None:
            valid[place] = flags
    return pixels, valid


def _read_level(image: Image, level: int) -> int:
    """Return the level of `image` that is read for `level`.

    It is an exact one unless that is too fine.
    """
    exact = nearest_level(image, level)
    if _costs_little(image, level, exact):
        return exact
    finest = _area(image.level_shapes[exact])
    others = [
        number
        for number, shape in enumerate(image.level_shapes)
        if _area(shape) < finest and image.is_built(number) and _costs_little(image, level, number)
    ]
    wanted = math.log(_area(_size(image, level)))
    return min(
        others,
        key=lambda number: abs(math.log(_area(image.level_shapes[number])) - wanted),
        default=exact,
    )


def _costs_little(image: Image, level: int, number: int) -> bool:
    pixels = _area(image.level_shapes[number])
    return pixels <= max(AT_ONCE, AFFORDABLE * _area(_size(image, level)))


def _halved(
    image: Image, box: Region, level: int, number: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    scale = image.level_scale(number)
    assert scale is not None
    steps = level - (scale.bit_length() - 1)
    y0, x0, y1, x1 = box
    whole = Region(0, 0, *image.level_shapes[number])
    part = Region(y0 << steps, x0 << steps, y1 << steps, x1 << steps).intersect(whole)
    values = image.read(part, number)
    flags = image.read_valid(part, number) if image.may_be_invalid else None
    fill = default_fill(image.dtype, image.nodata)
    for _ in range(steps):
        values, flags = halve(values, flags, fill=fill, nodata=image.nodata)
    return values, flags


def _picked(
    image: Image, box: Region, level: int, number: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Return the pixels of another level that lie at the centres of those of `box`."""
    height, width = image.level_shapes[number]
    rows = _middles(box.y0, box.y1, level, image.height, height)
    columns = _middles(box.x0, box.x1, level, image.width, width)
    part = Region(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    selected = np.ix_(rows - rows[0], columns - columns[0])
    flags = image.read_valid(part, number)[selected] if image.may_be_invalid else None
    return image.read(part, number)[selected], flags


def _middles(start: int, stop: int, level: int, whole: int, length: int) -> npt.NDArray[np.intp]:
    """Return the indices of the centres of pixels of `level` along one axis.

    The axis has `whole` pixels at level 0, and `length` in the array.
    """
    middles = (np.arange(start, stop) << level) + ((1 << level) >> 1)
    values: npt.NDArray[np.intp] = np.minimum(middles, whole - 1) * length // whole
    return values


def _size(image: Image, level: int) -> tuple[int, int]:
    """Return (height, width) of a result's `level`."""
    return -(-image.height >> level), -(-image.width >> level)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def mask_at_level(mask: MaskStrength, level: int, size: tuple[int, int]) -> MaskStrength:
    """Return `mask` on the grid of `level`; `size` is (height, width) of level 0.

    Shapes are scaled, rasters sampled at the centre of every pixel.
    """
    if level == 0:
        return mask
    step = 1 << level
    height, width = (-(-length // step) for length in size)
    if isinstance(mask, RegionMask):
        return RegionMask([smaller(region, level) for region in mask.regions])
    if isinstance(mask, PolygonMask):
        polygons = [
            [[(x / step, y / step) for x, y in ring] for ring in polygon]
            for polygon in mask.polygons
        ]
        return PolygonMask(polygons, height, width)
    if isinstance(mask, Within):
        return Within(
            mask_at_level(mask.mask, level, size), mask_at_level(mask.regions, level, size)
        )
    if isinstance(mask, Feathered):
        inner = mask_at_level(mask.mask, level, size)
        fade = round(mask.width / step)
        return Feathered(inner, fade, (height, width)) if fade else inner
    return ResampledMask(mask, level, size)


class ResampledMask:
    """Another mask, sampled at the centre of every pixel of a level.

    The latest boxes are cached: a display reads the same ones again and again.
    """

    def __init__(self, mask: MaskStrength, level: int, size: tuple[int, int]) -> None:
        self._mask, self._level, self._size = mask, level, size
        self.digest = f"{mask.digest}/{level}"
        self.bounds = smaller(mask.bounds, level)
        self._recent = lru_cache(KEPT_BOXES)(self._read)

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        """Return (h, w) strengths of `box`."""
        return self._recent(Region(*box))

    def _read(self, box: Region) -> npt.NDArray[np.float32]:
        step, (height, width) = 1 << self._level, self._size
        strengths = np.zeros(box.shape, np.float32)
        inside = box.intersect(self.bounds)
        if inside.is_empty:
            return strengths
        x0, x1 = inside.x0 * step, min(inside.x1 * step, width)
        columns = np.minimum(np.arange(x0, x1, step) + step // 2, width - 1) - x0
        for y in range(inside.y0, inside.y1):
            row = min(y * step + step // 2, height - 1)
            values = self._mask.read(Region(row, x0, row + 1, x1))[0]
            strengths[y - box.y0, inside.x0 - box.x0 : inside.x1 - box.x0] = values[columns]
        return strengths


def smaller(region: Region, level: int) -> Region:
    """Return `region` in pixels of `level`, expanded to whole ones."""
    return Region(
        region.y0 >> level,
        region.x0 >> level,
        -(-region.y1 >> level),
        -(-region.x1 >> level),
    )
