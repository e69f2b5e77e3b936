"""Interface of an image for levels and readers: its description and its reading methods."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from napari_restore._addresses import is_remote
from napari_restore.errors import UnreadableImage
from napari_restore.images._georeference import Georeference
from napari_restore.images._profile import Profile
from napari_restore.images._reader import InnerReader, Reader, extended
from napari_restore.images._source import Box, Level, Source, chunks_of, common_part, within
from napari_restore.images.cache.chunks import (
    chunk_cache,
    fetch_runs,
    read_valid_window,
    read_window,
)
from napari_restore.images.values.presets import Sensor
from napari_restore.images.values.roles import Bands, auxiliary_role
from napari_restore.images.values.sensors import product_of, sensor_of
from napari_restore.images.values.validity import (
    REACH,
    clear_of_edges,
    lacks_a_band,
    may_lack_a_band,
)
from napari_restore.images.values.working_space import WorkingSpace

Array = npt.NDArray[Any]


class ImageBase(ABC):
    """The part of `Image` that does not depend on how its levels are made."""

    reader: Reader
    """Description of the file, and the levels it stores."""
    source: Source
    """Level 0 and the levels the file stores, or the tiled cache of an untiled file."""
    pyramid: Source | None
    """A source that has the levels after those of `source`, built or being built."""
    name: str
    path: Path | None
    sensor: str | None
    described: Bands
    """Roles, wavelengths and kinds of the bands."""
    planned_levels: tuple[Level, ...]
    """Size and chunks of all levels, built or not; fixed from the start."""
    progressive: bool
    """True: `levels` show what is decoded so far of an untiled file and never wait for it."""
    working_space: WorkingSpace | None
    """Conversion of the colours of a photo that is not sRGB for models; else None."""

    @property
    def is_served(self) -> bool:
        """Whether a server sends pixels of it."""
        return any(is_remote(str(file)) for file in self.reader.files())

    @property
    def block_bytes(self) -> int:
        """Bytes of what must be decoded as one beside chunks.

        It is 0 once all is decoded into the cache.
        """
        landed = self.source is not self.reader and getattr(self.source, "complete", False)
        return 0 if landed and not self.reader.random_access else self.reader.block_bytes

    # -- pixels ------------------------------------------------------------------
    @abstractmethod
    def prepare(self) -> ImageBase:
        """Stream an untiled file once into the tiled cache, and return the image itself."""

    def read(self, box: Box, level: int = 0) -> Array:
        """Return the pixels of a box.

        An untiled file is streamed into the tiled cache first, which may take a while; see
        `prepare`. Raises `UnreadableImage`, `DiskFull`.

        Parameters
        ----------
        box
            (y0, x0, y1, x1), in pixels of `level`, inside of it.
        level
            Number of the level; 0 is the full image.

        Returns
        -------
        numpy.ndarray
            A new array (h, w, C) in the image's dtype.
        """
        self.prepare()
        return self.read_landed(box, level)

    def fetch_ahead(self, box: Box) -> None:
        """Read a box of level 0, and what a pass to the right needs next, from a server in large requests."""
        fetch_runs(self.source, 0, box, ahead=True)

    def read_valid(self, box: Box, level: int = 0) -> npt.NDArray[np.bool_]:
        """Return which pixels of a box are valid.

        Not valid are pixels that are masked by the file, fully transparent, not finite in any data
        band, or nodata: in any data band for floats and signed integers (but for a nodata value of
        0), else in all of them.

        Parameters
        ----------
        box
            (y0, x0, y1, x1), in pixels of `level`, inside of it.
        level
            Number of the level.

        Returns
        -------
        numpy.ndarray
            A new array (h, w) of bool.
        """
        y0, x0, y1, x1 = box = self._checked(box, level)
        if not self.may_be_invalid:
            return np.ones((y1 - y0, x1 - x0), bool)
        self.prepare()
        return self.read_valid_landed(box, level)

    def read_landed(self, box: Box, level: int = 0) -> Array:
        """Return the pixels of `read` without waiting: 0 where they are not in the cache yet."""
        y0, x0, y1, x1 = box = self._checked(box, level)
        source = self._landed_source_of(level)
        if source is None:
            return np.zeros((y1 - y0, x1 - x0, self.bands), self.dtype)
        return read_window(source, level, box)

    def read_valid_landed(self, box: Box, level: int = 0) -> npt.NDArray[np.bool_]:
        """Return the validity of `read_valid` without waiting: False where pixels are not in the cache yet."""
        y0, x0, y1, x1 = box = self._checked(box, level)
        source = self._landed_source_of(level)
        if source is None:
            return np.zeros((y1 - y0, x1 - x0), bool)
        valid = read_valid_window(source, level, box)
        for row, column, there in chunks_of(source.levels[level], box):
            if not source.is_built(level, row, column):
                valid[within(common_part(box, there), box)] = False
        return valid

    def has_landed(self, box: Box, level: int) -> bool:
        """Return whether no pixel of a box must be decoded or built before it is read."""
        source = self._source_of(level)
        return source is not None and all(
            source.is_built(level, row, column)
            for row, column, _ in chunks_of(source.levels[level], box)
        )

    def is_built(self, level: int) -> bool:
        """Return whether all of a level can be read without building some of it."""
        source = self._source_of(level)
        return source is not None and (source is self.source or source.cached)

    def _checked(self, box: Box, level: int) -> Box:
        if not 0 <= level < len(self.planned_levels):
            raise IndexError(f"level {level} of {len(self.planned_levels)}")
        y0, x0, y1, x1 = (int(v) for v in box)
        height, width = self.level_shapes[level]
        if not (0 <= y0 <= y1 <= height and 0 <= x0 <= x1 <= width):
            raise IndexError(f"box {(y0, x0, y1, x1)} outside a level of {height} × {width}")
        return y0, x0, y1, x1

    def _source_of(self, level: int) -> Source | None:
        """Return the source that has `level`."""
        for source in (self.source, self.pyramid):
            if source is not None and level < len(source.levels):
                return source
        return None

    @abstractmethod
    def _landed_source_of(self, level: int) -> Source | None:
        """Return the source of what is decoded so far of `level`."""

    def read_band_valid(self, box: Box) -> npt.NDArray[np.bool_]:
        """Return which values (h, w, C) of a box of level 0 their own bands call valid."""
        return self.reader.band_valid_in(0, box, self.read(box))

    def read_representative(self, box: Box) -> npt.NDArray[np.bool_]:
        """Return which valid pixels (h, w) of a box of level 0 statistics can rely on; see `clear_of_edges`."""
        y0, x0, y1, x1 = box
        if not self.may_be_invalid:
            return np.ones((y1 - y0, x1 - x0), bool)
        # Along nodata, values are mixed with it or missing in some bands: such pixels are valid and
        # restored, but a dark channel would take them for the scene.
        top, left = max(0, y0 - REACH), max(0, x0 - REACH)
        wide = (top, left, min(self.height, y1 + REACH), min(self.width, x1 + REACH))
        mask = self.read_valid(wide)
        if not mask.all():
            lacking = None
            if may_lack_a_band(self.data_bands, self.nodata, self.dtype):
                lacking = lacks_a_band(self.read(wide), self.data_bands, self.nodata)
            mask = clear_of_edges(mask, lacking)
        return mask[y0 - top : y1 - top, x0 - left : x1 - left].copy()

    # -- levels ------------------------------------------------------------------
    @abstractmethod
    def level_view(self, number: int) -> ImageBase:
        """Return a level as an image of its own, the image itself for 0."""

    def level_scale(self, number: int) -> int | None:
        """Return the level-0 pixels along a side of one of a level, a power of two; None where it is none."""
        height, width = self.level_shapes[number]
        ratio = max(self.height / height, self.width / width)
        scale = 1 << max(0, math.ceil(math.log2(ratio)))
        halved = -(-self.height // scale), -(-self.width // scale)
        return scale if halved == (height, width) else None

    def close(self) -> None:
        """Release file handles and cached chunks; reading opens them again."""
        for source in (self.reader, self.source, self.pyramid):
            if source is not None:
                chunk_cache.forget(source)
                source.close()

    # -- description -------------------------------------------------------------
    @property
    def height(self) -> int:
        """Rows of level 0."""
        return self.planned_levels[0].height

    @property
    def width(self) -> int:
        """Columns of level 0."""
        return self.planned_levels[0].width

    @property
    def bands(self) -> int:
        """Number of bands, auxiliary ones and alpha included."""
        return self.reader.bands

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of level 0."""
        return self.height, self.width, self.bands

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.reader.dtype

    @property
    def chunk(self) -> tuple[int, int]:
        """(rows, columns) that level 0 is decoded in."""
        level = self.source.levels[0]
        return level.chunk_height, level.chunk_width

    def chunk_bytes(self, size: tuple[int, int], more: int) -> int:
        """Return the bytes of the chunks that a box of `size` (height, width) touches, and of `more`."""
        # Of this image and of those that its pixels are made of, with validity: each has chunks in
        # the cache.
        rows, columns = self.chunk
        down, across = -(-size[0] // rows) + 1, -(-min(size[1], self.width) // columns) + 1
        pixels = min(self.height * self.width, rows * columns * (down * across + more))
        own = pixels * (self.bands * self.dtype.itemsize + self.may_be_invalid)
        if not isinstance(self.reader, DerivedReader):
            return own
        # A chunk is made as a whole.
        return own + self.reader.image.chunk_bytes((down * rows, across * columns), more)

    @property
    def level_shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of all levels, level 0 first; built or not, they are fixed."""
        return tuple((level.height, level.width) for level in self.planned_levels)

    @property
    def stored_levels(self) -> int:
        """Number of levels in the file itself, level 0 included."""
        return len(self.reader.levels)

    @property
    def profile(self) -> Profile:
        """Metadata that an export carries."""
        return self.reader.profile

    @property
    def georeference(self) -> Georeference | None:
        """Where it lies on the map; None of an image without a place."""
        return self.reader.georeference

    @property
    def crs(self) -> str | None:
        """The coordinate system as WKT."""
        place = self.georeference
        return place.crs_wkt or place.gcps_crs_wkt if place else None

    @property
    def transform(self) -> tuple[float, float, float, float, float, float] | None:
        """Six numbers (a, b, c, d, e, f), see `Georeference`; None where it has no transform."""
        return self.georeference.transform if self.georeference else None

    @property
    def nodata(self) -> float | None:
        """The value of pixels without data; None where there is none."""
        return self.profile.nodata

    @property
    def descriptions(self) -> tuple[str | None, ...]:
        """Name of each band in the file; None where it has none."""
        return self.profile.descriptions or (None,) * self.bands

    @property
    def roles(self) -> tuple[str | None, ...]:
        """Role of each band, ``"red"``, ``"nir"`` …; None where it is not known."""
        return self.described.roles

    @property
    def wavelengths(self) -> tuple[float | None, ...]:
        """Wavelength of each band in nanometres; None where it is not known."""
        return self.described.wavelengths

    @property
    def data_bands(self) -> tuple[int, ...]:
        """All bands but alpha and auxiliary ones (classes, masks, bits, angles …)."""
        return self.described.data

    @property
    def preset(self) -> Sensor | None:
        """The sensor that the user named, or the product whose zero its names decide."""
        name, tags = str(self.path or ""), self.profile.tags
        if self.sensor is None:
            return product_of(name, tags, self.descriptions)
        return sensor_of(self.sensor, name, tags, self.descriptions)

    @property
    def other_than_light(self) -> str | None:
        """The role ("class", "quality") of the only band of a map that shows no light by its name.

        That is the file's name where it is one of a known sensor.
        """
        if self.bands != 1 or self.georeference is None:
            return None
        (name,) = self.descriptions
        is_known = self.preset is not None or self.profile.sensor is not None
        return auxiliary_role(name or (self.name if is_known else None))

    @property
    def is_display(self) -> bool:
        """Whether values are for a screen, as photos' are, rather than linear light, as a sensor's."""
        return self.dtype == np.uint8 or self.profile.is_display

    @property
    def is_photo(self) -> bool:
        """Whether it is a picture to look at, in colour or grey: no map, and no measurement in bands."""
        if (
            self.georeference is not None
            or self.sensor is not None
            or self.profile.sensor is not None
        ):
            return False
        lights = {self.roles[band] for band in self.data_bands}
        is_colour = lights - {None} == {"red", "green", "blue"}
        return is_colour or (self.is_display and len(self.data_bands) == 1)

    @property
    def may_be_invalid(self) -> bool:
        """False: every pixel is valid."""
        return self.reader.may_be_invalid

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the content, independent of name and time; raises `UnreadableImage` if it is gone."""
        try:
            return self.reader.fingerprint()
        except OSError as error:
            raise UnreadableImage(
                f"{self.name} can no longer be read: {error.strerror or error}.", "Open it again."
            ) from error

    @property
    @abstractmethod
    def known_range(self) -> tuple[float, float] | None:
        """Smallest and largest finite value where they are known without reading, else None."""

    @abstractmethod
    def uncached(self) -> Self:
        """Return the same image without levels and values that were read before."""


class DerivedReader(InnerReader):
    """Pixels that are made of those of `image`, an opened one, and have its metadata."""

    def __init__(self, image: ImageBase) -> None:
        super().__init__(image.reader)
        self.image = image

    def uncached(self) -> Self:
        other = copy.copy(self)
        other.image = self.image.uncached()
        other.inner = other.image.reader
        return other

    @abstractmethod
    def digest(self) -> str:
        """Return what distinguishes these pixels from others that are made of the image."""

    def fingerprint(self) -> str:
        # Two that are made of one file are two contents.
        return extended(self.inner.fingerprint(), self.digest())

    def close(self) -> None:
        self.image.close()
