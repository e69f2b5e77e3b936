"""Directories of a TIFF: its tags, and whether all its strips and tiles lie in the file.

GDAL opens a truncated TIFF without an error and fails, or invents pixels, only where the missing
part is read; this detects it before. It follows the TIFF 6.0 and BigTIFF layouts.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from napari_restore._plain_files import open_file
from napari_restore.errors import UnreadableImage
from napari_restore.images.files.cancelling import check_cancelled
from napari_restore.images.files.claims import (
    DEFLATE_RATIO,
    JPEG_RATIO,
    LZW_RATIO,
    RUNS_RATIO,
    check_block,
    check_ratio,
)
from napari_restore.images.files.exif_directories import SIZES, SUB_IFDS, flavour_of, unpack_at

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

IMAGE_DESCRIPTION, MAKE, ORIENTATION, EXIF_IFD, GPS_IFD = 270, 271, 274, 34665, 34853
XMP, IPTC, ICC = 700, 33723, 34675
GDAL_METADATA, GDAL_NODATA = 42112, 42113
BLOCKS = ((273, 279), (324, 325))
"""Tags of offsets and byte counts: strips, tiles."""
NEW_SUBFILE_TYPE, REDUCED, MASK = 254, 1, 4
SUBFILE_TYPE, OLD_REDUCED = 255, 2
EXTRA_SAMPLES, ASSOCIATED_ALPHA = 338, 1
PHOTOMETRIC, JPEG, YCBCR, CIELAB = 262, 7, 6, 8
WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, STRIP_ROWS, PLANES = 256, 257, 258, 259, 277, 278, 284
TILE_WIDTH, TILE_HEIGHT = 322, 323
_RATIOS = {
    1: 1, 5: LZW_RATIO, 6: JPEG_RATIO * 3, 7: JPEG_RATIO * 3, 8: DEFLATE_RATIO,
    32773: RUNS_RATIO, 32946: DEFLATE_RATIO,
}  # fmt: skip
"""Compression → how many bytes one byte can become; others have no known limit."""
_UNLIMITED = 1 << 24

_TYPES = {
    1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q",
}  # fmt: skip
_READ_TAGS = {
    IMAGE_DESCRIPTION, MAKE, ORIENTATION, EXIF_IFD, GPS_IFD, XMP, IPTC, ICC, SUB_IFDS, GDAL_METADATA,
    GDAL_NODATA, *(tag for pair in BLOCKS for tag in pair), EXTRA_SAMPLES, NEW_SUBFILE_TYPE, SUBFILE_TYPE,
    PHOTOMETRIC, WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, STRIP_ROWS, PLANES, TILE_WIDTH, TILE_HEIGHT,
}  # fmt: skip
_MOST_DIRECTORIES = 100_000
_MOST_ENTRIES = 4_000_000
Tags = Mapping[int, bytes | tuple[int, ...]]


class Page(NamedTuple):
    """A directory of a picture, and the kind of its pixels."""

    offset: int
    height: int
    width: int
    samples: int
    bits: int

    def is_like(self, other: Page | None) -> bool:
        """Return whether both have pixels of one size and kind."""
        return other is not None and self[1:] == other[1:]


class TiffSummary(NamedTuple):
    """Content of the directories."""

    tags: dict[int, bytes | tuple[int, ...]]
    """Tags of the first directory; text and binary tags as bytes."""
    needed: int
    """Least bytes of the file with which every strip and tile lies in it."""
    metadata: tuple[bytes, ...]
    """GDAL's own XML, of every directory that has some."""
    block_bytes: int
    """Bytes of the largest tile or strip when decoded; 0 where rows can be read by themselves."""
    first: int
    """Offset of the first directory."""
    pages: tuple[Page, ...]
    """Pictures; a smaller version of one, or its mask, is none."""


def is_tiff(head: bytes) -> bool:
    """Return whether a file that begins so is a TIFF."""
    return head[:4] in TIFF_MAGIC


