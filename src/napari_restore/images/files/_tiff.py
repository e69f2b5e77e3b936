"""A look at a TIFF's directories: which tags, and do all its strips and tiles lie in the file.

GDAL opens a truncated TIFF without a word and fails, or invents pixels, only
where the missing part is read; this finds it out before. It follows the TIFF 6.0
and BigTIFF layouts.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from napari_restore.errors import UnreadableImage

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

IMAGE_DESCRIPTION, MAKE, ORIENTATION, EXIF_IFD, GPS_IFD = 270, 271, 274, 34665, 34853
XMP, IPTC, ICC = 700, 33723, 34675
BLOCKS = ((273, 279), (324, 325))
"""Tags of offsets and byte counts: strips, tiles."""
SUB_IFDS = 330

_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 18: "Q"}
_KEPT = {IMAGE_DESCRIPTION, MAKE, ORIENTATION, EXIF_IFD, GPS_IFD, XMP, IPTC, ICC, SUB_IFDS}
_KEPT |= {tag for pair in BLOCKS for tag in pair}
_MOST_DIRECTORIES = 100_000


class TiffLook(NamedTuple):
    """What the directories say."""

    tags: dict[int, bytes | tuple[int, ...]]
    """Of the first directory; text and binary tags as bytes."""
    needed: int
    """Bytes the file must have so that every strip and tile lies in it."""


def is_tiff(head: bytes) -> bool:
    return head[:4] in MAGIC


def look(path: Path) -> TiffLook:
    """Read the directories of a TIFF. Raises `UnreadableImage` where they are cut off."""
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in (b"+\0", b"\0+")
        try:
            if big:
                (first,) = struct.unpack_from(order + "Q", head, 8)
            else:
                (first,) = struct.unpack_from(order + "I", head, 4)
            return _walk(file, order, big, first)
        except (struct.error, ValueError, OverflowError) as error:
            raise truncated(path) from error


def check_whole(path: Path) -> TiffLook:
    """As `look`; raises `UnreadableImage` if strips or tiles lie beyond the file's end."""
    found = look(path)
    if found.needed > path.stat().st_size:
        raise truncated(path)
    return found


def truncated(path: Path) -> UnreadableImage:
    """The error of a file that ends too early."""
    return UnreadableImage(
        f"{path.name} is truncated: the file ends before its image does.",
        "Copy or download it again.",
    )


def _walk(file: BinaryIO, order: str, big: bool, first: int) -> TiffLook:
    tags: dict[int, bytes | tuple[int, ...]] = {}
    needed, queue = 0, [first]
    seen: set[int] = set()
    while queue and len(seen) < _MOST_DIRECTORIES:
        offset = queue.pop()
        if offset == 0 or offset in seen:
            continue
        seen.add(offset)
        found, following = _directory(file, order, big, offset)
        if len(seen) == 1:
            tags = found
        queue.append(following)
        queue.extend(found.get(SUB_IFDS, ()))
        for where, sizes in BLOCKS:
            if where in found and sizes in found:
                starts = np.array(found[where], np.uint64)
                lengths = np.array(found[sizes], np.uint64)
                count = min(len(starts), len(lengths))
                if count:
                    # A sparse file leaves blocks out: offset and size are 0.
                    needed = max(needed, int((starts[:count] + lengths[:count]).max()))
    return TiffLook(tags, needed)


def _directory(
    file: BinaryIO, order: str, big: bool, offset: int
) -> tuple[dict[int, bytes | tuple[int, ...]], int]:
    """The kept tags of the directory at `offset`, and where the next one is."""
    file.seek(offset)
    count_format, entry_format, pointer = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    (count,) = struct.unpack(order + count_format, file.read(struct.calcsize(order + count_format)))
    room = struct.calcsize(order + pointer)
    step = struct.calcsize(order + entry_format) + room
    if count > 65535:
        raise ValueError("no directory")
    block = file.read(count * step + room)
    (following,) = struct.unpack_from(order + pointer, block, count * step)
    tags: dict[int, bytes | tuple[int, ...]] = {}
    for i in range(count):
        tag, kind, number = struct.unpack_from(order + entry_format, block, i * step)
        if tag not in _KEPT or kind not in _TYPES:
            continue
        size = struct.calcsize(order + _TYPES[kind]) * number
        inline = i * step + step - room
        if size <= room:
            raw = block[inline : inline + size]
        else:
            (place,) = struct.unpack_from(order + pointer, block, inline)
            file.seek(place)
            raw = file.read(size)
            if len(raw) < size:
                raise ValueError("tag beyond the end")
        if kind in (1, 2, 7) or tag in (XMP, IPTC, ICC):
            tags[tag] = raw
        else:
            tags[tag] = struct.unpack(f"{order}{number}{_TYPES[kind]}", raw)
    return tags, following
