"""A lazily opened image, and `open_image`."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import Message, option
from napari_restore.images._base import ImageBase
from napari_restore.images._derived import DerivedImages
from napari_restore.images._georeference import crs_name
from napari_restore.images._reader import Reader, Unread
from napari_restore.images._source import Box, Source, chunks_of
from napari_restore.images.cache._chunks import chunk_cache, read_valid_window, read_window
from napari_restore.images.levels._cached import OnLanded
from napari_restore.images.levels._level_view import scale_of
from napari_restore.images.levels._making import (
    build_pyramid,
    is_streamed,
    planned_levels,
    stream,
    stream_of,
)
from napari_restore.images.readers._array import ArrayReader, reader_of_array
from napari_restore.images.readers._converted import ConvertedReader
from napari_restore.images.readers._mosaic import MosaicReader
from napari_restore.images.readers._registry import reader_of
from napari_restore.images.readers._stack import StackReader
from napari_restore.images.values._roles import GivenBands
from napari_restore.images.values._sensors import SENSORS, Sensor
from napari_restore.images.values._working_space import WorkingSpace, working_space_of
from napari_restore.questions import Pathlike

Array = npt.NDArray[Any]
OPENED_BY = {"source", "stack", "bands", "sensor", "allow_outside"}
"""Keys of the `spec` of an image that is a whole file, or several."""


class Image(DerivedImages):
    """Pixels (H, W, C) with levels, bands, validity and georeference; read on demand.

    Reading is thread safe. `source` has level 0 and the levels the file itself stores; once an
    untiled file was streamed, its tiled cache replaces it. `pyramid` has the levels after those.
    Until `build_pyramid` has made a chunk of it, that chunk reads as 0 and, where pixels may be
    invalid, as not valid.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        spec: dict[str, Any] | None = None,
        bands: GivenBands | None = None,
        sensor: str | None = None,
    ) -> None:
        self.reader = reader
        self.source: Source = reader
        self.pyramid: Source | None = None
        self.spec = spec
        self.full = None
        self.scale = 1
        self.companions = None
        self.sensor = sensor
        self.name = reader.name
        self.path: Path | None = None if isinstance(reader, ArrayReader) else reader.path
        self.notes: list[str] = list(reader.notes)
        self.progressive = False
        """True: `levels` show what is decoded so far of an untiled file and never wait for it."""
        self.planned_levels = planned_levels(reader)
        """Size and chunks of all levels, built or not; fixed from the start."""
        preset = self.preset
        is_named = sensor is not None or bands is not None
        self.described = (
            reader.describe(None if sensor is None else preset, bands)
            if is_named
            else reader.described
        )
        self.reader = self.source = reader = reader.counting(self.data_bands)
        if self.dtype != np.uint8:
            self.notes += self._notes_on_sensor(preset)
        if (kind := self.other_than_light) is not None:
            self.notes.append(f"Its name says that it shows no light ({kind}): methods change it.")
        elif self.profile.is_reflectance:
            self.notes.append(
                "It is a surface-reflectance product: "
                "what comes out is restored appearance, not calibrated reflectance."
            )
        self.working_space: WorkingSpace | None = None
        """Conversion of the colours of a photo that is not sRGB for models; else None."""
        if self.georeference is None:
            self.working_space, colour_note = working_space_of(self.profile, self.roles, self.dtype)
            self.notes += [colour_note] if colour_note else []
        self._preparing = threading.RLock()

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Image:
        """Return the image that `spec` describes, perhaps in another process."""
        arguments = dict(spec)
        others = arguments.pop("companions", None)
        matrix, grid = arguments.pop("placement", None), arguments.pop("grid", None)
        ev, light = arguments.pop("exposed", None), arguments.pop("light", None)
        # The matrix is about level 0, and every level of light is exposed by itself.
        level = 0 if matrix is None and ev is None else arguments.pop("level", None) or 0
        balance = arguments.pop("balance", None)
        image = open_image(arguments.pop("source"), **arguments)
        if balance is not None:
            image = image.balanced(balance)
        if ev is not None:
            image = image.exposed(ev)
        if matrix is not None:
            image = image.placed(matrix, tuple(grid))
        image = image.level_view(level)
        if others is None:
            return image
        frames = [cls.from_spec(each) for each in others["images"]]
        bracket = image.with_companions(frames, others["reference"], others["exposures"])
        return bracket.as_light() if light else bracket

    def _notes_on_sensor(self, preset: Sensor | None) -> list[str]:
        """Return notes on what names decide or might decide; only what holds for these values."""
        detected, notes = self.profile.sensor, []
        if self.sensor is not None:
            if preset is not None and not preset.bands:
                notes.append(
                    f"Its bands are named as those of Landsat Level-2, so the bands of {preset.title} "
                    "are not used."
                )
            return notes
        if (
            preset is not None
            and preset.bands
            and any(preset.band(name.strip()) for name in self.descriptions if name)
        ):
            notes.append(f"Its bands are those of {preset.title}, by their names.")
        if detected is not None:
            title, named = SENSORS[detected].title, option("sensor", detected)
            scaled = any(self.profile.offsets) or any(s != 1 for s in self.profile.scales)
            is_zero_known = scaled or (preset is not None and bool(preset.reason))
            sets = [] if is_zero_known else ["zero"]
            sets += ["bands"] if "unknown" in self.described.kinds else []
            if sets:
                text = f"Its name or tags name {title}: {named} sets {' and '.join(sets)}."
                notes.append(Message(text))
        return notes

    def with_sensor(self, sensor: str) -> Image:
        """Return the same pixels as if the image had been opened with the preset `sensor`.

        Shares files and caches with this image where it is no part, level or frame of another,
        and has a `spec` of its own. Raises `BadParameter`.
        """
        spec = None if self.spec is None else {**self.spec, "sensor": sensor}
        if spec is not None and not spec.keys() <= OPENED_BY:
            return Image.from_spec(spec)
        reader = self.reader
        if isinstance(reader, ArrayReader) and spec is None:
            # The roles that are assumed of an array are not those of the sensor.
            reader = reader.without_colours()
        bands = None if spec is None else spec.get("bands")
        opened = Image(reader, spec=spec, bands=bands, sensor=sensor)
        if opened.data_bands != self.data_bands:
            # Other bands decide which pixels are valid: its smaller levels are not these.
            return opened
        named = Image.__new__(Image)
        named.__dict__.update(self.__dict__)
        for name in ("reader", "spec", "sensor", "described", "notes", "working_space"):
            setattr(named, name, getattr(opened, name))
        if self.source is self.reader:
            named.source = named.reader
        return named

    def level_scale(self, number: int) -> int | None:
        """Return the level-0 pixels along a side of one of level `number`.

        None if it is no power of two.
        """
        return scale_of(self, number)

    def has_landed(self, box: Box, level: int) -> bool:
        """Return whether the pixels of `box` of `level` are available, in the file or the cache."""
        source, number = self._source_of(level)
        if source is None:
            return False
        is_built = getattr(source, "is_built", None)
        if is_built is None:
            return True
        chunks = chunks_of(source.levels[number], box)
        return all(is_built(number, row, column) for row, column, _ in chunks)

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], Image], tuple[dict[str, Any]]]:
        if self.spec is None:
            raise TypeError("An image of an array in memory cannot go to another process.")
        return Image.from_spec, (self.spec,)

    def __repr__(self) -> str:
        named = " ".join(role or "?" for role in self.roles)
        summary = f"{self.shape} {self.dtype}, bands {named}"
        placed = "" if self.crs is None else f", {crs_name(self.crs)}"
        return f"<Image {self.name!r} {summary}{placed}>"

    # -- pixels ------------------------------------------------------------------
    def read(self, box: Box, level: int = 0) -> Array:
        """Return the pixels of `box` (y0, x0, y1, x1), in pixels of `level`: a new (h, w, C) array.

        The box must lie inside the level. An untiled file is streamed into the tiled cache first,
        which may take a while; see `prepare`. Raises `UnreadableImage`, `DiskFull`.
        """
        self.prepare()
        return self.read_landed(box, level)

    def read_valid(self, box: Box, level: int = 0) -> npt.NDArray[np.bool_]:
        """Return which pixels of `box` are valid, a new (h, w) array.

        Not valid are pixels that are masked by the file, fully transparent, not finite in any data
        band, or nodata: in any data band for floats and signed integers (but for a nodata value of
        0), else in all of them.
        """
        y0, x0, y1, x1 = box = self._checked(box, level)
        if not self.may_be_invalid:
            return np.ones((y1 - y0, x1 - x0), bool)
        self.prepare()
        return self.read_valid_landed(box, level)

    def read_landed(self, box: Box, level: int = 0) -> Array:
        """Return the pixels of `read` without waiting: 0 where they are not in the cache yet."""
        y0, x0, y1, x1 = box = self._checked(box, level)
        source, number = self._landed_source_of(level)
        if source is None:
            return np.zeros((y1 - y0, x1 - x0, self.bands), self.dtype)
        return read_window(source, number, box)

    def read_valid_landed(self, box: Box, level: int = 0) -> npt.NDArray[np.bool_]:
        """Return the validity of `read_valid` without waiting: False where not in the cache yet."""
        y0, x0, y1, x1 = box = self._checked(box, level)
        source, number = self._landed_source_of(level)
        if source is None:
            return np.zeros((y1 - y0, x1 - x0), bool)
        valid = read_valid_window(source, number, box)
        is_built = getattr(source, "is_built", None)
        if is_built is not None:
            for row, column, (top, left, bottom, right) in chunks_of(source.levels[number], box):
                if not is_built(number, row, column):
                    valid[max(0, top - y0) : bottom - y0, max(0, left - x0) : right - x0] = False
        return valid

    def is_built(self, level: int) -> bool:
        """Return whether all of `level` can be read; else some of it must be built first."""
        source, _ = self._source_of(level)
        return source is not None and (
            source is self.source or bool(getattr(source, "cached", True))
        )

    @cached_property
    def levels(self) -> tuple[Any, ...]:
        """Return dask arrays (h, w, C), level 0 first, with the chunks that are decoded."""
        return tuple(lazy_level(self, number) for number in range(len(self.planned_levels)))

    def _checked(self, box: Box, level: int) -> Box:
        if not 0 <= level < len(self.planned_levels):
            raise IndexError(f"level {level} of {len(self.planned_levels)}")
        y0, x0, y1, x1 = (int(v) for v in box)
        height, width = self.level_shapes[level]
        if not (0 <= y0 <= y1 <= height and 0 <= x0 <= x1 <= width):
            raise IndexError(f"box {(y0, x0, y1, x1)} outside a level of {height} × {width}")
        return y0, x0, y1, x1

    def _source_of(self, level: int) -> tuple[Source | None, int]:
        """Return the source that has `level`, and the level's number in it."""
        source, pyramid = self.source, self.pyramid
        own = len(source.levels)
        if level < own:
            return source, level
        if pyramid is not None and level - own < len(pyramid.levels):
            return pyramid, level - own
        return None, 0

    def _landed_source_of(self, level: int) -> tuple[Source | None, int]:
        """Return the source of what is decoded so far of `level`, and the level's number in it."""
        if level == 0 and not self.source.random_access:
            return stream_of(self), 0
        return self._source_of(level)

    # -- pyramid and cache -------------------------------------------------------
    @property
    def unread(self) -> list[str]:
        """The notes on what of the file is not read: other pages, planes or frames."""
        return [note for note in self.notes if isinstance(note, Unread)]

    @property
    def is_prepared(self) -> bool:
        """Whether `prepare` has nothing to do: the file is tiled, or was decoded into the cache."""
        return is_streamed(self) and (self._converted is None or self._converted.is_prepared)

    @property
    def _converted(self) -> Any:
        """The image whose pixels this one's are computed from; None where they are those of a file."""
        return self.reader.image if isinstance(self.reader, ConvertedReader) else None

    def prepare(
        self, progress: OnLanded | None = None, cancelled: Callable[[], bool] | None = None
    ) -> Image:
        """Stream an untiled file once into the tiled cache, all levels with it; returns self.

        Does nothing for files that can be read in place. `progress` is called with the box written,
        rows done, rows in all. Raises `Cancelled`, `DiskFull`, `UnreadableImage`.
        """
        if self._converted is not None:
            self._converted.prepare(progress, cancelled)
        if self.source.random_access:
            return self
        with self._preparing:
            if not self.source.random_access:
                stream(self, progress, cancelled)
        return self

    def build_pyramid(
        self,
        on_chunk: OnLanded | None = None,
        cancelled: Callable[[], bool] | None = None,
        centre: tuple[float, float] | None = None,
    ) -> Image:
        """Make the levels the file lacks, from `centre` (y, x) outwards; returns self.

        `on_chunk` is called with the level-0 box written, parts done, parts in all.
        """
        build_pyramid(self, on_chunk, cancelled, centre)
        return self

    def close(self) -> None:
        """Release file handles and cached chunks; reading opens them again."""
        for source in (self.reader, self.source, self.pyramid):
            if source is not None:
                chunk_cache.forget(source)
                source.close()


