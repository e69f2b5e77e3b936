"""Joining files of single planes into a stack: pages of a TIFF, axes of an OME-Zarr.

A plane is written by the writer of its format as a file of its own. Its blocks are taken over as
they are: nothing is decoded again, and memory does not depend on the number of planes.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from napari_restore.errors import BadOutput, Cancelled, option
from napari_restore.images._image import Image
from napari_restore.images._planes import Planes
from napari_restore.images.export._job import ExportOptions
from napari_restore.images.export._rendition import CHANGES
from napari_restore.images.export._tiff_levels import (
    COUNTS,
    OFFSETS,
    append_all,
    append_directory,
    directories_in,
)
from napari_restore.images.export.write import check_output, written_beside
from napari_restore.images.files import exif_directories, tiff
from napari_restore.images.files.descriptions import fitting_stack, is_structure
from napari_restore.images.files.exif_directories import SIZES, Directory, Field, Flavour
from napari_restore.images.files.handles import DatasetKey, environment, open_dataset

STACKS = (".tif", ".tiff", ".zarr")
"""Suffixes of formats with several planes."""
_CLASSIC_BYTES = 3 << 30
_POINTERS = (330, 34665, 34853, 40965)
"""Tags that refer to directories of their own: they are left behind."""
_FORMAT = 339


def check_stack(target: Path, like: Image, options: ExportOptions) -> None:
    """Raise `BadOutput` where planes like that of `like` cannot be joined in `target`."""
    if target.suffix.lower() not in STACKS:
        raise BadOutput(
            f"{target.suffix or target} is no format of several planes.",
            "Write a .tif or .zarr, or one plane with " + option("plane") + ".",
        )
    if options.cog:
        raise BadOutput(
            "A cloud-optimised GeoTIFF has one picture.", f"Leave {option('cog', True)} out."
        )
    if asked := [
        option(name, getattr(options, name)) for name in CHANGES if getattr(options, name)
    ]:
        raise BadOutput(f"{asked[0]} is for one picture.", "Leave it out.")
    files = list(like.reader.files())
    check_output(target, files, options.overwrite, like=like, options=options)


def join_planes(
    parts: Sequence[Path],
    target: Path,
    *,
    like: Image,
    planes: Planes,
    origin: tuple[int, int] = (0, 0),
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Join files of one plane each, all of one size and kind, to the stack `target`; return it.

    `like` is a plane of the source, `planes` what its axes become, `origin` (y, x) its pixel that
    is the first one of the parts. The parts stay. Raises `BadOutput`, `DiskFull`, `Cancelled`:
    nothing is left behind then.
    """
    check_stack(target, like, ExportOptions(overwrite=overwrite))

    def following() -> Iterator[Path]:
        for number, each in enumerate(parts, start=1):
            if cancelled is not None and cancelled():
                raise Cancelled("Joining the planes was cancelled.", "They are kept.")
            yield each
            if progress is not None:
                progress(number, len(parts))

    with written_beside(target, overwrite=overwrite) as part:
        if target.suffix.lower() == ".zarr":
            _join_zarrs(following(), part, planes)
        else:
            _join_tiffs(following(), part, like, planes, origin, _total(parts))
    return target


def _differs(path: Path) -> BadOutput:
    return BadOutput(
        f"{path.stem} is a plane of another size or kind than the first one.",
        f"Restore planes of one size together, or one with {option('plane')}.",
    )


# -- TIFF --------------------------------------------------------------------------


def _numbers(field: Field) -> tuple[int, ...]:
    letter = {1: "B", 3: "H", 4: "I", 16: "Q"}[field.kind]
    return struct.unpack(f"<{field.items}{letter}", field.data)


def _total(parts: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in parts if path.is_file())


