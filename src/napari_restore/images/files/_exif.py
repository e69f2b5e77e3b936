"""EXIF, ICC, XMP, IPTC and orientation of photos; and whether the file is complete.

The containers are walked segment by segment without decoding a pixel, which also detects a
truncated file; EXIF itself is parsed by Pillow.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from napari_restore.errors import UnreadableImage
from napari_restore.images.files import _tiff
from napari_restore.images.files._jpeg import SIGNATURE, next_segment

EXIF_HEADER = b"Exif\0\0"
ORIENTATION = 0x0112
CAMERA_SETTINGS = 0x8769
"""Tag of the directory with exposure, lens and time."""
SETTINGS = (0x829A, 0x829D, 0x8827, 0x9003, 0x9204, 0x920A, 0x9291, 0xA402, 0xA434)
"""Tags of that directory which a RAW photo may have in its main one (TIFF/EP)."""
MAKER_NOTE = 0x927C
"""Tag of the camera's private data."""
_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_ICC_HEADER = b"ICC_PROFILE\0"
_IPTC_HEADER = b"Photoshop 3.0\0"
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"


@dataclass
class PhotoTags:
    """The binary blocks of a photo, as in `Profile`."""

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    orientation: int = 1
    transparent: tuple[int, ...] = ()
    """Grey, or red, green and blue, of the one colour of a PNG that stands for nothing."""


def read_photo_tags(path: Path, head: bytes) -> PhotoTags:
    """Return the blocks of a JPEG, PNG, WebP or TIFF; empty for others.

    Raises `UnreadableImage` if the file ends before its image does.
    """
    if head.startswith(SIGNATURE):
        tags = _walk_jpeg(path)
    elif head.startswith(_PNG_HEAD):
        tags = _walk_png(path)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        tags = _walk_webp(path)
    elif _tiff.is_tiff(head):
        return _tiff_tags(path)
    else:
        return PhotoTags()
    tags.orientation = orientation_of(tags.exif)
    return tags


def orientation_of(exif: bytes | None) -> int:
    """Return the orientation 1 … 8 of an EXIF block; 1 where it has none."""
    if not exif:
        return 1
    from PIL.Image import Exif

    parsed = Exif()
    try:
        parsed.load(exif)
        value = int(parsed.get(ORIENTATION, 1))
    except Exception:  # damaged EXIF never keeps an image from being opened
        return 1
    return value if 1 <= value <= 8 else 1


def upright_exif(exif: bytes | None) -> bytes | None:
    """Return `exif` for an upright copy: orientation 1, the stale thumbnail dropped, GPS kept."""
    if not exif:
        return None
    from PIL.Image import Exif

    parsed = Exif()
    try:
        parsed.load(exif)
        if ORIENTATION in parsed:
            parsed[ORIENTATION] = 1
        # Pillow writes the main directory and those it refers to, not the thumbnail's.
        return bytes(parsed.tobytes())
    except Exception:  # damaged EXIF is left behind rather than copied
        return None


def _walk_jpeg(path: Path) -> PhotoTags:
    tags, icc = PhotoTags(), dict[int, bytes]()
    with path.open("rb") as file:
        for marker, segment in _jpeg_segments(file, path):
            if marker == 0xE1 and segment.startswith(EXIF_HEADER) and tags.exif is None:
                tags.exif = segment
            elif marker == 0xE1 and segment.startswith(_XMP_HEADER):
                tags.xmp = segment[len(_XMP_HEADER) :]
            elif marker == 0xE2 and segment.startswith(_ICC_HEADER) and len(segment) > 14:
                icc[segment[12]] = segment[14:]
            elif marker == 0xED and segment.startswith(_IPTC_HEADER):
                tags.iptc = segment
        if not _occurs_after(file, b"\xff\xd9", file.tell()):
            raise _tiff.truncated(path)
    if icc:
        tags.icc = b"".join(icc[number] for number in sorted(icc))
    return tags