def open_image(
    source: Pathlike | Sequence[Pathlike] | Any,
    *,
    stack: bool = False,
    bands: GivenBands | None = None,
    sensor: str | None = None,
    select: Sequence[int] | None = None,
    level: int | None = None,
    allow_outside: bool = False,
    cancelled: Callable[[], bool] | None = None,
) -> Image:
    """Open an image lazily.

    Nothing is written beside it, and nothing is read but the file, what lies beside
    it under its name, and what it names below its own folder. The network is used only for an address with `allow_outside`.

    Parameters
    ----------
    source
        A path; several paths (files side by side on one map grid, or with `stack`
        the bands of one image); an array (H, W) or (H, W, C) of numpy, dask, zarr
        or xarray, where 3 or 4 bands are red, green, blue (and alpha) unless `bands`,
        `sensor` or the array itself says otherwise; a PIL image; a torch tensor (C, H, W);
        or a list of such arrays, the levels of one image.
    stack
        Take several files as the bands of one image.
    bands
        Which band is what, counted from 1: ``"red=4,green=3,blue=2"`` or ``"4,3,2"``.
    sensor
        Name of a preset: band roles, and the value that means no light.
    select
        Take these bands only, counted from 0; see `Image.with_bands`.
    level
        Take this level as the image; see `Image.level_view`.
    allow_outside
        Let a VRT take its pixels from files outside its own folder, on this computer, and let
        `source` be an address. Say so only for files you trust.
    cancelled
        Called between the steps of opening; once it is true, `Cancelled` is raised.

    Raises
    ------
    UnreadableImage
        Missing, empty, truncated, no image, no permission, or not supported.
    BadParameter
        `bands`, `sensor`, `select` or `level` is not understood.
    """
    options: dict[str, Any] = {"allow_outside": allow_outside, "cancelled": cancelled}
    if level is not None:
        whole = open_image(
            source, stack=stack, bands=bands, sensor=sensor, select=select, **options
        )
        return whole.level_view(level)
    if select is not None:
        whole = open_image(source, stack=stack, bands=bands, sensor=sensor, **options)
        return whole.with_bands(select)
    if isinstance(source, Image):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _open_paths([source], stack, bands, sensor, **options)
    if isinstance(source, (list, tuple)) and source and _all_paths(source):
        return _open_paths(source, stack, bands, sensor, **options)
    named = bands is not None or sensor is not None
    return Image(reader_of_array(source, named=named), bands=bands, sensor=sensor)