def _join_tiffs(
    parts: Iterator[Path],
    target: Path,
    like: Image,
    planes: Planes,
    origin: tuple[int, int],
    total: int,
) -> None:
    names, split = planes.order.split(), planes.has_channel_pages(like.bands)
    pages: list[tuple[tuple[int, ...], list[exif_directories.DirectoryEntry]]] = []
    first = None
    with target.open("w+b") as file:
        for number, path in enumerate(parts):
            summary = tiff.check_whole(path)
            if first is None:
                first = summary.pages[0]
                with path.open("rb") as head:
                    order = exif_directories.flavour_of(head).order
                flavour = Flavour(order, total > _CLASSIC_BYTES)
                description = _description(path, like, planes, origin)
                _write_header(file, flavour)
            if not summary.pages[0].is_like(first):
                raise _differs(path)
            with path.open("rb") as part:
                base = append_all(file, part)
            for tags, is_mask in _directories(path, base, flavour):
                apart = _channels(tags) if split and not is_mask else [tags]
                for channel, page in enumerate(apart):
                    is_first = not pages
                    kept = _kept(page, is_first=is_first, text=description if is_first else None)
                    index = dict(
                        zip((a.name for a in planes.axes), planes.indices(number), strict=True)
                    )
                    key = (
                        *(index.get(n, channel if n == "c" else 0) for n in names),
                        number,
                        is_mask,
                    )
                    end = file.seek(0, 2)
                    entries, values = exif_directories.laid_out(flavour, end, kept, {}, 2)
                    file.write(values)
                    pages.append((key, list(entries.values())))
        link = flavour.first
        for _, listed in sorted(pages, key=lambda page: page[0]):
            link = append_directory(file, flavour, listed, link)
    if len(tiff.check_whole(target).pages) != planes.count * (like.bands if split else 1):
        raise BadOutput("The stack lacks pages.", "The disk may be failing; write to another one.")


def _write_header(file: BinaryIO, flavour: Flavour) -> None:
    magic = b"II" if flavour.order == "<" else b"MM"
    if flavour.big:
        file.write(magic + struct.pack(f"{flavour.order}HHHQ", 43, 8, 0, 0))
    else:
        file.write(magic + struct.pack(f"{flavour.order}HI", 42, 0))


def _directories(path: Path, base: int, into: Flavour) -> Iterator[tuple[Directory, bool]]:
    """Yield the directories of a file appended at `base`, and whether each is a mask."""
    with path.open("rb") as part:
        flavour = exif_directories.flavour_of(part)
        for entries, _ in directories_in(part, flavour):
            fields = {entry.tag: _read(part, flavour, entry) for entry in entries}
            for tag in fields.keys() & OFFSETS:
                # 0 means that a block was never written.
                offsets = [offset + base if offset else 0 for offset in _numbers(fields[tag])]
                kind, letter = (16, "Q") if into.big else (4, "I")
                fields[tag] = Field(kind, struct.pack(f"<{len(offsets)}{letter}", *offsets))
            kind_of = fields.get(tiff.NEW_SUBFILE_TYPE)
            yield fields, kind_of is not None and bool(_numbers(kind_of)[0] & tiff.MASK)


def _read(file: BinaryIO, flavour: Flavour, entry: exif_directories.DirectoryEntry) -> Field:
    size = SIZES[entry.kind] * entry.length
    data = entry.value[:size]
    if size > flavour.room:
        (offset,) = struct.unpack(flavour.offset, entry.value)
        file.seek(offset)
        data = file.read(size)
    # What brings bytes into an order brings them back from it.
    return Field(entry.kind, Field(entry.kind, data).ordered(flavour.order))


def _kept(fields: Directory, *, is_first: bool, text: str | None) -> Directory:
    """Return the fields of a page by tag, the first one with the description `text` of all of them."""
    kept = {
        tag: field
        for tag, field in fields.items()
        if tag not in _POINTERS
        and not (tag == tiff.IMAGE_DESCRIPTION and (text is not None or is_structure(field.data)))
    }
    if is_first and text is not None:
        kept[tiff.IMAGE_DESCRIPTION] = Field(2, text.encode() + b"\0")
    return dict(sorted(kept.items()))


def _channels(fields: Directory) -> list[Directory]:
    """Return a page for each channel of one whose channels have blocks of their own."""
    (count,) = _numbers(fields[tiff.SAMPLES])
    if tiff.PLANES not in fields or _numbers(fields[tiff.PLANES])[0] != 2:
        raise ValueError("channels are not apart")
    pages = []
    for channel in range(count):
        page = {}
        for tag, field in fields.items():
            if tag in (*OFFSETS, *COUNTS):
                size = len(field.data) // count
                field = field._replace(data=field.data[channel * size : (channel + 1) * size])
            elif tag in (tiff.BITS, _FORMAT):
                field = field._replace(data=field.data[: SIZES[field.kind]])
            elif tag in (tiff.SAMPLES, tiff.PLANES, tiff.PHOTOMETRIC):
                field = Field(3, b"\1\0")
            if tag != tiff.EXTRA_SAMPLES and not (tag == tiff.GDAL_METADATA and channel):
                page[tag] = field
        pages.append(page)
    return pages


