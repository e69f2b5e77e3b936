"""Metadata of RAW photos: in a TIFF, in Canon's boxes (CR3), or in the preview of Fujifilm's RAF."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from napari_restore._plain_files import open_file
from napari_restore.errors import UnreadableImage
from napari_restore.images.files import tiff
from napari_restore.images.files.exif import PhotoTags, camera_block, jpeg_tags
from napari_restore.images.files.exif_directories import (
    CAMERA_SETTINGS,
    GPS,
    Directory,
    directories_in,
    directories_of,
    numbers_of,
    pictures_in,
)
from napari_restore.images.files.xmp import DEVELOPMENT, sidecar_xmp, upright_xmp, without

_FUJIFILM, _PREVIEW = b"FUJIFILMCCD-RAW ", 84
"""What a RAF begins with, and where offset and length of its preview stand."""
_CANON = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
_ADOBE = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
"""UUIDs of the boxes of Canon's metadata and of XMP."""
_MOST = 4 << 20
"""Bytes of a box or of a preview's header that are read."""
_ORIGIN, _SIZE, _BASELINE_EXPOSURE, _ACTIVE_AREA, _PART = 50719, 50720, 50730, 50829, 51125
"""Tags of a DNG: of the default crop, the exposure, the sensor's area, and the crop of the user."""


def raw_tags(path: Path) -> PhotoTags:
    """Return the blocks of a RAW photo; empty where its container is not known."""
    # RAW is developed upright, and by other settings than those a program may have put into XMP.
    # XMP of a sidecar takes precedence.
    try:
        with open_file(path) as file:
            head = file.read(32)
            if head.startswith(_FUJIFILM):
                tags = _of_preview(file, path)
            elif head[4:11] == b"ftypcrx":
                tags = _of_boxes(file)
            else:
                tags = _of_tiff(file, path)
    except (ValueError, struct.error, OSError, UnreadableImage):
        tags = PhotoTags()  # the decoder says what is wrong with the picture
    tags.xmp = sidecar_xmp(path) or without(upright_xmp(tags.xmp), DEVELOPMENT)
    return tags


def dng_crop(path: Path, sensor: tuple[int, int]) -> tuple[tuple[int, ...] | None, float]:
    """Return which part (y0, x0, y1, x1) of a `sensor` (rows, columns) is the picture, and the baseline EV."""
    # The part is None where no directory of such a picture names one: it is no DNG.
    ev, whole = 0.0, (0, 0, 1, 1)
    try:
        with open_file(path) as file:
            pictures = pictures_in(file)
        (ev,) = numbers_of(pictures[0].get(_BASELINE_EXPOSURE)) or (0.0,)
        for directory in pictures:
            origin, size, active, part, rows, columns = (
                numbers_of(directory.get(tag))
                for tag in (_ORIGIN, _SIZE, _ACTIVE_AREA, _PART, tiff.HEIGHT, tiff.WIDTH)
            )
            if (*rows, *columns) == sensor and origin and size:
                corners = (2 * pair for pair in (size[::-1], origin[::-1], (active or whole)[:2]))
                # Shares of it, where the camera was set to another ratio of its sides.
                sides = zip(part or whole, *corners, strict=True)
                return tuple(round(edge + at + share * side) for share, side, at, edge in sides), ev
    except (ValueError, OverflowError, struct.error, OSError):
        pass  # the decoder says what is wrong with the picture
    return None, ev


def _of_tiff(file: BinaryIO, path: Path) -> PhotoTags:
    tags = PhotoTags(exif=camera_block(*directories_in(file), developed=True))
    found = tiff.read_directories(path).tags
    xmp, iptc = found.get(tiff.XMP), found.get(tiff.IPTC)
    tags.xmp = xmp if isinstance(xmp, bytes) else None
    tags.iptc = iptc if isinstance(iptc, bytes) else None
    return tags


def _of_preview(file: BinaryIO, path: Path) -> PhotoTags:
    file.seek(_PREVIEW)
    start, size = struct.unpack(">II", file.read(8))
    file.seek(start)
    found = jpeg_tags(io.BytesIO(file.read(min(size, _MOST))), path)
    exif = camera_block(*directories_of(found.exif), developed=True) if found.exif else None
    return PhotoTags(exif=exif, xmp=found.xmp, iptc=found.iptc)


def _of_boxes(file: BinaryIO) -> PhotoTags:
    tags, parts = PhotoTags(), dict[bytes, Directory]()
    end = file.seek(0, io.SEEK_END)
    for kind, start, after in boxes_in(file, 0, end):
        if kind == _ADOBE:
            file.seek(start)
            tags.xmp = file.read(min(after - start, _MOST)).rstrip(b"\0 \n") or None
        if kind != b"moov":
            continue
        for inner, first, last in boxes_in(file, start, after):
            if inner != _CANON:
                continue
            for name, at, until in boxes_in(file, first, last):
                if name in (b"CMT1", b"CMT2", b"CMT4"):
                    file.seek(at)
                    parts[name] = directories_in(io.BytesIO(file.read(min(until - at, _MOST))))[0]
    others = {CAMERA_SETTINGS: parts.get(b"CMT2", {}), GPS: parts.get(b"CMT4", {})}
    others = {tag: directory for tag, directory in others.items() if directory}
    tags.exif = camera_block(parts.get(b"CMT1", {}), others, developed=True)
    return tags


def boxes_in(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, or UUID, and first and last byte of the boxes in a part of a file (ISO/IEC 14496-12)."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
        if kind == b"uuid":
            kind = file.read(16)
        first, after = file.tell(), start + size if size else end
        if not first <= after <= end:
            return
        yield kind, first, after
        start = after
