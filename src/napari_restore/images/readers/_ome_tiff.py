"""OME-TIFF through tifffile: bands in pages, pyramids in sub-directories."""

from __future__ import annotations

import contextlib
import threading
import weakref
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images._planes import Planes
from napari_restore.images._profile import Profile
from napari_restore.images._reader import (
    WHITE_ZERO,
    Reader,
    block_level,
    check_dtype,
    first_of,
    strip_level,
)
from napari_restore.images._source import Box, chunk_box
from napari_restore.images.files.descriptions import dots_per_inch, grid_in, unit_named
from napari_restore.images.files.tiff import (
    GDAL_METADATA,
    IMAGE_DESCRIPTION,
    check_whole,
    read_directories,
    tags_in,
)
from napari_restore.images.files.xml import elements_named, parse_xml
from napari_restore.images.readers._axes import Axes

Array = npt.NDArray[Any]


class OmeTiffReader(Reader):
    """A plane of the first image of an OME-TIFF."""

    OPTIONS: ClassVar = ("plane",)

    @classmethod
    def supports(cls, path: Path, head: bytes) -> bool:
        tags = tags_in(path, head)
        if GDAL_METADATA in tags and len(read_directories(path).pages) < 2:
            return False  # of GDAL, with all bands in one page
        text = tags.get(IMAGE_DESCRIPTION, b"")
        return isinstance(text, bytes) and b"<OME" in text[:4096]

    def __init__(self, path: Path, head: bytes = b"", *, plane: int = 0) -> None:
        super().__init__(path)
        _check_files(path, check_whole(path).tags.get(IMAGE_DESCRIPTION, b""))
        self._opened: _Opened | None = None
        self._lock = threading.Lock()
        self._white: int | None = None
        try:
            opened = self._open()
        except Exception as error:  # tifffile raises many kinds
            raise UnreadableImage(
                f"{path.name} cannot be read as OME-TIFF: {error}.", "Save it again as OME-TIFF."
            ) from error
        series, arrays = opened.file.series[0], opened.arrays
        self._axes = Axes.of_names(series.axes.lower(), arrays[0].shape, path.name)
        self.planes = _measured(self._axes.planes, opened.file.ome_metadata or "")
        self.planes.check(self.name, plane)
        self.plane = plane
        self.notes += first_of(len(opened.file.series))
        self.bands = self._axes.bands
        self.dtype = check_dtype(series.dtype, path.name)
        page = series.keyframe
        if (
            page.photometric == 0 and page.samplesperpixel == 1 and series.dtype.kind == "u"
        ):  # TIFF 6.0: WhiteIsZero
            self._white = 2**page.bitspersample - 1
            self.notes.append(WHITE_ZERO)
        blocks = [self._axes.chunk(array.chunks) for array in arrays]
        sizes = [self._axes.size(array.shape) for array in arrays]
        if page.is_tiled:
            self.levels = tuple(block_level(*s, b) for s, b in zip(sizes, blocks, strict=True))
        else:
            pixel = self.bands * self.dtype.itemsize
            level, self.random_access = strip_level(*sizes[0], pixel, blocks[0][0])
            self.levels = (level,)
            if not self.random_access:
                self.block_bytes = blocks[0][0] * blocks[0][1] * pixel
        self.profile = self._described(opened.file, page)
        self.may_be_invalid = self.dtype.kind == "f" or self.alpha is not None

    def _open(self) -> _Opened:
        """Return the file, opened once; again after `close`."""
        with self._lock:
            if self._opened is None:
                self._opened = _Opened(self.path)
                weakref.finalize(self, self._opened.file.close)
            return self._opened

    def _described(self, file: Any, page: Any) -> Profile:
        xml = file.ome_metadata or ""
        names, waves = _channels(xml, self.bands)
        colours, grid = _colours_of(page, self.bands), grid_in(xml)
        return Profile(
            driver="OME-TIFF",
            colorinterp=colours,
            descriptions=names,
            wavelengths=waves,
            resolution=dots_per_inch(grid),
            grid=grid,
            channel_colours=_channel_colours(xml, self.bands),
            tags={"": {"TIFFTAG_IMAGEDESCRIPTION": xml}},
            masks="alpha" if "alpha" in colours else "none",
            compression=_name_of(page.compression),
            tiled=bool(page.is_tiled),
            photometric=_name_of(page.photometric),
        )

    def read_chunk(self, level: int, row: int, column: int) -> Array:
        return self._read(level, chunk_box(self.levels[level], row, column))

    def read_rows(self, y0: int, y1: int) -> Array:
        return self._read(0, (y0, 0, y1, self.levels[0].width))

    def _read(self, level: int, box: Box) -> Array:
        try:
            stored = self._axes.read(self._open().arrays[level], box, self.dtype, self.plane)
        except Exception as error:  # a codec's or tifffile's own
            raise UnreadableImage(
                f"{self.path.name} cannot be read: {error}.", "Check the file, or copy it again."
            ) from error
        return stored if self._white is None else self._white - stored

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.file.close()
                self._opened = None