def _jpeg_segments(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the segments that carry metadata; afterwards `file` is at the coded pixels.

    Raises `UnreadableImage` if the file ends before, or a segment's length is none.
    """
    file.seek(2)
    while True:
        marker = next_segment(file)
        size = b"" if marker is None else file.read(2)
        if marker is None or len(size) < 2:
            raise _tiff.truncated(path)
        # The two bytes of the length count.
        length = struct.unpack(">H", size)[0] - 2
        if marker == 0xDA:
            return
        if length < 0:
            raise UnreadableImage(
                f"{path.name} is damaged: a segment of its header has no length.",
                "Copy or download it again.",
            )
        if marker in (0xE1, 0xE2, 0xED):
            yield marker, file.read(length)
        else:
            file.seek(length, 1)


def _occurs_after(file: BinaryIO, pattern: bytes, start: int) -> bool:
    """Return whether `pattern` occurs at or after `start`; searched from the end."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.rfind(pattern, start) >= 0


def _walk_png(path: Path) -> PhotoTags:
    import zlib

    tags, colour = PhotoTags(), 0
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(8)
        while True:
            header = file.read(8)
            if len(header) < 8:
                raise _tiff.truncated(path)
            length, kind = struct.unpack(">I4s", header)
            if kind == b"IEND":
                return tags
            if file.tell() + length + 4 > size:
                raise _tiff.truncated(path)
            if kind == b"eXIf":
                tags.exif = EXIF_HEADER + file.read(length)
            elif kind == b"iCCP":
                data = file.read(length)
                try:
                    tags.icc = zlib.decompress(data[data.index(0) + 2 :])
                except (ValueError, zlib.error):
                    pass
            elif kind == b"IHDR":
                colour = file.read(length)[9]
            elif kind == b"tRNS" and (colours := {0: 1, 2: 3}.get(colour)):
                tags.transparent = struct.unpack(f">{colours}H", file.read(length)[: 2 * colours])
            elif kind == b"iTXt":
                tags.xmp = _png_xmp(file.read(length)) or tags.xmp
            else:
                file.seek(length, 1)
            file.seek(4, 1)


def _png_xmp(data: bytes) -> bytes | None:
    """Return the XMP packet of an iTXt chunk, if it contains one."""
    import zlib

    keyword, _, rest = data.partition(b"\0")
    if keyword != b"XML:com.adobe.xmp" or len(rest) < 2:
        return None
    text = rest[2:].split(b"\0", 2)[-1]
    try:
        return zlib.decompress(text) if rest[0] else text
    except zlib.error:
        return None


def _walk_webp(path: Path) -> PhotoTags:
    tags = PhotoTags()
    size = path.stat().st_size
    with path.open("rb") as file:
        (declared,) = struct.unpack("<I", file.read(8)[4:])
        if declared + 8 > size:
            raise _tiff.truncated(path)
        file.seek(12)
        while len(header := file.read(8)) == 8:
            kind, length = struct.unpack("<4sI", header)
            end = file.tell() + length + length % 2
            if kind == b"EXIF":
                data = file.read(length)
                tags.exif = data if data.startswith(EXIF_HEADER) else EXIF_HEADER + data
            elif kind == b"ICCP":
                tags.icc = file.read(length)
            elif kind == b"XMP ":
                tags.xmp = file.read(length)
            file.seek(end)
    return tags


def _tiff_tags(path: Path) -> PhotoTags:
    file_tags = _tiff.check_whole(path).tags
    tags = PhotoTags(
        icc=_binary(file_tags.get(_tiff.ICC)),
        xmp=_binary(file_tags.get(_tiff.XMP)),
        iptc=_binary(file_tags.get(_tiff.IPTC)),
    )
    orientation = file_tags.get(_tiff.ORIENTATION)
    if isinstance(orientation, tuple) and orientation and 1 <= orientation[0] <= 8:
        tags.orientation = orientation[0]
    if not {_tiff.EXIF_IFD, _tiff.GPS_IFD, _tiff.MAKE}.isdisjoint(file_tags):
        tags.exif = _tiff_exif(path)
    return tags


def _binary(value: bytes | tuple[int, ...] | None) -> bytes | None:
    return value if isinstance(value, bytes) else None


def _tiff_exif(path: Path) -> bytes | None:
    """Return the camera's part of a TIFF's directory, as an EXIF block of its own."""
    from PIL.TiffImagePlugin import TiffImageFile

    try:
        # The class itself, not Image.open: that refuses large images by their size.
        with TiffImageFile(path) as image:
            return _camera_part(image.getexif())
    except Exception:  # damaged EXIF never keeps an image from being opened
        return None


def raw_exif(path: Path) -> bytes | None:
    """Return the camera's part of a RAW photo's directory; None where its container is no TIFF.

    DNG, NEF, CR2, ARW, PEF and others are TIFF files. Without orientation: RAW is developed upright.
    """
    from PIL.Image import Exif

    whole = Exif()
    try:
        with path.open("rb") as file:
            whole.load_from_fp(file)
            # Offsets in the camera's private data are those of its own file.
            part = _camera_part(whole, without=(MAKER_NOTE,))
    except Exception:  # damaged EXIF never keeps an image from being opened
        return None
    return part if exif_tags(part) else None


def _camera_part(whole: Any, without: Sequence[int] = ()) -> bytes:
    """Return camera, time, settings and place of a parsed directory, as a block of its own."""
    from PIL.Image import Exif

    copy = Exif()
    for tag in (0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298):
        if tag in whole:
            copy[tag] = whole[tag]
    for directory in (CAMERA_SETTINGS, 0x8825):
        part = dict(whole.get_ifd(directory))
        if directory == CAMERA_SETTINGS:
            part = {tag: whole[tag] for tag in SETTINGS if tag in whole} | part
        if part:
            part = {tag: value for tag, value in part.items() if tag not in without}
            copy.get_ifd(directory).update(part)
            copy[directory] = dict(part)
    return bytes(copy.tobytes())


def exif_summary(exif: bytes | None) -> dict[str, str]:
    """Return camera, lens, time, exposure … as text, by EXIF's own names; without the location."""
    if not exif:
        return {}
    from PIL.ExifTags import TAGS

    wanted = {
        "Make", "Model", "Software", "DateTime", "DateTimeOriginal", "LensModel", "ExposureTime",
        "FNumber", "ISOSpeedRatings", "FocalLength", "ExposureBiasValue", "ColorSpace",
    }  # fmt: skip
    named = ((TAGS.get(tag, ""), value) for tag, value in exif_tags(exif).items())
    return {name: str(value).strip("\0 ") for name, value in named if name in wanted}


def exif_tags(exif: bytes | None) -> dict[int, Any]:
    """Return the values of a block by tag, those of the camera's settings among them.

    Empty where it is damaged: that never keeps an image from being used.
    """
    if not exif:
        return {}
    from PIL.Image import Exif

    parsed = Exif()
    try:
        parsed.load(exif)
        return {**parsed, **parsed.get_ifd(CAMERA_SETTINGS)}
    except Exception:  # Pillow raises many kinds
        return {}