def _description(path: Path, like: Image, planes: Planes, origin: tuple[int, int]) -> str | None:
    text = like.profile.tags.get("", {}).get("TIFFTAG_IMAGEDESCRIPTION", "")
    grid = like.profile.grid
    with environment(), open_dataset(DatasetKey(str(path))) as dataset:
        shape, dtype = (dataset.height, dataset.width, dataset.count), dataset.dtypes[0]
    if not text and like.profile.driver != "Zarr":
        return None
    shifted = None if grid is None else grid.shifted(*origin)
    return fitting_stack(text, planes, like.profile, shape, dtype, shifted)


# -- OME-Zarr ------------------------------------------------------------------------


def _join_zarrs(parts: Iterator[Path], target: Path, planes: Planes) -> None:
    described: dict[str, Any] = {}
    for number, path in enumerate(parts):
        group = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        levels = [each["path"] for each in group["attributes"]["ome"]["multiscales"][0]["datasets"]]
        arrays = {
            level: json.loads((path / level / "zarr.json").read_text(encoding="utf-8"))
            for level in levels
        }
        if not described:
            described = arrays
            target.mkdir()
            _describe(group, arrays, target, planes)
        if arrays != described:
            raise _differs(path)
        for level, array in arrays.items():
            for row, column in _grid(array):
                source = path / level / "c" / "0" / str(row) / str(column)
                index = map(str, _placed(planes, planes.indices(number), 0, array["shape"][0]))
                into = target.joinpath(level, "c", *index, str(row), str(column))
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, into)


def _grid(array: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Yield rows and columns of the chunks of an array (c, y, x)."""
    shape, chunk = array["shape"], array["chunk_grid"]["configuration"]["chunk_shape"]
    rows, columns = (-(-shape[axis] // chunk[axis]) for axis in (1, 2))
    for row in range(rows):
        for column in range(columns):
            yield row, column


def _placed(planes: Planes, values: Sequence[Any], channel: Any, bands: int) -> list[Any]:
    """Return a value for each axis but rows and columns, in the order of the source."""
    by_name = dict(zip((axis.name for axis in planes.axes), values, strict=True))
    channels = [name for name in planes.order.split() if name in ("c", "s", "channel", "band")]
    rest = [name for name in channels if name not in by_name]
    placed, has_channel = [], False
    for name in planes.order.split():
        if name in by_name:
            placed.append(by_name[name])
        elif name in rest[:1]:
            placed.append(channel)
            has_channel = True
    if not has_channel and bands > 1:
        placed.append(channel)
    return placed


def _describe(
    group: dict[str, Any], arrays: dict[str, dict[str, Any]], target: Path, planes: Planes
) -> None:
    """Write the metadata of a group of arrays with the axes of `planes` before (c, y, x)."""
    multiscale = group["attributes"]["ome"]["multiscales"][0]
    bands = next(iter(arrays.values()))["shape"][0]
    channel, *space = multiscale["axes"]
    kinds = {"t": "time", "z": "space", "c": "channel"}
    axes = [
        {"name": axis.name}
        | ({"type": kinds[axis.name]} if axis.name in kinds else {})
        | ({"unit": axis.unit} if axis.unit else {})
        for axis in planes.axes
    ]
    multiscale["axes"] = [*_placed(planes, axes, channel, bands), *space]
    for each in multiscale["datasets"]:
        for step in each["coordinateTransformations"]:
            first, *rest = step[step["type"]]
            own = [a.step if step["type"] == "scale" else 0.0 for a in planes.axes]
            step[step["type"]] = [*_placed(planes, own, first, bands), *rest]
    (target / "zarr.json").write_text(json.dumps(group), encoding="utf-8")
    for level, array in arrays.items():
        stacked = json.loads(json.dumps(array))
        chunk = stacked["chunk_grid"]["configuration"]
        ones = [1] * len(planes.axes)
        stacked["shape"] = [*_placed(planes, planes.shape, bands, bands), *array["shape"][1:]]
        chunk["chunk_shape"] = [
            *_placed(planes, ones, chunk["chunk_shape"][0], bands),
            *chunk["chunk_shape"][1:],
        ]
        names = _placed(planes, [axis.name for axis in planes.axes], "c", bands)
        stacked["dimension_names"] = [*names, "y", "x"]
        (target / level).mkdir()
        (target / level / "zarr.json").write_text(json.dumps(stacked), encoding="utf-8")
