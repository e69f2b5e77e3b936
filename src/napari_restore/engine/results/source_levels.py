"""Pixels of the source at a level of a result, from the level of the image that is nearest to it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.engine.masks.mask_strength import pieces_of
from napari_restore.images import Image, halve

AT_ONCE = 2**22
"""Pixels of a finer level that are read at a time."""
AFFORDABLE = 16
"""Pixels read per pixel of a coarser level without noticeable delay: two halvings."""


def nearest_level(image: Image, level: int) -> int:
    """Return the coarsest level of `image` that can be read and halved to `level` of a result."""
    # A file's own overviews may have other sizes than halving gives: they do not count.
    return max(
        number
        for number in range(len(image.level_shapes))
        if (scale := image.level_scale(number)) is not None
        and scale <= 1 << level
        and image.is_built(number)
    )


def is_affordable(image: Image, level: int) -> bool:
    """Return whether `read_source` reads a bounded number of pixels per pixel of `level`."""
    # Else it reads so many that a window must not wait for it: the image then lacks levels, which
    # `build_pyramid` makes.
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
    per_pixel = -(-_area(image.level_shapes[number]) // _area(size_at(image, level)))
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
    """Return the level of `image` that is read for `level`: an exact one unless that is too fine."""
    exact = nearest_level(image, level)
    if _costs_little(image, level, exact):
        return exact
    finest = _area(image.level_shapes[exact])
    others = [
        number
        for number, shape in enumerate(image.level_shapes)
        if _area(shape) < finest and image.is_built(number) and _costs_little(image, level, number)
    ]
    wanted = math.log(_area(size_at(image, level)))
    return min(
        others,
        key=lambda number: abs(math.log(_area(image.level_shapes[number])) - wanted),
        default=exact,
    )


def _costs_little(image: Image, level: int, number: int) -> bool:
    pixels = _area(image.level_shapes[number])
    return pixels <= max(AT_ONCE, AFFORDABLE * _area(size_at(image, level)))


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
    for _ in range(steps):
        values, flags = halve(values, flags, nodata=image.nodata)
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
    """Return the indices, of `length`, of the centres of pixels of `level` along an axis of `whole` pixels."""
    middles = (np.arange(start, stop) << level) + ((1 << level) >> 1)
    values: npt.NDArray[np.intp] = np.minimum(middles, whole - 1) * length // whole
    return values


def size_at(image: Image, level: int) -> tuple[int, int]:
    """Return (height, width) of a result's `level`."""
    return -(-image.height >> level), -(-image.width >> level)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
