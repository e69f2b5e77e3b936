"""Reader of all GDAL formats, through rasterio block by block."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from napari_restore.errors import UnreadableImage
from napari_restore.images._reader import (
    STREAMED_BYTES,
    WHITE_ZERO,
    Reader,
    block_level,
    check_dtype,
    extended,
    first_of,
    strip_level,
)
from napari_restore.images._source import Box, Level, chunk_box
from napari_restore.images.files.claims import (
    RUNS_RATIO,
    check_bands,
    check_block,
    check_claims,
    check_ratio,
    check_whole_size,
)
from napari_restore.images.files.exif import PhotoTags, read_photo_tags
from napari_restore.images.files.handles import DatasetKey, environment, handles, open_dataset
from napari_restore.images.files.proxy import reason_of
from napari_restore.images.files.references import (
    check_listed,
    check_references,
    grid_name,
    head_of,
)
from napari_restore.images.files.tiff import truncated
from napari_restore.images.files.xmp import sidecar_xmp
from napari_restore.images.readers import _gdal_description as description
from napari_restore.images.values.colour import cmyk_to_rgb, palette_table, straightened
from napari_restore.images.values.validity import as_dtype
from napari_restore.images.values.working_space import FOR_HDR

Array = npt.NDArray[Any]

WHOLE = ("GRIB", "WEBP")
"""Formats of which GDAL decodes a whole picture before it returns a row."""
PLAIN = ("BMP", "PNM", "SGI", "TGA", "RST", "SAGA", "VICAR", "LAN", "KRO", "GSBG", "GS7BG")
"""Formats that store pixels as they are or as runs of equal ones."""
FLAT = ("ENVI", "EHdr", "ROI_PAC", "ISCE", "RRASTER")
"""Formats of raw pixels, whose missing end GDAL reads as zeros."""


numbers = itertools.count(1)
"""Of files that others may replace under the same name."""
PHOTO_COLOURS = 64
"""A palette on a map with fewer colours stands for classes; that of a photo has 256 or nearly."""


class GdalReader(Reader):
    """GeoTIFF, COG, BigTIFF, JPEG 2000, VRT, ENVI, HFA, PNG, JPEG, WebP and many more.

    Palettes are expanded to grey, RGB or RGBA and CMYK becomes RGB, each with a
    note. Pixels are as the file stores them, before any EXIF orientation. With `codes` those of a
    palette are its numbers, and those of few bits stay.
    """

    photo = PhotoTags()
    _sidecars = False
    _page_offset = 0
    _number = 0
    """Of a file that another one may replace under the same name: keeps its handles apart."""
    _codes = False
    _part = ""
    _head = b""
    _table: Array | None = None
    _spread: Array | None = None
    _white: int | None = None
    _transparent: Array | None = None
    _rows: Any = None

    OPTIONS: ClassVar = ("allow_outside", "codes", "plane", "grid")

    def __init__(
        self,
        path: Path,
        head: bytes = b"",
        *,
        allow_outside: bool = False,
        codes: bool = False,
        plane: int = 0,
        grid: re.Match[str] | None = None,
    ) -> None:
        super().__init__(path)
        self._codes = codes
        if grid is not None:
            self._part = grid["part"]
            self.path = Path(grid_name(grid["kind"], path, self._part))
            self.name = f"{path.stem} {self._part}"
        check_claims(path, head)
        self.photo = read_photo_tags(path, head) if head else PhotoTags()
        self._choose(plane)
        data = _data_file(path, head)
        self._path = str(data)
        if data != path:
            head = head_of(data)
        self._head = head
        references = check_references(data, head, allow_outside=allow_outside, grid=grid)
        self._sidecars = references.sidecars
        self.notes += references.notes
        self._open(lambda dataset: check_listed(data, dataset.files, allow_outside=allow_outside))
        if self.profile.driver == "VRT" and references.block_bytes > STREAMED_BYTES:
            # Its own blocks are small; those of its sources are decoded as a whole.
            self.block_bytes = max(self.block_bytes, references.block_bytes)

    def _open(self, check: Callable[[Any], None]) -> None:
        """Take what the file says of itself, after a `check` of the files that it names."""
        self._rows_lock = threading.Lock()
        with (
            gdal_errors(self.path),
            self._environment(),
            contextlib.closing(open_dataset(self._key(None))) as dataset,
        ):
            check(dataset)
            self._describe(dataset)

    def _choose(self, plane: int) -> None:
        """Take a page of a TIFF. Raises `BadParameter`, `UnreadableImage`."""
        pages, self.planes = self.photo.pages, self.photo.planes
        self.planes.check(self.name, plane)
        self.plane, self._page_offset = plane, 0
        if plane >= max(1, len(pages)):
            raise UnreadableImage(
                f"{self.path.name} has one directory for all its planes, as ImageJ writes above 4 GiB.",
                "Save it as OME-TIFF.",
            )
        if pages and (plane > 0 or not self.photo.is_first):
            # The first directory may be a smaller version of the picture.
            self._page_offset = pages[plane].offset

    def _environment(self, **options: Any) -> Any:
        """Return the settings of GDAL under which the file is read."""
        return environment(**self._key(None).options, **options)

    def _key(self, overview: int | None) -> DatasetKey:
        grid = str(self.path) if self._part else ""
        return DatasetKey(
            self._path, overview, self._sidecars, self._number, self._page_offset, grid
        )

    def _describe(self, dataset: Any) -> None:
        if dataset.count == 0:
            kind, path = dataset.driver.upper(), Path(self._path)
            names = [each.rpartition(":")[2] for each in dataset.subdatasets]
            parts = [shlex.quote(grid_name(kind, path, name)) for name in names]
            raise UnreadableImage(
                f"{self.path.name} contains no single image but {len(parts)} parts.",
                f"Name one of them, in a command or in Python: {', '.join(parts[:8])}."
                if parts
                else "Name another file.",
            )
        self._describe_types(dataset)
        self._nodata = tuple(as_dtype(value, self.dtype) for value in dataset.nodatavals)
        names = description.colours_of(dataset)[: self._stored_bands]
        self._kind = description.mask_kind(dataset, self._nodata, names)
        self._band_masks = description.has_band_masks(dataset)
        self.georeference = description.georeference_of(dataset)
        names = self._describe_bands(dataset, names)
        if self.georeference is None and dataset.driver in description.PHOTO_DRIVERS:
            self._take_sidecar()
        if self.photo.gain_map:
            self.notes.append("Its map of gains for HDR screens is not read, and not carried.")
        frames = dataset.count if description.bands_of(dataset) < dataset.count else 1
        if dataset.driver in description.GIF:
            self.notes.append("It is a GIF, which has 256 colours at most: prefer the original.")
        self.notes += first_of(max(self.photo.pictures, frames))
        self.notes += description.notes_on_place(dataset, self.georeference)
        self.notes += description.disputes_of(dataset, Path(self._path), self.photo, self._head)
        icc, notes = description.colour_profile(dataset, self.photo, len(names))
        self.notes += notes
        self.profile = description.profile_of(
            dataset, self.photo, names, self._kind, self._nodata, self.georeference, icc
        )
        if self.profile.icc is None and description.is_for_hdr(self.photo):
            self.notes.append(FOR_HDR)
        bits = description.bits_of(dataset)
        if bits and self.georeference is None and self.dtype == np.uint8 and self._table is None:
            self._to_full_range(2**bits - 1)
        if dataset.driver == "PNM":
            self._take_largest(description.largest_of_pnm(head_of(Path(self._path))))
        self._describe_levels(dataset)
        if self.profile.premultiplied:
            self.notes.append("Its colours are multiplied by alpha: they were divided by it.")
        self.may_be_invalid = self._kind != "none" or self.dtype.kind == "f"
        beside = description.files_beside(dataset)
        self._auxiliary = [f for f in beside if f.name.lower().endswith(description.AUXILIARY)]
        self._files = (Path(self._path), *(f for f in beside if f not in self._auxiliary))

    def _take_sidecar(self) -> None:
        packet = sidecar_xmp(self.path)
        if packet is not None:
            if self.photo.xmp not in (None, packet):
                self.notes.append("Its XMP is that of the file beside it, not the one within.")
            self.photo = replace(self.photo, xmp=packet)

    def _describe_types(self, dataset: Any) -> None:
        """Find the data type and the number of bands; refuse what cannot be read."""
        check_bands(self.path.name, dataset.count)
        kinds = [check_dtype(name, self.path.name) for name in dataset.dtypes]
        _check_sizes(dataset, self.path.name)
        if len(set(dataset.dtypes)) > 1:
            self.notes.append("Bands of several types were read as the widest of them.")
        self.dtype = check_dtype(np.result_type(*kinds), self.path.name)
        self._stored_bands = description.bands_of(dataset)
        if dataset.driver in FLAT and not _is_full_length(dataset, Path(self._path)):
            raise truncated(self.path)

    def _describe_bands(self, dataset: Any, names: list[str]) -> list[str]:
        """Return the colour interpretations `names` after expansion, and note what is expanded."""
        self._cmyk = names[:4] == ["cyan", "magenta", "yellow", "black"]
        is_palette = self._stored_bands == 1 and names[0] == "palette"
        if (self._stored_bands == 1 and description.is_bitmap(dataset)) or (
            is_palette and self._codes
        ):
            self.bands, names = 1, ["gray"]
        elif description.is_white_zero(dataset) and not self._codes:
            self.bands, names = self._stored_bands, ["gray", *names[1:]]
            self._take_white_zero(dataset)
        elif is_palette:
            self._expand_palette(dataset)
            names = ["gray"] if self.bands == 1 else ["red", "green", "blue", "alpha"][: self.bands]
        elif self._cmyk:
            self.bands = self._stored_bands - 1
            names = ["red", "green", "blue", *names[4:]]
            self.notes.append("CMYK was converted to RGB.")
        else:
            if description.was_cmyk(dataset):
                # GDAL has converted it, and added an opaque alpha for a TIFF.
                self._stored_bands, self._kind, names = 3, "none", names[:3]
                self.notes.append("CMYK was converted to RGB.")
            self.bands = self._stored_bands
        if self.photo.transparent and self.georeference is None:
            names = [*names, "alpha"]
            self._take_alpha(self.photo.transparent)
        return names

    def _expand_palette(self, dataset: Any) -> None:
        self._table = palette_table(dataset.colormap(1), np.iinfo(self.dtype).max)
        self.bands = self._table.shape[1]
        self.dtype = self._table.dtype
        self.notes.append(f"The palette was expanded to {self.bands} band(s).")
        colours = set(dataset.colormap(1).values())
        self.shows_classes = self.georeference is not None and len(colours) < PHOTO_COLOURS
        nodata = self._nodata[0] if self._kind == "nodata" else None
        has_mask = self._kind in ("mask", "bands")
        if self.bands == 4 and not has_mask and (nodata is None or not self._table[int(nodata), 3]):
            self._nodata, self._kind = (), "alpha"
        elif has_mask or nodata is not None:
            self._kind = "mask"

    def _take_white_zero(self, dataset: Any) -> None:
        """Count the first band from black; nodata, a stored value, becomes GDAL's mask."""
        self._white = 2 ** (description.bits_of(dataset) or 8 * self.dtype.itemsize) - 1
        self.notes.append(WHITE_ZERO)
        if self._kind in ("nodata", "bands"):
            self._kind = "mask"

    def fingerprint(self) -> str:
        # What the cache has of the colours is none of the numbers.
        own = super().fingerprint()
        more = f" {self._part}" * bool(self._part) + " codes" * self._codes
        return extended(own, more + "".join(map(description.meaning_of_bands, self._auxiliary)))

    def _take_alpha(self, transparent: tuple[int, ...]) -> None:
        """Make the one colour that stands for transparent pixels an alpha band."""
        # Values with bits that the file's type lacks are those without them.
        most = int(np.iinfo(self.dtype).max)
        self._transparent = np.array([value & most for value in transparent], self.dtype)
        self.bands += 1
        self._nodata, self._kind = (), "alpha"

    def _take_largest(self, largest: int | None) -> None:
        """Take the value of a PNM that is white: as bits from 9 on, or spread where it is no map."""
        full = int(np.iinfo(self.dtype).max)
        if largest and 256 < largest + 1 < full and largest & (largest + 1) == 0:
            self.profile = replace(self.profile, bits=largest.bit_length())
        elif largest and largest < full and self.georeference is None:
            self._to_full_range(largest)

    def _to_full_range(self, largest: int) -> None:
        """Spread the values 0 … `largest` of a picture over those of its type."""
        full = int(np.iinfo(self.dtype).max)
        steps = np.arange(full + 1).clip(0, largest) * full / largest
        self._spread = np.rint(steps).astype(self.dtype)
        self.profile = replace(self.profile, bits=None)

    def _describe_levels(self, dataset: Any) -> None:
        pixel = self._stored_bands * self.dtype.itemsize
        block = dataset.block_shapes[0]
        height, width = dataset.shape
        untiled = not self.profile.tiled and block[1] >= width
        if untiled or block[0] * block[1] * pixel > STREAMED_BYTES:
            level, self.random_access = strip_level(height, width, pixel, block[0])
            levels = [level]
            if not self.random_access:
                self.block_bytes = _block_bytes(dataset)
        else:
            levels = [block_level(height, width, block)]
        self._overviews: list[int | None] = [None]
        if self.random_access:
            for number, _ in enumerate(dataset.overviews(1)):
                with contextlib.closing(open_dataset(self._key(number))) as smaller:
                    if max(smaller.shape) < max(levels[-1][:2]):
                        height, width = smaller.shape
                        levels.append(block_level(height, width, smaller.block_shapes[0]))
                        self._overviews.append(number)
        # Chunks are no larger than the level itself.
        self.levels = tuple(Level.cut(*level) for level in levels)

    # -- pixels ------------------------------------------------------------------
    def read_chunk(self, level: int, row: int, column: int) -> Array:
        y0, x0, y1, x1 = chunk_box(self.levels[level], row, column)
        with gdal_errors(self.path), handles.lend(self._key(self._overviews[level])) as dataset:
            stored = self._read(dataset, y0, x0, y1, x1)
        return self._shown(stored)

    def read_rows(self, y0: int, y1: int) -> Array:
        # A dataset of its own keeps its position in the file from one call to the next.
        with (
            self._rows_lock,
            gdal_errors(self.path),
            self._environment(GDAL_NUM_THREADS="ALL_CPUS"),
        ):
            if self._rows is None:
                self._rows = open_dataset(self._key(None))
            stored = self._read(self._rows, y0, 0, y1, self.levels[0].width)
            if y1 >= self.levels[0].height:
                self._rows.close()
                self._rows = None
        return self._shown(stored)

    def _read(self, dataset: Any, y0: int, x0: int, y1: int, x1: int) -> Array:
        stored_dtype = self.dtype if self._table is None else np.dtype(dataset.dtypes[0])
        planes = np.empty((self._stored_bands, y1 - y0, x1 - x0), stored_dtype)
        bands = list(range(1, self._stored_bands + 1))
        dataset.read(bands, out=planes, window=((y0, y1), (x0, x1)))
        return planes.transpose(1, 2, 0)

    def _shown(self, stored: Array) -> Array:
        if self._table is not None:
            return np.ascontiguousarray(self._table[stored[..., 0]])
        shown = cmyk_to_rgb(stored) if self._cmyk else stored
        if self._white is not None:
            shown = shown.copy()
            shown[..., 0] = self._white - shown[..., 0]
        if self._spread is not None and not self._codes:
            shown = self._spread[shown]
        if self.profile.premultiplied and self.alpha is not None:
            shown = straightened(shown, self.alpha)
        if self._transparent is not None:
            opaque = (stored != self._transparent).any(axis=2, keepdims=True)
            alpha = opaque * np.iinfo(self.dtype).max
            shown = np.concatenate([shown, alpha.astype(self.dtype)], axis=2)
        return shown

    # -- validity ----------------------------------------------------------------
    def valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        masks: npt.NDArray[np.bool_] | None = None
        if self._kind == "mask":
            # Where there is a mask it decides, as in GDAL: nodata 0 beside it may be black.
            masks = self._masks(level, box)
        elif self._kind == "bands" and self._differ:
            masks = self._masks(level, box)[..., list(self.data_bands)]
        if masks is None:
            return self.valid_by_values(pixels, self._nodata)
        return self.valid_by_values(pixels, valid=np.logical_and.reduce(masks, axis=2))

    def band_valid_in(self, level: int, box: Box, pixels: Array) -> npt.NDArray[np.bool_]:
        if self._kind != "bands":
            return super().band_valid_in(level, box, pixels)
        return self._masks(level, box)

    def _masks(self, level: int, box: Box) -> npt.NDArray[np.bool_]:
        """Return GDAL's masks of `box`, (h, w, bands), or (h, w, 1) of the one they share."""
        (y0, x0, y1, x1), shared = box, self._kind == "mask"
        window = ((y0, y1), (x0, x1))
        with gdal_errors(self.path), handles.lend(self._key(self._overviews[level])) as dataset:
            found = (
                dataset.dataset_mask(window=window) if shared else dataset.read_masks(window=window)
            )
        masks: npt.NDArray[np.bool_] = np.atleast_3d(found.T).transpose(1, 0, 2) != 0
        return masks

    @property
    def _differ(self) -> bool:
        """Whether bands of light differ in their nodata, or have masks."""
        counted = {str(self._nodata[band]) for band in self.data_bands}
        return self._band_masks or len(counted) > 1

    def files(self) -> tuple[Path, ...]:
        return self._files

    def close(self) -> None:
        handles.close(Path(self._path))
        with self._rows_lock:
            if self._rows is not None:
                self._rows.close()
                self._rows = None


