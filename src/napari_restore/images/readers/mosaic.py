"""Several georeferenced files on one grid as one image."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage, option
from napari_restore.images._base import ImageBase
from napari_restore.images._georeference import Transform
from napari_restore.images._profile import Masks
from napari_restore.images._source import Box, Level, chunk_box, common_part, within
from napari_restore.images.readers.stack import JoinedReader
from napari_restore.images.values.validity import as_dtype

Array = npt.NDArray[Any]

ALIGNED = 1e-3
"""Largest misalignment of grids, as a part of a pixel."""


class MosaicReader(JoinedReader):
    """Files of one coordinate system and pixel size, side by side.

    Where files overlap, the first one that is valid counts. Pixels that no file covers are nodata
    (0 without one, and in alpha) and not valid.
    """

    def __init__(self, images: Sequence[ImageBase]) -> None:
        first = images[0]
        super().__init__(images)
        transform = _grid_of(first)
        offsets = [_offset(first, image, transform) for image in images]
        top, left = map(min, zip(*offsets, strict=True))
        boxes = [
            (y - top, x - left, y - top + image.height, x - left + image.width)
            for image, (y, x) in zip(images, offsets, strict=True)
        ]
        self.members = list(zip(images, boxes, strict=True))
        height, width = max(box[2] for box in boxes), max(box[3] for box in boxes)
        self.name = f"mosaic of {len(images)}"
        self.bands = first.bands
        self.levels = (Level.cut(height, width),)
        assert first.georeference is not None
        self.georeference = first.georeference.shifted(left, top)
        self.notes = [f"{i.name}: {note}" for i in images for note in i.reader.notes]
        self.profile = replace(first.profile)
        self._fill = np.full(self.bands, as_dtype(first.nodata, self.dtype) or 0, self.dtype)
        if self.alpha is not None:
            self._fill[self.alpha] = 0
        for (above, upper), (below, lower) in itertools.combinations(self.members, 2):
            if _overlap(upper, lower) == lower and not above.may_be_invalid:
                raise UnreadableImage(
                    f"{below.name} lies on {above.name}: of files that join the first counts.",
                    "Leave one out, or restore them into a folder one by one.",
                )
        gapless = _is_covered(boxes)
        self.may_be_invalid = not gapless or any(image.may_be_invalid for image in images)
        marks = {(image.profile.masks, str(image.nodata)) for image in images}
        if len(marks) > 1 or (first.profile.masks == "none" and not gapless):
            # What marks pixels of the first file marks neither gaps nor those of the others.
            kind: Masks = "bands" if "bands" in dict(marks) else "mask"
            self.profile = replace(first.profile, masks=kind, nodata=None)

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        box = chunk_box(self.levels[level], row, column)
        return self._assembled(box, self._fill, lambda image, part: image.read(part))[0]

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        return self._assembled(box, self._fill, lambda image, part: image.read(part))[1]

    def band_valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        return self._assembled(box, False, lambda image, part: image.read_band_valid(part))[0]

    def _assembled(
        self, box: Box, fill: Any, read: Callable[[ImageBase, Box], Array]
    ) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Return what `read` returns of the files in `box`, `fill` beside them, and what is valid."""
        y0, x0, y1, x1 = box
        found = np.full((y1 - y0, x1 - x0, self.bands), fill)
        valid = np.zeros(found.shape[:2], bool)
        # The last first, so that the first file overwrites the others.
        for image, placed in reversed(self.members):
            common = _overlap(box, placed)
            if common is None:
                continue
            top, left, bottom, right = common
            inside = (top - placed[0], left - placed[1], bottom - placed[0], right - placed[1])
            target = within(common, box)
            part, good = read(image, inside), image.read_valid(inside)
            # Its invalid values are kept only where no other file is valid.
            taken = good | ~valid[target]
            found[target][taken] = part[taken]
            valid[target] |= good
        return found, valid


def _grid_of(image: ImageBase) -> Transform:
    if image.transform is None:
        raise UnreadableImage(
            f"{image.name} has no place on a map, so its neighbours are unknown.",
            "Several files make one image only if all are georeferenced: restore them into a folder "
            f"one by one, or as bands by {option('stack', True)}.",
        )
    return image.transform


def _offset(first: ImageBase, image: ImageBase, grid: Transform) -> tuple[int, int]:
    """Return (row, column) of `image`'s first pixel on the grid of `first`."""
    image_grid = _grid_of(image)
    if image.bands != first.bands or image.dtype != first.dtype:
        raise UnreadableImage(
            f"{image.name} has {image.bands} bands of {image.dtype}, "
            f"{first.name} {first.bands} of {first.dtype}.",
            "Join files of one kind.",
        )
    for what, own in _facts(first).items():
        pairs = zip(own, _facts(image)[what], strict=False)
        if any(None not in pair and pair[0] != pair[1] for pair in pairs):
            raise UnreadableImage(
                f"The bands of {image.name} have other {what} than those of {first.name}.",
                "Join files of one kind.",
            )
    if image.crs != first.crs:
        raise UnreadableImage(
            f"{image.name} has another coordinate system than {first.name}.",
            "Reproject it first; nothing is reprojected silently.",
        )
    size = max(abs(v) for v in (grid[0], grid[1], grid[3], grid[4]))
    longest = max(image.height, image.width)
    steps = [abs(image_grid[i] - grid[i]) for i in (0, 1, 3, 4)]
    assert first.georeference is not None
    column, row = first.georeference.to_pixel(image_grid[2], image_grid[5])
    how = None
    if max(steps) * longest > ALIGNED * size:
        how = "has another pixel size or rotation than"
    elif max(abs(column - round(column)), abs(row - round(row))) > 100 * ALIGNED:
        how = "lies between the pixels of"
    if how is not None:
        raise UnreadableImage(f"{image.name} {how} {first.name}.", "Resample it to one grid first.")
    return round(row), round(column)


def _facts(image: ImageBase) -> dict[str, Sequence[Any]]:
    """Return what the joined image has of the first file alone, for each band where it is known."""
    scales, offsets = image.profile.scales, image.profile.offsets
    zero, alpha = image.preset and image.preset.black, str(image.reader.alpha)
    names = ("colours", "scales", "offsets", "zeros", "alpha")
    return dict(zip(names, (image.roles, scales, offsets, [zero], [alpha]), strict=True))


def _overlap(a: Box, b: Box) -> Box | None:
    box = common_part(a, b)
    return box if box[0] < box[2] and box[1] < box[3] else None


def _is_covered(boxes: Sequence[Box]) -> bool:
    """Return whether every pixel of the smallest box around `boxes` lies in one of them."""
    y, x = (sorted({edge for box in boxes for edge in box[axis::2]}) for axis in (0, 1))
    cells = np.zeros((len(y) - 1, len(x) - 1), bool)
    for y0, x0, y1, x1 in boxes:
        cells[y.index(y0) : y.index(y1), x.index(x0) : x.index(x1)] = True
    return bool(cells.all())