def tags_in(path: Path, head: bytes) -> dict[int, bytes | tuple[int, ...]]:
    """Return the tags of the first directory of a file that begins with `head`; {} for no TIFF, or a damaged one."""
    if not is_tiff(head):
        return {}
    try:
        return read_directories(path).tags
    except UnreadableImage:
        return {}


def read_directories(path: Path) -> TiffSummary:
    """Read the directories of a TIFF. Raises `UnreadableImage` where they are cut off."""
    found = path.stat()
    return _read_directories(path, (found.st_size, found.st_mtime_ns, found.st_ino))


@lru_cache(maxsize=4)
def _read_directories(path: Path, stamp: tuple[int, int, int]) -> TiffSummary:
    # Opening calls it several times; the stamp detects a file that was replaced meanwhile.
    with open_file(path) as file:
        try:
            return _DirectoryWalk(file, path.name, stamp[0]).summary()
        except _Overlapping as error:
            raise UnreadableImage(
                f"{path.name} is damaged: its directories overlap.", "Copy or download it again."
            ) from error
        except (struct.error, ValueError, OverflowError) as error:
            raise truncated(path) from error


def check_whole(path: Path) -> TiffSummary:
    """Return `read_directories`; raise `UnreadableImage` if blocks lie beyond the file's end."""
    found = read_directories(path)
    if found.needed > path.stat().st_size:
        raise truncated(path)
    return found


def truncated(path: Path) -> UnreadableImage:
    """Return the error of a file that ends too early."""
    return UnreadableImage(
        f"{path.name} is truncated: the file ends before its image does.",
        "Copy or download it again.",
    )


class _Overlapping(Exception):
    """Directories share bytes, so that a small file could contain any number of them."""


class _DirectoryWalk:
    """All directories of one file, each read once and none longer than the file allows."""

    def __init__(self, file: BinaryIO, name: str, size: int) -> None:
        self.file, self.name, self.size = file, name, size
        self.flavour = flavour_of(file)
        self.entries = 0
        self.spent = 0
        self.metadata: list[bytes] = []

    def summary(self) -> TiffSummary:
        (first,) = unpack_at(self.file, self.flavour.offset, self.flavour.first)
        tags: dict[int, bytes | tuple[int, ...]] = {}
        needed, largest, queue, pages = 0, 0, [first], list[Page]()
        visited: set[int] = set()
        below: set[int] = set()
        while queue and len(visited) < _MOST_DIRECTORIES:
            offset = queue.pop()
            if offset == 0 or offset in visited:
                continue
            visited.add(offset)
            check_cancelled()
            found, following = self.directory(offset)
            if len(visited) == 1:
                tags = found
            subordinate = found.get(SUB_IFDS, ())
            below.update(subordinate, (following,) if offset in below else ())
            if offset not in below and is_page(found):
                kind = (_one(found, tag) for tag in (HEIGHT, WIDTH, SAMPLES, BITS))
                pages.append(Page(offset, *kind))
            queue.append(following)
            queue.extend(subordinate)
            for where, sizes in BLOCKS:
                if where in found and sizes in found:
                    starts = np.array(tuple(found[where]), np.uint64)
                    lengths = np.array(tuple(found[sizes]), np.uint64)
                    count = min(len(starts), len(lengths))
                    if count:
                        # A sparse file leaves blocks out: offset and size are 0.
                        needed = max(needed, int((starts[:count] + lengths[:count]).max()))
                        block = _check_block(self.name, found, int(lengths[:count].max()))
                        largest = max(largest, block)
                        _check_count(self.name, found, count)
        return TiffSummary(tags, needed, tuple(self.metadata), largest, first, tuple(pages))

    def directory(self, offset: int) -> tuple[dict[int, bytes | tuple[int, ...]], int]:
        """Return the needed tags of the directory at `offset`, and the offset of the next one."""
        file, flavour = self.file, self.flavour
        # Offsets of signed types may be negative.
        if not 0 <= offset < self.size:
            raise ValueError("directory beyond the end")
        (count,) = unpack_at(file, flavour.number, offset)
        room = flavour.room
        step = struct.calcsize(flavour.entry) + room
        if count > 65535:
            raise ValueError("no directory")
        self._spend(count * step, count)
        block = file.read(count * step + room)
        (following,) = struct.unpack_from(flavour.offset, block, count * step)
        tags: dict[int, bytes | tuple[int, ...]] = {}
        for i in range(count):
            tag, kind, number = struct.unpack_from(flavour.entry, block, i * step)
            if tag not in _READ_TAGS or kind not in _TYPES:
                continue
            size = SIZES[kind] * number
            inline = i * step + step - room
            if size <= room:
                raw = block[inline : inline + size]
            else:
                (place,) = struct.unpack_from(flavour.offset, block, inline)
                if place + size > self.size:
                    raise ValueError("tag beyond the end")
                self._spend(size, 0)
                file.seek(place)
                raw = file.read(size)
            if kind in (1, 2, 7) or tag in (XMP, IPTC, ICC):
                tags[tag] = raw
            else:
                tags[tag] = struct.unpack(f"{flavour.order}{number}{_TYPES[kind]}", raw)
            if tag == GDAL_METADATA:
                # libtiff takes the characters from numbers of any type.
                self.metadata.append(bytes(value & 255 for value in tags[tag]))
        return tags, following

    def _spend(self, size: int, entries: int) -> None:
        """Count the bytes read: whole directories do not share bytes, few tags do."""
        self.spent += size
        self.entries += entries
        if self.spent > 2 * self.size or self.entries > _MOST_ENTRIES:
            raise _Overlapping


