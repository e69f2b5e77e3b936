"""A lazily opened image, and `open_image`."""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._points import reached
from napari_restore.errors import Message, UnreadableImage, option
from napari_restore.images._base import ImageBase
from napari_restore.images._black_white import dispute_of_zeros, zeros_by_scale
from napari_restore.images._derived import VIEWS, DerivedImages
from napari_restore.images._georeference import crs_name
from napari_restore.images._html import image_html
from napari_restore.images._reader import Reader
from napari_restore.images._source import Box, Source
from napari_restore.images._xarray import lazy_array
from napari_restore.images.files.cancelling import cancellable
from napari_restore.images.files.remote import is_address
from napari_restore.images.files.trees import ZipMember
from napari_restore.images.levels.making import (
    OnLanded,
    build_pyramid,
    is_streamed,
    planned_levels,
    stream,
    stream_of,
)
from napari_restore.images.products.find import NamedProduct, bands_in_folder, named_product
from napari_restore.images.products.product import ProductFile
from napari_restore.images.readers.array import ArrayReader, reader_of_array
from napari_restore.images.readers.exposed import ConvertedReader
from napari_restore.images.readers.mosaic import MosaicReader
from napari_restore.images.readers.product import (
    FittedReader,
    ProductReader,
    check_count,
    common_dtype,
    nests_in,
)
from napari_restore.images.readers.registry import reader_of
from napari_restore.images.readers.resampled import ResampledReader
from napari_restore.images.readers.stack import StackReader
from napari_restore.images.readers.zipped import ZippedReader
from napari_restore.images.values.facts import OpeningNote
from napari_restore.images.values.presets import Sensor
from napari_restore.images.values.roles import GivenBands
from napari_restore.images.values.sensor_file import known_sensors, sensor_text
from napari_restore.images.values.sensors import disputes_of_product
from napari_restore.images.values.working_space import WorkingSpace, working_space_of
from napari_restore.questions import Pathlike