def _all_paths(items: Sequence[Any]) -> bool:
    return all(isinstance(item, (str, os.PathLike)) for item in items)


def _open_paths(
    paths: Sequence[Pathlike],
    stack: bool,
    bands: GivenBands | None,
    sensor: str | None,
    *,
    allow_outside: bool,
    cancelled: Callable[[], bool] | None,
) -> Image:
    readers_ = [reader_of(path, allow_outside=allow_outside, cancelled=cancelled) for path in paths]
    names = [getattr(reader.path, "address", str(reader.path)) for reader in readers_]
    spec: dict[str, Any] = {"source": names if len(names) > 1 else names[0]}
    if stack:
        spec["stack"] = True
    if bands is not None:
        spec["bands"] = bands if isinstance(bands, (str, dict)) else list(_listed(bands))
    if sensor is not None:
        spec["sensor"] = sensor
    if allow_outside:
        spec["allow_outside"] = True
    reader: Reader = readers_[0]
    if len(readers_) > 1:
        images = [Image(r, spec={"source": n}) for r, n in zip(readers_, names, strict=True)]
        if stack:
            reader = StackReader(images)
        else:
            reader = MosaicReader(images)
    return Image(reader, spec=spec, bands=bands, sensor=sensor)


def _listed(bands: Any) -> Any:
    return bands.items() if hasattr(bands, "items") else bands


