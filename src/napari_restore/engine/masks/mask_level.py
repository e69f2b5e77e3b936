"""Masks on the grid of a pyramid level, or of an image that was resampled."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region, smaller
from napari_restore.engine.masks.mask_strength import (
    Feathered,
    MaskStrength,
    PolygonMask,
    RegionMask,
    Within,
)
from napari_restore.images import Image

KEPT_BOXES = 64


def mask_at_level(mask: MaskStrength, level: int, size: tuple[int, int]) -> MaskStrength:
    """Return `mask` on the grid of `level`; `size` is (height, width) of level 0."""
    if level == 0:
        return mask
    # Shapes are scaled, rasters sampled at the centre of every pixel.
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
    """Another mask, sampled at the centre of every pixel of a level."""

    # The latest boxes are cached: a display reads the same ones again and again.
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


def on_grid_of(image: Image, mask: MaskStrength) -> MaskStrength:
    """Return `mask`, one of the original of `image`, sampled where `image` has its pixels."""
    return _OnGrid(mask, image.resampling, (image.given.height, image.given.width))


class _OnGrid:
    """Another mask on the grid that an image of `size` (h, w) has, resampled by `ratio`, N or 1/N."""

    def __init__(self, mask: MaskStrength, ratio: Fraction, size: tuple[int, int]) -> None:
        self._mask, self._up, self._down = mask, ratio.numerator, ratio.denominator
        self.digest = f"{mask.digest} {ratio}"
        self._size, self.bounds = size, mask.bounds.scale(ratio)

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        """Return (h, w) strengths of `box`."""
        # The same pixels that the image has.
        rows, columns = (
            np.arange(low, high) * self._down // self._up + self._down // 2
            for low, high in ((box.y0, box.y1), (box.x0, box.x1))
        )
        rows, columns = (
            np.minimum(rows, self._size[0] - 1),
            np.minimum(columns, self._size[1] - 1),
        )
        part = Region(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
        return self._mask.read(part)[np.ix_(rows - part.y0, columns - part.x0)]