Array = npt.NDArray[Any]
OPENED_BY = {"source", "array", "stack", "bands", "sensor", "allow_outside", "plane"}
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
        sensor: Pathlike | None = None,
    ) -> None:
        self.reader = reader
        self.source: Source = reader
        self.pyramid: Source | None = None
        self.spec = spec
        self.full = None
        self.scale = 1
        self.companions = None
        self.sensor = sensor = None if sensor is None else sensor_text(sensor)
        self.name = reader.name
        self.planes, self.plane = reader.planes, reader.plane
        self.path: Path | None = None if isinstance(reader, ArrayReader) else reader.path
        self.notes: list[str] = list(reader.notes)
        self.progressive = False
        self.planned_levels = planned_levels(reader)
        preset = self.preset
        is_named = sensor is not None or bands is not None
        self.described = (
            reader.describe(None if sensor is None else preset, bands)
            if is_named
            else reader.described
        )
        self.reader = self.source = reader = reader.counting(self.data_bands)
        self.shows_classes = reader.shows_classes and bands is None
        self.notes += self.described.notes
        if self.dtype != np.uint8:
            self.notes += self._notes_on_sensor(preset)
        if (kind := self.other_than_light) is not None:
            self.notes.append(f"Its name says that it shows no light ({kind}): methods change it.")
        elif self.profile.is_reflectance:
            self.notes.append(
                "It is a surface-reflectance product, corrected for the atmosphere: "
                "what comes out is restored appearance, not calibrated reflectance."
            )
        self.working_space: WorkingSpace | None = None
        if self.georeference is None:
            self.working_space, colour_note = working_space_of(self.profile, self.roles, self.dtype)
            self.notes += [colour_note] if colour_note else []
        self._preparing = threading.RLock()

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Image:
        """Return the image that a `spec` describes, perhaps in another process."""
        arguments = dict(spec)
        others, light = arguments.pop("companions", None), arguments.pop("light", None)
        listed = arguments.pop("views", ())
        first = {
            name: arguments.pop(name) for name in (*VIEWS, "grid", "phases") if name in arguments
        }
        # Records before there were planes are of the first one.
        image = open_image(arguments.pop("source"), **{"plane": 0, **arguments})
        for asked in (first, *listed):
            image = image.viewed(asked)
        if others is None:
            return image
        frames = [cls.from_spec(each) for each in others["images"]]
        bracket = image.with_companions(frames, others["reference"], others["exposures"])
        return bracket.as_light() if light else bracket

    def viewed(self, asked: Mapping[str, Any]) -> Image:
        """Return the view of this image that a part of a `spec` describes, in the order of `VIEWS`."""
        image = self
        if (select := asked.get("select")) is not None:
            image = image.with_bands(select)
        if (balance := asked.get("balance")) is not None:
            image = image.balanced(balance)
        if (ev := asked.get("exposed")) is not None:
            image = image.exposed(ev)
        # The matrix is about level 0, and every level of light is exposed by itself.
        if (matrix := asked.get("placement")) is not None:
            image = image.placed(matrix, tuple(asked["grid"]))
        image = image.level_view(asked.get("level") or 0)
        if (ratio := asked.get("resampled")) is not None:
            image = image.resampled(Fraction(ratio), phases=asked.get("phases", False))
        return image

    def _notes_on_sensor(self, preset: Sensor | None) -> list[str]:
        """Return notes on what names decide or might decide; only what holds for these values."""
        name, tags = str(self.path or ""), self.profile.tags
        disputes = disputes_of_product(name, tags, self.sensor) + dispute_of_zeros(self)
        notes: list[str] = [OpeningNote(each) for each in disputes]
        if self.sensor is not None:
            return notes
        detected = self.profile.sensor
        if (
            preset is not None
            and preset.bands
            and any(preset.band(name.strip()) for name in self.descriptions if name)
        ):
            notes.append(f"Its bands are those of {preset.title}, by their names.")
        if detected is not None:
            title, named = known_sensors()[detected].title, option("sensor", detected)
            scaled = bool(zeros_by_scale(self))
            is_zero_known = scaled or (preset is not None and bool(preset.reason))
            sets = [] if is_zero_known else ["zero"]
            sets += ["bands"] if "unknown" in self.described.kinds else []
            if sets:
                text = f"Its name or tags name {title}: {named} sets {' and '.join(sets)}."
                notes.append(Message(text))
        return notes

    def with_sensor(self, sensor: Pathlike) -> Image:
        """Return the same pixels as if the image had been opened with a sensor.

        Shares files and caches with this image where it is no part, level or frame of another, and
        has a `spec` of its own. Raises `BadParameter`.

        Parameters
        ----------
        sensor
            An id such as ``"landsat8"``, or a file that describes a sensor.

        Returns
        -------
        Image
            The image with bands and zero of that sensor.
        """
        sensor = sensor_text(sensor)
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
        named = self._copy()
        for name in ("reader", "spec", "sensor", "described", "notes", "working_space"):
            setattr(named, name, getattr(opened, name))
        if self.source is self.reader:
            named.source = named.reader
        return named

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], Image], tuple[dict[str, Any]]]:
        if self.spec is None:
            raise TypeError("An image of an array in memory cannot go to another process.")
        return Image.from_spec, (self.spec,)

    def __repr__(self) -> str:
        named = " ".join(role or "?" for role in self.roles)
        summary = f"{self.shape} {self.dtype}, bands {named}"
        placed = "" if self.crs is None else f", {crs_name(self.crs)}"
        return f"<Image {self.name!r} {summary}{placed}>"

    def _repr_html_(self) -> str:
        return image_html(self)

    # -- pixels ------------------------------------------------------------------
    @cached_property
    def levels(self) -> tuple[Any, ...]:
        """Return dask arrays (h, w, C), level 0 first, with the chunks that are decoded."""
        return tuple(lazy_level(self, number) for number in range(len(self.planned_levels)))

    def _landed_source_of(self, level: int) -> Source | None:
        if level == 0 and not self.source.random_access:
            return stream_of(self)
        return self._source_of(level)

    # -- pyramid and cache -------------------------------------------------------
    @property
    def opening_notes(self) -> list[str]:
        """The notes on what of the file is not read, and on bands, colours, sensor or zero in doubt."""
        return [note for note in self.notes if isinstance(note, OpeningNote)]

    @property
    def is_prepared(self) -> bool:
        """Whether `prepare` has nothing to do: the file is tiled, or was decoded into the cache."""
        return is_streamed(self) and (self._converted is None or self._converted.is_prepared)

    @property
    def _converted(self) -> Any:
        """The image whose pixels this one's are computed from; None where they are those of a file."""
        reader = self.reader
        return reader.image if isinstance(reader, (ConvertedReader, ResampledReader)) else None

    def prepare(
        self, progress: OnLanded | None = None, cancelled: Callable[[], bool] | None = None
    ) -> Image:
        """Stream an untiled file once into the tiled cache, all levels with it.

        Does nothing for files that can be read in place. Raises `Cancelled`, `DiskFull`,
        `UnreadableImage`.

        Parameters
        ----------
        progress
            Called with the box written, rows done, rows in all.
        cancelled
            Called between parts; once it is true, the call ends by `Cancelled`.

        Returns
        -------
        Image
            The image itself.
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
        """Make the levels that the file lacks.

        Parameters
        ----------
        on_chunk
            Called with the level-0 box written, parts done, parts in all.
        cancelled
            Called between parts; once it is true, the call ends by `Cancelled`.
        centre
            (y, x) in pixels of level 0 from which it goes outwards; None: the middle.

        Returns
        -------
        Image
            The image itself.
        """
        build_pyramid(self, on_chunk, cancelled, centre)
        return self


def open_image(
    source: Pathlike | Sequence[Pathlike] | Any,
    *,
    stack: bool = False,
    bands: GivenBands | None = None,
    sensor: Pathlike | None = None,
    allow_outside: bool = False,
    cancelled: Callable[[], bool] | None = None,
    plane: int | None = None,
) -> Image:
    """Open an image lazily; most arguments are described by `napari_restore.open_image`.

    Nothing is written beside it, and nothing is read but the file, what lies beside it under its
    name, and what it names below its own folder. A VRT takes pixels from elsewhere on this computer,
    and the network is used for an address, only with `allow_outside`: for files that are trusted.
    `cancelled` is called between the steps of opening; once it is true,
    `Cancelled` is raised. Raises `UnreadableImage`, `BadParameter`.
    """
    if isinstance(source, Image):
        return source
    paths = _paths_of(source)
    if not paths:
        named = bands is not None or sensor is not None
        return Image(reader_of_array(source, named=named), bands=bands, sensor=sensor)
    reached("image opens")
    readers = [
        _reader_of(path, allow_outside=allow_outside, cancelled=cancelled, plane=plane)
        for path in paths
    ]
    names = [getattr(reader.path, "address", str(reader.path)) for reader in readers]
    spec: dict[str, Any] = {"source": names if len(names) > 1 else names[0]}
    if stack:
        spec["stack"] = True
    if bands is not None:
        spec["bands"] = _listed(bands)
    if sensor is not None:
        spec["sensor"] = sensor = sensor_text(sensor)
    if allow_outside:
        spec["allow_outside"] = True
    if any(reader.planes.count > 1 for reader in readers):
        spec["plane"] = plane
    reader: Reader = readers[0]
    if len(readers) > 1:
        of_plane = {"plane": plane} if "plane" in spec else {}
        images = [
            Image(r, spec={"source": n, **of_plane}) for r, n in zip(readers, names, strict=True)
        ]
        reader = StackReader(images) if stack else MosaicReader(images)
        # Its fingerprint is that of files, which have several planes.
        reader.plane = spec.get("plane", 0)
    return Image(reader, spec=spec, bands=bands, sensor=sensor)


def _listed(bands: GivenBands) -> Any:
    """Return given bands as JSON has them."""
    if isinstance(bands, (str, dict)):
        return bands
    return list(bands.items() if hasattr(bands, "items") else bands)


def open_codes(path: Pathlike) -> Image:
    """Open a file on this computer as a mask, a palette as its numbers; without `spec`. Raises `UnreadableImage`."""
    return Image(reader_of(path, codes=True))


def _paths_of(source: Any) -> list[Pathlike]:
    """Return the paths that `source` is; none where it is an array, or arrays."""
    items = list(source) if isinstance(source, (list, tuple)) else [source]
    return items if all(isinstance(item, (str, os.PathLike)) for item in items) else []


def _reader_of(
    path: Pathlike,
    *,
    allow_outside: bool,
    cancelled: Callable[[], bool] | None,
    plane: int | None,
) -> Reader:
    """Return the reader of a file, or of the files of a product as one image."""
    with cancellable(cancelled):
        found = named_product(path, allow_outside=allow_outside)
        if found is not None:
            product = _reader_of_product(found, cancelled)
            product.planes.check(product.name, plane or 0)
            return product
    if os.path.isdir(path) and (hint := hint_of_bands(path)):
        raise UnreadableImage(f"{Path(path).name} is a folder with the bands of one scene.", hint)
    return reader_of(path, allow_outside=allow_outside, cancelled=cancelled, plane=plane)


def bands_of_scene(folder: Pathlike) -> list[Path]:
    """Return the files of one scene's bands in a folder that are one image; none for other folders."""
    # Of several grids it is the finest with three bands or more.
    grids: dict[Any, list[Path]] = {}
    for path in bands_in_folder(Path(folder).expanduser()):
        with contextlib.suppress(UnreadableImage):
            image = open_image(path)
            if image.bands == 1:
                grid = (image.shape, str(image.dtype), image.crs, image.transform)
                grids.setdefault(grid, []).append(path)
    stacks = [(len(files) > 2, grid[0], files) for grid, files in grids.items() if len(files) > 1]
    return max(stacks)[2] if stacks else []