_numbers = itertools.count()
AT_ONCE = 2
"""Chunks along a side of a task where a server is asked for them: all at once.

dask reads tasks as a whole: more of them would fetch much that is not in view.
"""


class _LazyLevel:
    """One level with the array interface that dask needs: a shape, a dtype, slices."""

    ndim = 3

    def __init__(self, image: ImageBase, level: int) -> None:
        self.image, self.level = image, level
        self.shape = (*image.level_shapes[level], image.bands)
        self.dtype = image.dtype

    def __getitem__(self, where: tuple[slice, slice, slice]) -> npt.NDArray[Any]:
        (y0, y1, _), (x0, x1, _), (c0, c1, _) = (
            part.indices(size) for part, size in zip(where, self.shape, strict=True)
        )
        read = self.image.read_landed if self.image.progressive else self.image.read
        return read((y0, x0, y1, x1), self.level)[..., c0:c1]


def lazy_level(image: ImageBase, level: int) -> Any:
    """Return a dask array (h, w, C) that calls `Image.read`, one decoded chunk per task.

    Or a few, where each takes its time and not the processor: dask has a thread for each core only.

    Its name is a running number: nothing is hashed, and chunks that are written later appear when
    it is computed again.
    """
    import dask.array as da

    decoded = image.planned_levels[level]
    side = AT_ONCE if image.source.concurrent_reads > 1 else 1
    return da.from_array(  # type: ignore[no-untyped-call]
        _LazyLevel(image, level),
        chunks=(side * decoded.chunk_height, side * decoded.chunk_width, image.bands),
        name=f"napari-restore-{image.name}-{level}-{next(_numbers)}",
        asarray=False,
        fancy=False,
        meta=np.empty((0, 0, 0), image.dtype),
    )
