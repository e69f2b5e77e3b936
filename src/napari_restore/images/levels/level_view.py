"""One level of an image as an image of its own."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from napari_restore.images._base import DerivedReader, ImageBase
from napari_restore.images._georeference import Georeference
from napari_restore.images._source import Box, chunk_box
from napari_restore.images.levels.making import attach_pyramid
from napari_restore.images.levels.reduce import halve

Array = npt.NDArray[Any]


class LevelReader(DerivedReader):
    """Level `number` of another image, `scale` times smaller, with all its metadata."""

    # What is not built yet is halved from the level below when it is read: the same values, only
    # slower.
    def __init__(self, image: ImageBase, number: int, scale: int) -> None:
        super().__init__(image)
        self.number = number
        self.profile = self.profile.scaled(scale)
        self.levels = image.planned_levels[number:]
        if self.georeference is not None:
            self.georeference = scaled(self.georeference, scale)

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        return self._pixels(level + self.number, chunk_box(self.levels[level], row, column))[0]

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        valid = self._pixels(level + self.number, box)[1]
        return np.ones(pixels.shape[:2], bool) if valid is None else valid

    def digest(self) -> str:
        return f"/{self.number}"

    def _pixels(self, level: int, box: Box) -> tuple[Array, npt.NDArray[np.bool_] | None]:
        image = self.image
        image.prepare()
        if not image.has_landed(box, level):
            attach_pyramid(image)
        if level == 0 or image.has_landed(box, level):
            valid = image.read_valid(box, level) if self.may_be_invalid else None
            return image.read(box, level), valid
        height, width = image.level_shapes[level - 1]
        y0, x0, y1, x1 = box
        finer = (2 * y0, 2 * x0, min(2 * y1, height), min(2 * x1, width))
        pixels, valid = self._pixels(level - 1, finer)
        return halve(pixels, valid, nodata=image.nodata)


class LevelsReader(DerivedReader):
    """A reader of `image` and its levels, see `halved_views`."""

    def __init__(self, image: ImageBase) -> None:
        super().__init__(image)
        self._views = halved_views(image)

    def uncached(self) -> Self:
        other = super().uncached()
        other._views = halved_views(other.image)
        return other


def halved_views(image: ImageBase) -> list[ImageBase]:
    """Return an image and its levels as images of their own, as far as each halves the one before."""
    views = [image]
    while len(views) < len(image.level_shapes) and image.level_scale(len(views)) == 1 << len(views):
        views.append(image.level_view(len(views)))
    return views


def scaled(place: Georeference, scale: int | Fraction, *, keeps_rpcs: bool = False) -> Georeference:
    """Return the georeference of an image whose pixels are `scale` times as large."""
    up, down = scale.numerator, scale.denominator

    def side(value: float) -> float:
        # One of them is 1, so that it is rounded once.
        return value * up / down

    transform = place.transform
    if transform is not None:
        a, b, c, d, e, f = transform
        transform = (side(a), side(b), c, side(d), side(e), f)
    gcps = tuple(replace(p, row=p.row * down / up, column=p.column * down / up) for p in place.gcps)
    # Rational polynomials count level-0 pixels; a level is for display, not for measuring.
    rpcs = place.scaled_rpcs(up, down) if keeps_rpcs else None
    return replace(place, transform=transform, gcps=gcps, rpcs=rpcs)
