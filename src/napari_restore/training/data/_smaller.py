"""Reduced images for pairs, with the metadata of the original."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images import ArrayReader, Box, Image
from napari_restore.training.data._display import at_level, strips
from napari_restore.training.data._resample import fitting, resized

PHOTO_TYPES = ("uint8", "uint16")

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class SmallerReader(ArrayReader):
    """Reader of resized pixels with the profile and validity of an image."""

    def __init__(self, image: Image, pixels: npt.NDArray[np.integer], valid: Mask) -> None:
        super().__init__(pixels)
        self.name, self.path = image.name, image.reader.path
        self.profile, self.may_be_invalid = image.profile, image.may_be_invalid
        self._valid = valid

    def valid_in(self, level: int, box: Box, pixels: npt.NDArray[np.generic]) -> Mask:
        y0, x0, y1, x1 = box
        return self._valid[y0:y1, x0:x1].copy()


def smaller(image: Image, longest: int) -> Image:
    """Reduce `image` to `longest` pixels a side; georeferenced ones by pyramid levels.

    So are images that are not photos; where no level is small enough, they are returned unchanged.
    Bands, alpha, profile and validity are preserved.
    """
    if max(image.height, image.width) <= longest:
        return image
    if image.georeference is not None or image.dtype.name not in PHOTO_TYPES:
        even = [n for n in range(len(image.level_shapes)) if image.level_scale(n) is not None]
        small = [n for n in even if max(image.level_shapes[n]) <= longest]
        return image.level_view(small[0] if small else even[-1])
    # From a level of at least twice the size, by an antialiasing filter.
    return _resampled(at_level(image, 2 * longest), longest)


def _resampled(image: Image, longest: int) -> Image:
    pixels = np.empty(image.shape, image.dtype)
    valid = np.empty(image.shape[:2], np.bool_)
    for box in strips(image.shape[:2]):
        pixels[box[0] : box[2]] = image.read(box)
        valid[box[0] : box[2]] = image.read_valid(box)
    size = fitting(image.shape[:2], longest)
    share = None if valid.all() else _fine(valid.astype(np.float32), size)
    valid_small = np.ones(size, np.bool_) if share is None else share > 0.5
    codes = np.empty((*size, image.bands), image.dtype)
    for band in range(image.bands):
        plane = pixels[..., band].astype(np.float32)
        if band not in image.data_bands:
            # Lanczos overshoots, which would make opaque pixels transparent.
            plane = resized(plane, size)
        elif share is None:
            plane = _fine(plane, size)
        else:
            # Invalid pixels must not contribute.
            share_or_1 = np.where(valid_small, share, 1).astype(np.float32)
            plane = _fine(np.where(valid, plane, np.float32(0)), size) / share_or_1
        codes[..., band] = _codes(plane, image, band, valid_small)
    part = Image(SmallerReader(image, codes, valid_small))
    part.sensor, part.path, part.notes = image.sensor, image.path, list(image.notes)
    part.described = image.described
    part.working_space, part.known_range = image.working_space, image.known_range
    return part


def _codes(plane: Array, image: Image, band: int, valid_small: Mask) -> npt.NDArray[Any]:
    """Return integers of a band, with nodata or alpha set for invalid pixels."""
    most = int(np.iinfo(image.dtype).max)
    codes: npt.NDArray[Any] = np.clip(plane + np.float32(0.5), 0, most).astype(image.dtype)
    if band not in image.data_bands:
        codes = np.maximum(codes, np.ones((), image.dtype))
        codes[~valid_small] = 0
        return codes
    codes[~valid_small] = 0 if image.nodata is None else image.nodata
    return codes


def _fine(values: Array, size: tuple[int, int]) -> Array:
    from PIL import Image as Picture

    picture = Picture.fromarray(np.ascontiguousarray(values, np.float32))
    result: Array = np.asarray(picture.resize(size[::-1], Picture.Resampling.LANCZOS))
    return result
