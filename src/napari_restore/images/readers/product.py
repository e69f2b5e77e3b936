"""The files of a product as one image, and a file on the grid of another one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images._base import DerivedReader, ImageBase
from napari_restore.images._profile import Profile
from napari_restore.images._reader import Reader, extended
from napari_restore.images._source import Box, chunk_box
from napari_restore.images.files.fingerprint import fingerprint_files
from napari_restore.images.products.product import Product, ProductFile
from napari_restore.images.readers.stack import StackReader
from napari_restore.images.values.sensors import detect_sensor

Array = npt.NDArray[Any]
ALIGNED = 1e-3
"""Largest distance of two grids, as a part of a pixel."""


class FittedReader(DerivedReader):
    """The pixels of `image` on the grid of `like`, in `dtype`; coarser pixels are repeated."""

    def __init__(self, image: ImageBase, like: ImageBase, dtype: npt.DTypeLike) -> None:
        super().__init__(image)
        self.dtype = np.dtype(dtype)
        self.levels, self.georeference = like.reader.levels, like.georeference
        self.block_bytes = image.block_bytes

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        pixels = self._fitted(level, chunk_box(self.levels[level], row, column), self.image.read)
        return np.ascontiguousarray(pixels, self.dtype)

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        return self._fitted(level, box, self.image.read_valid)

    def _fitted(self, level: int, box: Box, read: Callable[[Box, int], Array]) -> Array:
        """Return what `read` returns of the image, for the pixels of `box` of a level."""
        size = self.levels[level][:2]
        # The level of the file that is just as fine, or finer.
        stored = self.image.level_shapes[: self.image.stored_levels]
        number = max((n for n, s in enumerate(stored) if s >= size), default=0)
        height, width = stored[number]
        y0, x0, y1, x1 = box
        rows = _nearest(y0, y1, height / size[0], height)
        columns = _nearest(x0, x1, width / size[1], width)
        part = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
        chosen: Array = read(part, number)[rows - rows[0]][:, columns - columns[0]]
        return chosen

    def digest(self) -> str:
        return f" {self.levels[0][:2]} {self.dtype}"


def _nearest(start: int, stop: int, step: float, count: int) -> npt.NDArray[np.intp]:
    """Return the pixel of `count` that lies under the centre of each from `start` to `stop`."""
    indices = np.floor((np.arange(start, stop) + 0.5) * step).clip(0, count - 1)
    whole: npt.NDArray[np.intp] = indices.astype(np.intp)
    return whole


def nests_in(coarse: ImageBase, fine: ImageBase) -> bool:
    """Return whether the pixels of `coarse` are squares of whole pixels of `fine`, edge to edge."""
    if coarse.crs != fine.crs or coarse.transform is None or fine.transform is None:
        return False
    factor = fine.height / coarse.height
    if factor != fine.width / coarse.width or factor != int(factor):
        return False
    side = max(map(abs, fine.transform[:2]))
    a, b, c, d, e, f = fine.transform
    wanted = (a * factor, b * factor, c, d * factor, e * factor, f)
    apart = (abs(x - y) for x, y in zip(coarse.transform, wanted, strict=True))
    return max(apart) <= ALIGNED * side


def common_dtype(light: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any] | None:
    """Return the type that has the values of both without more bytes than the larger of them."""
    both = np.result_type(light, other)
    return both if both.itemsize <= max(light.itemsize, other.itemsize) else None


class ProductReader(StackReader):
    """Bands of one resolution of a product, with what its metadata says of them.

    `members` are its files with their images, on one grid. Where all files of light have one nodata
    value and no masks, a pixel is valid as in one file of all bands.
    """

    def __init__(
        self,
        product: Product,
        path: Path,
        members: Sequence[tuple[ProductFile, ImageBase]],
        notes: Sequence[str],
    ) -> None:
        super().__init__([image for _, image in members])
        self.path, self.name, self.product = path, product.name, product
        self.notes = list(dict.fromkeys([*product.notes, *notes, *self.notes]))
        light = [image for member, image in members if member.is_light]
        marks = {(image.profile.masks in ("none", "nodata"), str(image.nodata)) for image in light}
        nodata, masks = light[0].nodata, self.profile.masks
        if product.nodata is not None and all(is_plain for is_plain, _ in marks):
            nodata, masks = product.nodata, "nodata"
        elif len(marks) == 1 and marks.pop()[0]:
            masks = "none" if nodata is None else "nodata"
        else:
            nodata, masks = None, "bands"
        tags = {name: dict(values) for name, values in self.profile.tags.items()}
        for space, values in product.acquisition.tags().items():
            tags[space] = {**tags.get(space, {}), **values}
        tags[""] = {**tags.get("", {}), **product.tags}
        tags = {space: values for space, values in tags.items() if values}
        self.profile = replace(
            self.profile,
            nodata=nodata,
            masks=masks,
            tags=tags,
            bits=None,
            is_reflectance=product.is_reflectance,
            sensor=detect_sensor(product.name, tags),
            **_stated(members, self.profile),
        )
        self.may_be_invalid = masks != "none" or self.dtype.kind == "f"

    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        if self.profile.masks == "bands":
            return super().valid_in(level, box, pixels)
        return Reader.valid_in(self, level, box, pixels)

    def band_valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        if self.profile.masks == "bands":
            return super().band_valid_in(level, box, pixels)
        return Reader.band_valid_in(self, level, box, pixels)

    def files(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys([*self.product.metadata, *super().files()]))

    def fingerprint(self) -> str:
        # Two resolutions of one zip are two contents.
        profile = self.profile
        described = (profile.descriptions, profile.scales, profile.offsets, self.levels[0][:2])
        return extended(fingerprint_files(self.files()), f"{described}")


def _stated(members: Sequence[tuple[ProductFile, ImageBase]], profile: Profile) -> dict[str, Any]:
    """Return the items of a profile for each band that the metadata describes."""
    fields = {
        "descriptions": "bands", "scales": "scales", "offsets": "offsets",
        "wavelengths": "wavelengths", "colorinterp": "colours",
    }  # fmt: skip
    items: dict[str, Any] = {}
    for name, of_member in fields.items():
        every, values = iter(getattr(profile, name)), list[Any]()
        for member, image in members:
            own, given = list(islice(every, image.bands)), getattr(member, of_member)
            values += given if len(given) == image.bands else own
        items[name] = tuple(values)
    return items


def check_count(member: ProductFile, image: ImageBase) -> None:
    """Raise `UnreadableImage` for a file of fewer or more bands than the metadata says."""
    if len(member.bands) not in (1, image.bands):
        raise UnreadableImage(
            f"{image.name} has {image.bands} bands, and {len(member.bands)} are named.",
            "Download the product again.",
        )