def is_page(tags: Tags) -> bool:
    """Return whether a directory is of a picture, not of a smaller version or of a mask."""
    return not _one(tags, NEW_SUBFILE_TYPE, 0) & (REDUCED | MASK) and (
        _one(tags, SUBFILE_TYPE, 1) != OLD_REDUCED
    )


def _one(tags: Tags, tag: int, otherwise: int = 1) -> int:
    """Return the first number of a tag."""
    values = tags.get(tag)
    return int(values[0]) if values else otherwise


def _block_of(tags: Tags) -> tuple[str, tuple[int, int], int]:
    """Return the name of the blocks, their rows and columns, and bytes of a pixel in one."""
    samples = _one(tags, SAMPLES) if _one(tags, PLANES) == 1 else 1
    itemsize = max(1, (_one(tags, BITS) * samples + 7) // 8)
    if TILE_WIDTH in tags:
        return "tile", (_one(tags, TILE_HEIGHT), _one(tags, TILE_WIDTH)), itemsize
    rows = min(_one(tags, STRIP_ROWS, 1 << 32), _one(tags, HEIGHT))
    return "strip", (rows, _one(tags, WIDTH)), itemsize


def _check_count(name: str, tags: Tags, count: int) -> None:
    """Raise `UnreadableImage` where `count` blocks cannot be the image that the header claims."""
    what, (rows, columns), _ = _block_of(tags)
    height, width = _one(tags, HEIGHT), _one(tags, WIDTH)
    planes = _one(tags, SAMPLES) if _one(tags, PLANES) == 2 else 1
    needed = -(-height // max(1, rows)) * -(-width // max(1, columns)) * planes
    if needed > count:
        # libtiff would invent the others, one by one.
        raise UnreadableImage(
            f"{name} claims {width} × {height} pixels, {needed} {what}s, and contains {count}.",
            "It seems damaged; copy or download it again.",
        )


def _check_block(name: str, tags: Tags, available: int) -> int:
    """Return the bytes of a decoded tile or strip; 0 where rows can be read by themselves.

    Raises `UnreadableImage` for one that is too large, or cannot be in its `available` bytes.
    """
    what, shape, itemsize = _block_of(tags)
    compression = _one(tags, COMPRESSION)
    if what == "strip" and compression == 1:
        return 0  # GDAL reads rows of it
    check_block(name, what, shape, itemsize)
    claimed = shape[0] * shape[1] * itemsize
    block_text = f"a {what} of {shape[0]} × {shape[1]} pixels"
    check_ratio(name, claimed, available, _RATIOS.get(compression, _UNLIMITED), block_text)
    return claimed