def _block_bytes(dataset: Any) -> int:
    """Return the bytes that GDAL decodes at once: a block of one band or, where they are interleaved, of all."""
    if dataset.driver in WHOLE:
        return int(8 * dataset.height * dataset.width)
    return math.prod(_block_of(dataset)) * _itemsize(dataset)


def _block_of(dataset: Any) -> tuple[int, int, int]:
    """Return rows, columns and bands of a block."""
    rows, columns = dataset.block_shapes[0]
    is_by_pixel = str(getattr(dataset.interleaving, "name", "")) == "pixel"
    return int(rows), int(columns), int(dataset.count) if is_by_pixel else 1


def _itemsize(dataset: Any) -> int:
    return max(int(np.dtype(kind).itemsize) for kind in dataset.dtypes)


def _check_sizes(dataset: Any, name: str) -> None:
    """Refuse a block, or a whole picture, that is too large for GDAL to decode at once."""
    item = _itemsize(dataset)
    if dataset.driver in WHOLE:
        check_whole_size(name, 8 * dataset.height * dataset.width)
    if dataset.driver in PLAIN:
        available = sum(Path(f).stat().st_size for f in dataset.files if Path(f).is_file())
        claimed = dataset.height * dataset.width * dataset.count * item
        what = f"{dataset.height} × {dataset.width} pixels"
        check_ratio(name, claimed, available, RUNS_RATIO, what)
    block = _block_of(dataset)
    if block[1] < dataset.width or dataset.driver != "GTiff":
        check_block(name, "block", block, item)


