"""One export: its options, its blocks in order, and samples for its verification."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadOutput, Cancelled, DiskFull
from napari_restore.images._image import Image
from napari_restore.images._profile import PhysicalGrid, Profile
from napari_restore.images._source import Box
from napari_restore.images.cache.folder import free_bytes
from napari_restore.images.files.exif import blocks_of_size
from napari_restore.images.values.colour import multiplied
from napari_restore.images.values.depth import in_16_bits
from napari_restore.images.values.validity import default_fill
from napari_restore.questions import Format, FormatKeywords, options_of

Read = Callable[[Box], npt.NDArray[Any]]
ReadValid = Callable[[Box], npt.NDArray[np.bool_]]
Progress = Callable[[int, int], None]

BLOCK = 512
BLOCK_BYTES = 64 << 20
"""Most bytes of pixels read at once; up to three such blocks are in memory."""
FULL_BYTES = 1 << 20
"""A disk with less than this left is full: GDAL uses up the rest before it fails."""
SAMPLE_SIDE = 64
SAMPLES = 24


@dataclass(frozen=True)
class ExportOptions(Format):
    """The format of a file, and whether it may replace another."""

    overwrite: bool = False
    separate: bool = False
    """Whether each band of a TIFF has blocks of its own, as pages of a stack need."""

    def __post_init__(self) -> None:
        if self.compress not in ("deflate", "zstd", "lzw", "jpeg", "none"):
            raise BadOutput(
                f"There is no compression {self.compress!r}.",
                "Choose one of deflate, zstd, lzw, jpeg, none.",
            )
        if self.clip not in (None, "box", "mask"):
            raise BadOutput(f"There is no clip {self.clip!r}.", "Choose box or mask.")
        subsamplings = options_of(Format)["subsampling"].choices or ()
        if self.subsampling not in (None, *subsamplings):
            raise BadOutput(
                f"There is no subsampling {self.subsampling!r}.",
                f"Choose one of {', '.join(map(str, subsamplings))}.",
            )
        if self.resize is not None and self.resize < 1:
            raise BadOutput(f"A longer side of {self.resize} is none.", "Give 1 pixel or more.")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise BadOutput(f"A quality of {self.quality} is outside 1 … 100.", "95 is usual.")

    @property
    def workers(self) -> int:
        """Threads that compress."""
        return self.threads or os.cpu_count() or 1


class SaveOptions(FormatKeywords, total=False):
    """Fields of `ExportOptions` as keywords."""

    overwrite: bool
    separate: bool


class PixelBlock(NamedTuple):
    """Pixels (h, w, C) at (y, x) of the output, and their validity if it is needed."""

    y: int
    x: int
    pixels: npt.NDArray[Any]
    valid: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Pixels:
    """The pixels to write: a box of an image that is derived from another, `like`."""

    box: Box
    """(y0, x0, y1, x1) in level-0 pixels of `like`."""
    read: Read
    """Box in level-0 pixels of `like` to (h, w, C); called for rows of blocks in order, from one
    other thread."""
    bands: int | None = None
    """C; by default that of `like`."""
    dtype: npt.DTypeLike | None = None
    """By default that of `like`."""
    read_16: Read | None = None
    """As `read`, for a file of 16 bits of an image of 8: (h, w, C) of uint16; None: those of `read`."""
    read_valid: ReadValid | None = None
    """Box to (h, w) bool; by default that of `like`."""
    inside: ReadValid | None = None
    """Box to (h, w) bool: elsewhere the output is nodata; None: it is what is read everywhere."""
    names: tuple[str, ...] = ()
    """What the bands are called, where they are none of `like`."""


@dataclass
class ExportJob:
    """An export in progress."""

    like: Image
    pixels: Pixels
    dtype: np.dtype[Any]
    """Of the file."""
    options: ExportOptions
    tags: dict[str, str]
    target: Path
    progress: Progress | None = None
    cancelled: Callable[[], bool] | None = None
    samples: list[PixelBlock] = field(default_factory=list)
    """Samples of the written pixels, always with all four corners."""
    finite: bool = True
    """Whether all pixels written so far were finite."""

    @property
    def suffix(self) -> str:
        """Suffix of the file, in lower case."""
        return self.target.suffix.lower()

    @property
    def box(self) -> Box:
        """(y0, x0, y1, x1) in level-0 pixels of `like`."""
        return self.pixels.box

    @property
    def bands(self) -> int:
        return self.pixels.bands or self.like.bands

    @property
    def given_dtype(self) -> np.dtype[Any]:
        """Of the pixels as they are read."""
        return np.dtype(self.pixels.dtype or self.like.dtype)

    @property
    def height(self) -> int:
        return self.box[2] - self.box[0]

    @property
    def width(self) -> int:
        return self.box[3] - self.box[1]

    @cached_property
    def profile(self) -> Profile:
        """The source's metadata of the output's bands and size; none where it has other pixels."""
        if self.source_bands is None:
            return Profile()
        profile = self.like.profile.of_bands(self.source_bands)
        exif, xmp = blocks_of_size(profile.exif, profile.xmp, self.height, self.width)
        return replace(profile, exif=exif, xmp=xmp)

    @property
    def source_bands(self) -> tuple[int, ...] | None:
        """The bands of `like` that the output has; None if the output is not `like`'s pixels."""
        same = self.given_dtype == self.like.dtype and not self.pixels.names
        if same and self.bands == self.like.bands:
            return tuple(range(self.bands))
        if same and self.bands == len(self.like.data_bands):
            return self.like.data_bands
        return None

    @property
    def nodata(self) -> float | None:
        """The nodata value of the output: `like`'s, or NaN for other float pixels."""
        if self.source_bands is not None and self.dtype == self.like.dtype:
            # What JPEG makes of the value would be read as a pixel; a mask it keeps.
            return None if self.options.compress == "jpeg" else self.like.nodata
        return float("nan") if self.dtype.kind == "f" and self.source_bands is None else None

    @property
    def grid(self) -> PhysicalGrid | None:
        """The physical grid of the output's pixels."""
        grid = self.like.profile.grid
        return None if grid is None else grid.shifted(self.box[0], self.box[1])

    @property
    def writes_mask(self) -> bool:
        """Whether validity must be written beside the pixels, for all bands together."""
        masks = self.like.profile.masks
        needed = masks == "mask" or (masks == "nodata" and self.options.compress == "jpeg")
        needed = needed or (masks == "none" and self.pixels.inside is not None)
        return self.source_bands is not None and needed

    @property
    def may_be_invalid(self) -> bool:
        """Whether some pixels of the output may be no data."""
        own = self.like.may_be_invalid or self.pixels.inside is not None
        return self.source_bands is not None and own

    def valid_in(self, box: Box) -> npt.NDArray[np.bool_]:
        """Return which pixels (h, w) of `box`, in pixels of `like`, are valid."""
        valid, inside = (self.pixels.read_valid or self.like.read_valid)(box), self.pixels.inside
        return valid if inside is None else valid & inside(box)

    def band_masks(self, y: int, x: int, shape: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
        """Return which values (h, w, C) of a block at (y, x) are valid; None where bands do not differ in that."""
        if self.source_bands is None or self.like.profile.masks != "bands":
            return None
        top, left = self.box[0] + y, self.box[1] + x
        box = (top, left, top + shape[0], left + shape[1])
        valid = self.like.read_band_valid(box)
        if self.pixels.inside is not None:
            valid &= self.pixels.inside(box)[..., None]
        return valid[..., list(self.source_bands)]

    def blocks(
        self, rows: int = BLOCK, *, with_valid: bool = False, whole_rows: bool = False
    ) -> Iterator[PixelBlock]:
        """Yield the output's pixels in row-major order, `rows` high, at most `BLOCK_BYTES`; raises `Cancelled`."""
        # The next block is read while the caller writes this one.
        pixel = self.bands * max(self.given_dtype.itemsize, self.dtype.itemsize)
        columns = max(1, BLOCK_BYTES // (rows * pixel * BLOCK)) * BLOCK
        if whole_rows:
            columns = self.width
        corners = [
            (y, x) for y in range(0, self.height, rows) for x in range(0, self.width, columns)
        ]
        patches, inside = self._patches_of_sample(), self.pixels.inside
        is_widened = self.given_dtype == np.uint8 and self.dtype == np.uint16
        read = (is_widened and self.pixels.read_16) or self.pixels.read

        def load(y: int, x: int) -> PixelBlock:
            bottom, right = min(y + rows, self.height), min(x + columns, self.width)
            box = (self.box[0] + y, self.box[1] + x, self.box[0] + bottom, self.box[1] + right)
            pixels = self._converted(read(box))
            if pixels.shape != (bottom - y, right - x, self.bands):
                raise ValueError(f"read gave {pixels.shape} for {box}, {self.bands} bands")
            if inside is not None:
                pixels = pixels.copy()
                pixels[~inside(box)] = default_fill(self.dtype, self.nodata)
            return PixelBlock(y, x, pixels, self.valid_in(box) if with_valid else None)

        with ThreadPoolExecutor(1, "export-read") as reader:
            ahead = reader.submit(load, *corners[0])
            for number, (y, _) in enumerate(corners):
                self.check_cancelled()
                block = ahead.result()
                if number + 1 < len(corners):
                    ahead = reader.submit(load, *corners[number + 1])
                self._sample(block, patches)
                yield block
                # GDAL's threads continue after a failed write, block by block.
                if free_bytes(self.target.parent) < FULL_BYTES:
                    raise disk_full(self.target)
                if self.progress is not None and (
                    number + 1 == len(corners) or corners[number + 1][0] != y
                ):
                    self.progress(min(y + rows, self.height), self.height)
        self.check_cancelled()

    def check_cancelled(self) -> None:
        """Raise `Cancelled` if the caller has cancelled."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled("Writing the file was cancelled.", "Nothing was left behind.")

    @property
    def premultiplied(self) -> int | None:
        """Number of the alpha band that colours of the file are multiplied by; else None."""
        kept = self.source_bands
        if kept is None or not self.like.profile.premultiplied or self.dtype.kind != "u":
            return None
        alpha = [n for n, band in enumerate(kept) if self.like.roles[band] == "alpha"]
        # GDAL's COG cannot say so.
        is_tiff = self.suffix in (".tif", ".tiff") and not self.options.cog
        return alpha[0] if alpha and is_tiff else None

    def _converted(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return `pixels` as the file has them."""
        pixels = self._in_dtype(pixels)
        alpha = self.premultiplied
        return pixels if alpha is None else multiplied(pixels, alpha)

    def _in_dtype(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return `pixels` in the file's dtype; a change of bit depth keeps black and white."""
        top = self._largest
        if pixels.dtype == self.dtype:
            return pixels if top is None else self._of_fewer_bits(pixels, top)
        light, bands = self.like.profile.light, self.source_bands
        if light is not None and bands is not None and self.dtype.kind == "u":
            alpha = [n for n, band in enumerate(bands) if self.like.roles[band] == "alpha"]
            return light.shown(pixels, self.dtype, alpha)
        if pixels.dtype == np.uint16 and self.dtype == np.uint8:
            white = np.uint32(top or 65535)
            bright = np.minimum(pixels, white).astype(np.uint32)
            fewer: npt.NDArray[Any] = (bright * 255 + white // 2) // white
            return fewer.astype(np.uint8)
        if pixels.dtype == np.uint8 and self.dtype == np.uint16:
            return in_16_bits(pixels)
        if pixels.dtype.kind == "f" and self.dtype.kind == "u":
            top = np.iinfo(self.dtype).max
            scaled: npt.NDArray[Any] = np.rint(np.clip(np.nan_to_num(pixels), 0, 1) * top)
            return scaled.astype(self.dtype)
        return pixels.astype(self.dtype)

    @property
    def _largest(self) -> int | None:
        """Largest value where the values of `like` have fewer bits than its type; else None."""
        bits = self.like.profile.bits
        if bits is None or self.source_bands is None or self.given_dtype != np.uint16:
            return None
        return int(2**bits) - 1

    def _of_fewer_bits(self, pixels: npt.NDArray[Any], top: int) -> npt.NDArray[Any]:
        """Return values up to `top` as the format has them."""
        if self.suffix == ".zarr" or self.like.georeference is not None:
            return pixels
        pixels = np.minimum(pixels, pixels.dtype.type(top))
        if self.bits is not None:
            return pixels
        # The format has no fewer bits: a value of `top` is its white.
        return ((pixels.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)

    @property
    def bits(self) -> int | None:
        """Bits of a value in the file where they are fewer than those of its type."""
        kept = self._largest is not None and self.dtype == np.uint16
        place = self.suffix in (".tif", ".tiff") and self.like.georeference is None
        return self.like.profile.bits if kept and place else None

    def _patches_of_sample(self) -> list[tuple[int, int]]:
        """Return the top left corners of the patches to compare later, the same for the same size."""
        bottom, right = max(0, self.height - SAMPLE_SIDE), max(0, self.width - SAMPLE_SIDE)
        rng = np.random.default_rng([self.height, self.width])
        inner = zip(
            rng.integers(0, bottom + 1, SAMPLES).tolist(),
            rng.integers(0, right + 1, SAMPLES).tolist(),
            strict=True,
        )
        return [(0, 0), (0, right), (bottom, 0), (bottom, right), *inner]

    def _sample(self, block: PixelBlock, patches: list[tuple[int, int]]) -> None:
        if self.finite and block.pixels.dtype.kind == "f":
            self.finite = bool(np.isfinite(block.pixels).all())
        height, width = block.pixels.shape[:2]
        for y, x in patches:
            top, left = max(y, block.y), max(x, block.x)
            bottom = min(y + SAMPLE_SIDE, block.y + height)
            right = min(x + SAMPLE_SIDE, block.x + width)
            if top < bottom and left < right:
                part = np.s_[top - block.y : bottom - block.y, left - block.x : right - block.x]
                flags = None if block.valid is None else block.valid[part].copy()
                self.samples.append(PixelBlock(top, left, block.pixels[part].copy(), flags))


def same_pixels(one: Any, other: Any, *, lossy: bool) -> bool:
    """Return whether two patches (h, w, C) are equal, NaN included, or similar if lossy."""
    if not lossy:
        return bool(np.array_equal(one, other, equal_nan=other.dtype.kind == "f"))
    if one.shape != other.shape:
        return False
    # Detail may be gone at a low quality, brightness is not.
    return bool(np.abs(one.mean(axis=(0, 1)) - other.mean(axis=(0, 1))).max() < 40)


@contextmanager
def disk_full_raised(path: Path) -> Iterator[None]:
    """Turn GDAL's error on a full disk, which names no cause, into `DiskFull`."""
    # Used before anything is cleaned up, which would free space again.
    try:
        yield
    except Exception as error:
        from_gdal = type(error).__module__.startswith("rasterio")
        if from_gdal and free_bytes(path.parent) < FULL_BYTES:
            raise disk_full(path) from error
        raise


def disk_full(path: Path) -> DiskFull:
    """Return the error of a disk without room for `path`."""
    return DiskFull(f"No space is left in {path.parent}.", "Free some, or choose another disk.")


class DamagedOutput(BadOutput):
    """A written file, opened again, differs from what was written."""