def hint_of_bands(folder: Pathlike) -> str:
    """Return how to open the bands of one scene in a folder as one image; "" where there are none."""
    files = " ".join(shlex.quote(str(path)) for path in bands_of_scene(folder))
    return files and f"With {option('stack', True)} {files} its bands are one image."


def _reader_of_product(found: NamedProduct, cancelled: Callable[[], bool] | None) -> ProductReader:
    """Return the reader of the bands of one resolution of a product."""
    product = found.read(found.source)

    def opened(member: ProductFile) -> Image:
        place = member.location
        if isinstance(place, ZipMember):
            reader: Reader = ZippedReader(place)
        else:
            # The product has checked where it lies.
            reader = reader_of(place, allow_outside=is_address(str(place)), cancelled=cancelled)
        image = Image(reader, spec={"source": str(place)})
        check_count(member, image)
        return image

    own, masks = product.at(product.resolution(found.resolution))
    members, notes = [(member, opened(member)) for member in own], []
    first, dtype = members[0][1], members[0][1].dtype
    for mask in masks:
        image = opened(mask)
        if nests_in(image, first):
            members.append((mask, image))
            notes.append(
                f"{', '.join(mask.bands)} has pixels of {mask.resolution:g} m, which are repeated."
            )
    odd = []
    for member, image in members:
        both = common_dtype(dtype, image.dtype)
        if both is None and not member.is_light:
            odd.append(member)
        else:
            dtype = both or dtype
    if odd:
        names = ", ".join(name for member in odd for name in member.bands)
        notes.append(f"Not in it, as their values are of another type than {dtype}: {names}.")
    notes.append(product.left_out([member for member, _ in members]))
    fitted = [
        (
            member,
            image
            if member in own and image.dtype == dtype
            else Image(FittedReader(image, first, dtype), spec=image.spec),
        )
        for member, image in members
        if member not in odd
    ]
    return ProductReader(product, found.path, fitted, [note for note in notes if note])


AT_ONCE = 2
"""Chunks along a side of a task where a server is asked for them: all at once.

dask reads tasks as a whole: more of them would fetch much that is not in view.
"""


def lazy_level(image: ImageBase, level: int) -> Any:
    """Return a dask array (h, w, C) that calls `Image.read`, one decoded chunk per task."""
    decoded = image.planned_levels[level]
    # Or a few, where each takes its time and not the processor: dask has a thread for each core
    # only.
    side = AT_ONCE if image.source.concurrent_reads > 1 else 1

    def read(box: Box) -> npt.NDArray[Any]:
        return (image.read_landed if image.progressive else image.read)(box, level)

    shape = (*image.level_shapes[level], image.bands)
    chunk = side * decoded.chunk_height, side * decoded.chunk_width
    return lazy_array(read, shape, image.dtype, chunk)