class _Opened:
    """tifffile's file and one zarr array per level; its own lock makes reading thread safe."""

    def __init__(self, path: Path) -> None:
        import tifffile
        import zarr

        self.file = tifffile.TiffFile(path)
        try:
            series = self.file.series[0]
            self.arrays = [
                zarr.open_array(series.aszarr(level=number), mode="r")
                for number in range(len(series.levels))
            ]
        except BaseException:
            self.file.close()
            raise


def _check_files(path: Path, text: bytes | tuple[int, ...]) -> None:
    """Check that files named in the XML, over which an image may be spread, lie beside this one."""
    description = bytes(text).rstrip(b"\0")
    try:
        root = parse_xml(description.decode("utf-8", "replace"))
    except ValueError as error:
        raise UnreadableImage(
            f"{path.name} cannot be read as OME-TIFF: {error}.", "Save it again as OME-TIFF."
        ) from error
    folder = path.parent.resolve()
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "FileName" and (path.parent / value).resolve().parent != folder:
                raise UnreadableImage(
                    f"{path.name} takes planes from {value}, which does not lie beside it.",
                    "Put all its files into one folder.",
                )


def _measured(planes: Planes, xml: str) -> Planes:
    """Return planes with the distances of their axes in the OME-XML."""
    known = {}
    with contextlib.suppress(ValueError, StopIteration):
        pixels = next(elements_named(parse_xml(xml), "Pixels"))
        unit = unit_named(pixels.get("PhysicalSizeZUnit", "µm")) or ""
        for name, size, named in (("z", "PhysicalSizeZ", unit), ("t", "TimeIncrement", "second")):
            with contextlib.suppress(ValueError):
                known[name] = float(pixels.get(size, "")), named
    return planes.measured(known)


def _channel_colours(xml: str, count: int) -> tuple[str | None, ...]:
    """Return the colours of the channels in the OME-XML as RRGGBB; none where they are fewer."""
    try:
        channels = islice(elements_named(parse_xml(xml), "Channel"), count)
        given = [channel.get("Color") for channel in channels]
        # A signed number of red, green, blue and alpha.
        values = [None if text is None else f"{int(text) >> 8 & 0xFFFFFF:06X}" for text in given]
    except ValueError:
        return ()
    return tuple(values) if len(values) == count and any(values) else ()


def _name_of(value: Any) -> str:
    """Return the name of one of tifffile's enumerations, or its number if it has no name."""
    return str(getattr(value, "name", value)).lower()


def _colours_of(page: Any, count: int) -> tuple[str, ...]:
    """Return the colour interpretation of the samples of a pixel, as GDAL has it for other TIFFs."""
    if _name_of(page.photometric) not in ("rgb", "ycbcr") or page.samplesperpixel != count:
        return ()
    alphas = ("assocalpha", "unassalpha")
    extra = ("alpha" if _name_of(e) in alphas else "undefined" for e in page.extrasamples)
    return ("red", "green", "blue", *extra)


def _channels(xml: str, count: int) -> tuple[tuple[str | None, ...], tuple[float | None, ...]]:
    """Return names and emission wavelengths (nm) of the channels in the OME-XML."""
    names: list[str | None] = []
    waves: list[float | None] = []
    try:
        image = next(elements_named(parse_xml(xml), "Pixels"))
        for channel in elements_named(image, "Channel"):
            wave, samples = channel.get("EmissionWavelength"), channel.get("SamplesPerPixel", "1")
            times = min(max(0, int(samples)), count)
            names += [channel.get("Name")] * times
            waves += [float(wave) if wave else None] * times
    except (ValueError, StopIteration):
        names = []
    if len(names) != count:
        return (None,) * count, (None,) * count
    # One name for red, green and blue samples together names none of them.
    return tuple(n if names.count(n) == 1 else None for n in names), tuple(waves)
