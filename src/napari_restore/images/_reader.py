"""Common base of all readers of files and arrays."""

from __future__ import annotations

import copy
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images._georeference import Georeference
from napari_restore.images._planes import ONE, Planes
from napari_restore.images._profile import Profile
from napari_restore.images._source import Box, Level, Source, chunk_box
from napari_restore.images.files.fingerprint import fingerprint_files
from napari_restore.images.values.facts import OpeningNote
from napari_restore.images.values.presets import Sensor
from napari_restore.images.values.roles import Bands, GivenBands, describe_bands
from napari_restore.images.values.sensors import product_of
from napari_restore.images.values.validity import Nodata, valid_by_values

STREAMED_BYTES = 64 * 2**20
"""Untiled images larger than this, decoded, are streamed once into a tiled cache."""

WHITE_ZERO = "Its value 0 is white (MinIsWhite): it was turned to start at black."

STRIP_ROWS = 512
STRIP_BYTES = 4 * 2**20
SMALL_BLOCK = 256

SUPPORTED = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"}


class Reader(Source):
    """A source with the metadata of the file it reads, known by its row in images/readers/registry.py."""

    OPTIONS: ClassVar[tuple[str, ...]] = ()
    """Those of opening a file that its constructor takes."""
    name: str
    profile: Profile
    georeference: Georeference | None = None
    planes: Planes = ONE
    """Those of the file …"""
    plane: int = 0
    """… of which this is one, counted from 0."""
    notes: list[str]
    shows_classes = False
    """Whether colours on a map are those of a palette of classes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self.profile = Profile()
        self.notes = []

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        """Return whether this reader opens `path`, which begins as its row says, by its first 4 KiB."""
        return True

    @property
    def alpha(self) -> int | None:
        """Number of the alpha band."""
        interp = self.profile.colorinterp
        return interp.index("alpha") if "alpha" in interp else None

    @cached_property
    def described(self) -> Bands:
        """What the file says of its bands."""
        return self.describe()

    def describe(self, sensor: Sensor | None = None, given: GivenBands | None = None) -> Bands:
        """Return what the bands are by the file, a `sensor` and the user; see `describe_bands`."""
        profile = self.profile
        if sensor is None:
            sensor = product_of(str(self.path), profile.tags, profile.descriptions)
        return describe_bands(
            self.bands,
            profile.colorinterp,
            profile.descriptions,
            profile.wavelengths,
            sensor,
            given,
            band_tags=profile.band_tags,
            units=profile.units,
        )

    @cached_property
    def data_bands(self) -> tuple[int, ...]:
        """The bands whose values can make a pixel invalid: neither alpha nor auxiliary ones."""
        return self.described.data

    def counting(self, bands: tuple[int, ...]) -> Self:
        """Return itself, or the same reader with `bands` as its `data_bands`."""
        if bands == self.data_bands:
            return self
        other = copy.copy(self)
        other.data_bands = bands
        return other

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are those of arrays of numpy, which are compared in a moment."""
        return False

    def uncached(self) -> Self:
        """Return a reader of the same that has read nothing yet."""
        return copy.copy(self)

    def valid_by_values(
        self,
        pixels: npt.NDArray[Any],
        nodata: Nodata = (),
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Return `valid` (default: all) without what the values of `pixels` say is invalid."""
        if valid is None:
            valid = np.ones(pixels.shape[:2], bool)
        return valid_by_values(pixels, valid, self.data_bands, self.alpha, nodata)

    def valid_in(self, level: int, box: Box, pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Return which of `pixels` (h, w, C), those of `box` of `level`, are valid, (h, w)."""
        return self.valid_by_values(pixels, (self.profile.nodata,) * self.bands)

    def band_valid_in(
        self, level: int, box: Box, pixels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        """Return which values of `pixels` (h, w, C) their own bands call valid, (h, w, C).

        Differs between bands only where `Profile.masks` is ``bands``.
        """
        valid = self.valid_in(level, box, pixels)
        return np.repeat(valid[..., None], pixels.shape[2], axis=2)

    def read_valid_chunk(
        self, level: int, row: int, column: int, pixels: npt.NDArray[Any]
    ) -> npt.NDArray[np.bool_]:
        return self.valid_in(level, chunk_box(self.levels[level], row, column), pixels)

    def read_valid_rows(self, y0: int, y1: int, pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return self.valid_in(0, (y0, 0, y1, self.levels[0].width), pixels)

    def files(self) -> tuple[Path, ...]:
        """Return the files that contain pixels; the fingerprint is computed from them."""
        return (self.path,)

    def fingerprint(self) -> str:
        """Return the hex digest of the current content; raises `OSError` if it is gone."""
        return of_plane(fingerprint_files(self.files()), self.plane)


class InnerReader(Reader):
    """Pixels that are made of those of another reader, with its metadata."""

    def __init__(self, inner: Reader) -> None:
        super().__init__(inner.path)
        self.inner = inner
        self.name, self.profile = inner.name, inner.profile
        self.bands, self.dtype, self.levels = inner.bands, inner.dtype, inner.levels
        self.georeference, self.may_be_invalid = inner.georeference, inner.may_be_invalid

    @property
    def in_memory(self) -> bool:
        return self.inner.in_memory

    def uncached(self) -> Self:
        other = copy.copy(self)
        other.inner = self.inner.uncached()
        return other

    def files(self) -> tuple[Path, ...]:
        return self.inner.files()

    def close(self) -> None:
        self.inner.close()


def of_plane(fingerprint: str, plane: int) -> str:
    """Return the fingerprint of a plane of a file; the first one has that of the file."""
    return extended(fingerprint, f" {plane}" if plane else "")


def extended(fingerprint: str, more: str) -> str:
    """Return the fingerprint of what `more` distinguishes from others of a file; that of the file for ""."""
    return sha256(f"{fingerprint}{more}".encode()).hexdigest() if more else fingerprint


def check_dtype(dtype: npt.DTypeLike, name: str) -> np.dtype[Any]:
    """Return `dtype` if pixels may have it; raises `UnreadableImage`."""
    # GDAL's complex integers are no dtype of numpy.
    if str(dtype).startswith("complex"):
        raise UnreadableImage(
            f"{name} contains complex numbers, which have no brightness.",
            "Save its amplitude as an image of real numbers first.",
        )
    kind = np.dtype(dtype)
    if kind.name not in SUPPORTED:
        raise UnreadableImage(
            f"{name} contains {kind.name} values, which are not supported.",
            "Convert it to 8-, 16- or 32-bit integers or to 32- or 64-bit floats.",
        )
    return kind.newbyteorder("=")


def first_of(pictures: int) -> list[str]:
    """Return the note on a file of several pictures; none for one."""
    if pictures < 2:
        return []
    text = f"It contains {pictures} pictures (pages, planes or frames): the first one is used."
    return [OpeningNote(text)]


def strip_level(height: int, width: int, pixel_bytes: int, rows: int = 1) -> tuple[Level, bool]:
    """Return chunks of whole rows, of `rows` compressed together, and whether random access is cheap."""
    whole = height * width * pixel_bytes
    if whole > STREAMED_BYTES:
        return Level(height, width, SMALL_BLOCK * 2, SMALL_BLOCK * 2), False
    fitting = max(1, STRIP_BYTES // max(1, width * pixel_bytes))
    chunk = min(height, STRIP_ROWS, max(rows, fitting // rows * rows))
    return Level(height, width, chunk, width), True


def block_level(height: int, width: int, block: tuple[int, int]) -> Level:
    """Return chunks of one block, or of several where blocks are small."""
    rows = -(-SMALL_BLOCK // block[0]) * block[0]
    columns = -(-SMALL_BLOCK // block[1]) * block[1]
    return Level(height, width, rows, columns)