def _is_full_length(dataset: Any, path: Path) -> bool:
    """Return whether a flat file is as long as its pixels; compressed ones are not checked."""
    if "compress" in " ".join(description.tags_of(dataset, ns="ENVI")) or path.suffix.lower() in (
        ".gz",
        ".vrt",
    ):
        return True
    if dataset.driver == "RRASTER":
        path = path.with_suffix(".gri")  # the file that is opened is its header
    bits = int(description.tags_of(dataset, 1, ns="IMAGE_STRUCTURE").get("NBITS", 0))
    sizes = [bits / 8 or np.dtype(name).itemsize for name in dataset.dtypes]
    return path.stat().st_size >= int(dataset.height * dataset.width * sum(sizes))


def _data_file(path: Path, head: bytes) -> Path:
    """Return the file of pixels where `path` is its header (``.hdr`` of ENVI and ESRI)."""
    if path.suffix.lower() != ".hdr" or head.startswith(b"#?"):
        return path
    for suffix in ("", ".img", ".dat", ".bil", ".bsq", ".bip", ".raw", ".bin"):
        candidate = path.with_suffix(suffix)
        if candidate.is_file():
            return candidate
    raise UnreadableImage(
        f"{path.name} is a header, and the file of pixels beside it is missing.",
        "Put both into one folder.",
    )


@contextlib.contextmanager
def gdal_errors(path: Path) -> Iterator[None]:
    """Turn GDAL's errors into one sentence with a next step."""
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError

    try:
        yield
    except (RasterioError, CPLE_BaseError, OSError, MemoryError) as error:
        cause = error.__cause__ or error
        text = " ".join(str(cause).split()) or "it does not fit into memory"
        if query := urlsplit(getattr(path, "address", "")).query:
            # GDAL names the end of an address, with its signature.
            text = text.replace(f"?{query}", "")
        text = reason_of(getattr(path, "address", "")) or text
        raise UnreadableImage(
            f"{path.name} cannot be read: {text[:200].rstrip('.')}.",
            "Check the file, or copy it again.",
        ) from error
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        # Rasterio's error for values that GDAL read from a damaged header.
        raise UnreadableImage(
            f"{path.name} has a damaged header ({' '.join(str(error).split())[:200]}).",
            "Check the file, or copy it again.",
        ) from error
