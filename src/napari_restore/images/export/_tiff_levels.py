"""Joining TIFFs of single levels into one file with overviews.

GDAL can make overviews only from a finished file, by decoding it again and by
its own rule for what is valid. Here the levels are made with the pixels in hand
and each is written by GDAL as a file of its own; such a file is then appended as
it is, its offsets moved, its directories linked behind those of the main file.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from napari_restore.images.files.exif_directories import (
    SIZES,
    Directory,
    DirectoryEntry,
    Flavour,
    flavour_of,
    laid_out,
    packed,
    unpack_at,
)
from napari_restore.images.files.tiff import BLOCKS, NEW_SUBFILE_TYPE, REDUCED

MULTIPLE = 8
"""Of this many bytes is every offset of fields that are added to a TIFF."""
OFFSETS, COUNTS = zip(*BLOCKS, strict=True)
"""Tags of strips and tiles whose values are offsets in the file, and their lengths."""
_COPY = 1 << 22


def append_overviews(path: Path, levels: Iterable[Path]) -> None:
    """Append the TIFFs `levels`, finest first, to the TIFF `path` as its overviews, their masks with them."""
    # All must be of one byte order and all classic or all BigTIFF.
    with path.open("r+b") as main:
        flavour = flavour_of(main)
        *_, (_, link) = directories_in(main, flavour)
        for level in levels:
            with level.open("rb") as other:
                if flavour_of(other) != flavour:
                    raise ValueError(f"{level} is laid out otherwise than {path}")
                base = append_all(main, other)
            for entries, _ in list(directories_in(main, flavour, base)):
                moved = [_moved(main, flavour, entry, base) for entry in entries]
                link = append_directory(main, flavour, _as_reduced(flavour, moved), link)


def read_directory(
    file: BinaryIO, flavour: Flavour, offset: int
) -> tuple[list[DirectoryEntry], int]:
    """Return a directory's entries, and the position of the link to the next one."""
    (number,) = unpack_at(file, flavour.number, offset)
    layout = f"{flavour.entry}{flavour.room}s"
    size = struct.calcsize(layout)
    entries = [DirectoryEntry(*struct.unpack(layout, file.read(size))) for _ in range(number)]
    return entries, offset + struct.calcsize(flavour.number) + number * size


def directories_in(
    file: BinaryIO, flavour: Flavour, base: int = 0
) -> Iterator[tuple[list[DirectoryEntry], int]]:
    """Yield the entries of all directories of a TIFF that begins at `base`, and where each one's link is."""
    link = base + flavour.first
    while offset := unpack_at(file, flavour.offset, link)[0]:
        entries, link = read_directory(file, flavour, base + offset)
        yield entries, link


def append_all(main: BinaryIO, other: BinaryIO) -> int:
    """Append all of `other`; return where it begins."""
    base = _aligned_end(main)
    other.seek(0)
    shutil.copyfileobj(other, main, _COPY)
    return base


def _aligned_end(file: BinaryIO, multiple: int = 16) -> int:
    """Seek to the end, padded to a multiple of so many bytes."""
    file.seek(0, os.SEEK_END)
    file.write(b"\0" * (-file.tell() % multiple))
    return file.tell()


def _moved(file: BinaryIO, flavour: Flavour, entry: DirectoryEntry, base: int) -> DirectoryEntry:
    """Return `entry` of a file appended at `base`; offsets it lists are shifted in the file."""
    size = SIZES[entry.kind] * entry.length
    inside = size <= flavour.room
    if not inside:
        (offset,) = struct.unpack(flavour.offset, entry.value)
        entry = entry._replace(value=struct.pack(flavour.offset, offset + base))
    if entry.tag not in OFFSETS:
        return entry
    layout = f"{flavour.order}{entry.length}{'Q' if entry.kind == 16 else 'I'}"
    if inside:
        offsets = struct.unpack(layout, entry.value[:size])
    else:
        offsets = unpack_at(file, layout, offset + base)
    # 0 means that a block was never written.
    content = struct.pack(layout, *(p + base if p else 0 for p in offsets))
    if inside:
        return entry._replace(value=content.ljust(flavour.room, b"\0"))
    file.seek(offset + base)
    file.write(content)
    return entry


def copy_with_fields(
    source: Path, target: Path, main: Directory, directories: Mapping[int, Directory]
) -> None:
    """Copy a TIFF with fields added to its first directory, which stays before all else.

    `directories` are those that a tag of it refers to. Nothing changes its order: a cloud-optimised
    GeoTIFF stays one.
    """
    with source.open("rb") as old, target.open("w+b") as new:
        flavour = flavour_of(old)
        (first,) = unpack_at(old, flavour.offset, flavour.first)
        present, link = read_directory(old, flavour, first)
        (following,) = unpack_at(old, flavour.offset, link)
        count = len({entry.tag for entry in present} | main.keys() | directories.keys())
        step = struct.calcsize(flavour.entry) + flavour.room
        after = first + struct.calcsize(flavour.number) + count * step + flavour.room
        added, values = laid_out(flavour, after, main, directories, MULTIPLE)
        # What follows keeps its alignment.
        values += b"\0" * (-(after + len(values) - first) % 16)
        shift = after + len(values) - first
        old.seek(0)
        new.write(old.read(first))
        new.seek(first + shift)
        shutil.copyfileobj(old, new, _COPY)
        entries = {entry.tag: _moved(new, flavour, entry, shift) for entry in present} | added
        offset = following + shift if following else 0
        _write_directory(new, flavour, first, sorted(entries.values()), offset)
        new.seek(after)
        new.write(values)
        while offset:
            others, link = read_directory(new, flavour, offset)
            (following,) = unpack_at(new, flavour.offset, link)
            others = [_moved(new, flavour, entry, shift) for entry in others]
            at, offset = offset, following + shift if following else 0
            _write_directory(new, flavour, at, others, offset)


def _write_directory(
    file: BinaryIO, flavour: Flavour, offset: int, entries: list[DirectoryEntry], following: int
) -> None:
    file.seek(offset)
    file.write(packed(flavour, entries, following))


def _as_reduced(flavour: Flavour, entries: list[DirectoryEntry]) -> list[DirectoryEntry]:
    """Return `entries` with the type of a smaller version of the image or of its mask."""
    kind = REDUCED
    for entry in entries:
        if entry.tag == NEW_SUBFILE_TYPE:
            kind |= struct.unpack(flavour.order + "I", entry.value[:4])[0]
    value = struct.pack(flavour.order + "I", kind).ljust(flavour.room, b"\0")
    rest = [entry for entry in entries if entry.tag != NEW_SUBFILE_TYPE]
    return sorted([*rest, DirectoryEntry(NEW_SUBFILE_TYPE, 4, 1, value)])


def append_directory(
    file: BinaryIO,
    flavour: Flavour,
    entries: list[DirectoryEntry],
    link: int,
    *,
    following: int = 0,
    multiple: int = 16,
) -> int:
    """Write a directory at the end, at a `multiple` of bytes, its offset at `link`; return its own, to `following`."""
    offset = _aligned_end(file, multiple)
    _write_directory(file, flavour, offset, entries, following)
    after = file.tell() - flavour.room
    if not flavour.big and file.tell() > 0xFFFFFFFF:
        raise ValueError("a classic TIFF ends at 4 GiB")
    file.seek(link)
    file.write(struct.pack(flavour.offset, offset))
    return after
