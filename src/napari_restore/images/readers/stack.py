"""Several files of the same size as the bands of one image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images._base import ImageBase
from napari_restore.images._profile import PER_BAND, Profile
from napari_restore.images._reader import Reader
from napari_restore.images._source import Box, Level, chunk_box
from napari_restore.images._suffixes import band_name

Array = npt.NDArray[Any]


class JoinedReader(Reader):
    """One image of several open files, described as the first of them."""

    cached = False

    def __init__(self, images: Sequence[ImageBase]) -> None:
        first = images[0]
        assert first.path is not None
        super().__init__(first.path)
        self.images = tuple(images)
        self.dtype = first.dtype
        self.block_bytes = max(image.block_bytes for image in images)

    def files(self) -> tuple[Path, ...]:
        return tuple(file for image in self.images for file in image.reader.files())

    def close(self) -> None:
        for image in self.images:
            image.close()


class StackReader(JoinedReader):
    """The bands of all files one after the other, on the first file's chunks."""

    # A pixel is valid where it is valid in every file that has a band of light.
    def __init__(self, images: Sequence[ImageBase]) -> None:
        first = images[0]
        super().__init__(images)
        for other in images[1:]:
            _check_fits(first, other)
        self.name = f"{first.name} + {len(images) - 1}"
        self.bands = sum(image.bands for image in images)
        self.levels = _common_levels(images)
        self.georeference = first.georeference
        self.may_be_invalid = any(image.may_be_invalid for image in images)
        self.notes = [note for image in images for note in image.reader.notes]
        self.profile = _joined_profile(images)

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        box = chunk_box(self.levels[level], row, column)
        return np.concatenate([image.read(box, level) for image in self.images], axis=2)

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        valid, first = np.ones(pixels.shape[:2], bool), 0
        for image in self.images:
            bands = range(first, first + image.bands)
            first = bands.stop
            if image.may_be_invalid and not set(bands).isdisjoint(self.data_bands):
                valid &= image.read_valid(box, level)
        return valid

    def band_valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        return np.concatenate([image.read_band_valid(box) for image in self.images], axis=2)


def _common_levels(images: Sequence[ImageBase]) -> tuple[Level, ...]:
    """Return the levels that all files store. What they lack is built for the stack, not for each."""
    stored = [image.reader.levels for image in images]
    sizes = zip(*([level[:2] for level in levels] for levels in stored), strict=False)
    common = itertools.takewhile(lambda each: len(set(each)) == 1, sizes)
    return stored[0][: max(1, len(list(common)))]


def _check_fits(first: ImageBase, other: ImageBase) -> None:
    if (other.height, other.width) != (first.height, first.width):
        raise UnreadableImage(
            f"{other.name} is {other.width} × {other.height} pixels, "
            f"{first.name} {first.width} × {first.height}: they cannot be one image.",
            "Resample them to one size first.",
        )
    if other.dtype != first.dtype:
        raise UnreadableImage(
            f"{other.name} contains {other.dtype}, {first.name} {first.dtype} values.",
            "Stack files of one type.",
        )
    if (other.crs, other.transform) != (first.crs, first.transform):
        raise UnreadableImage(
            f"{other.name} lies elsewhere than {first.name}.", "Stack files of one place and grid."
        )


def _joined_profile(images: Sequence[ImageBase]) -> Profile:
    """Return the first file's profile with the bands of all."""

    def joined(name: str) -> tuple[Any, ...]:
        parts = [getattr(i.profile, name) or (PER_BAND[name],) * i.bands for i in images]
        return tuple(value for part in parts for value in part)

    names: list[str | None] = []
    for image in images:
        name_in_path = band_name(image.path) if image.path else None
        for description in image.descriptions:
            names.append(description or (name_in_path if image.bands == 1 else None) or image.name)
    interp = joined("colorinterp")
    if all(image.bands == 1 for image in images):
        # A file of one band calls it grey, which means nothing in a stack.
        interp = tuple("undefined" if i == "gray" else i for i in interp)
    others: Any = {
        name: joined(name) for name in ("wavelengths", "scales", "offsets", "units", "band_tags")
    }
    marks = {(image.profile.masks, str(image.nodata)) for image in images}
    alike = len(marks) == 1 and images[0].profile.masks != "mask"
    return replace(
        images[0].profile,
        nodata=images[0].nodata if alike else None,
        masks=images[0].profile.masks if alike else "bands",
        colorinterp=interp,
        descriptions=tuple(names),
        is_reflectance=any(image.profile.is_reflectance for image in images),
        **others,
    )
