"""EXIF, ICC, XMP, IPTC and orientation of photos; and whether the file is complete.

The containers are walked segment by segment without decoding a pixel, which also detects a
truncated file; EXIF itself is parsed by Pillow.
"""

from __future__ import annotations

import contextlib
import mmap
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from napari_restore._plain_files import open_file
from napari_restore.errors import UnreadableImage
from napari_restore.images._planes import ONE, Planes
from napari_restore.images.files import tiff
from napari_restore.images.files.descriptions import is_structure, planes_of_pages
from napari_restore.images.files.exif_directories import (
    CAMERA_SETTINGS,
    EXIF_HEADER,
    HEIGHT,
    ORIENTATION,
    WIDTH,
    Directory,
    Field,
    block_of,
    block_with,
    directories_in,
    directories_of,
    number_of,
    upright_block,
)
from napari_restore.images.files.handles import environment, ignore_missing_georeference
from napari_restore.images.files.jpeg import END, SIGNATURE, frame_of, next_segment
from napari_restore.images.files.xmp import ATTACHED, GAIN_MAP, without
from napari_restore.images.values.facts import resolve

T = TypeVar("T")
SETTINGS = (0x829A, 0x829D, 0x8827, 0x9003, 0x9204, 0x920A, 0x9291, 0xA402, 0xA434)
"""Tags of that directory which a RAW photo may have in its main one (TIFF/EP)."""
MAKER_NOTE, INTEROPERABILITY = 0x927C, 0xA005
"""Tags of the camera's private data, and of a directory with no more than a version."""
COLOUR_SPACE = 0xA001
"""Tag of that directory: 1 is sRGB."""
UNCALIBRATED = 0xFFFF
"""What it is for all other colours."""
CAMERA_TAGS = (
    0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x4746, 0x4749, 0x8298,
    0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F,
)  # fmt: skip
"""Description, camera, software, time, author, rating, rights, and Windows' title, comment …: the
part of a main directory that is about the photo and not about the file."""
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_MPF_HEADER, _MP_ENTRIES = b"MPF\0", 0xB002
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
ICC_HEADER = b"ICC_PROFILE\0"
IPTC_HEADER = b"Photoshop 3.0\0"
COMMENT = 0xFE
"""Marker of a segment of a JPEG with a text (COM)."""
_MOST_INFLATED = 64 << 20
"""Bytes of a block of metadata: a few of a file may claim gigabytes."""
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"


@dataclass
class PhotoTags:
    """The binary blocks of a photo, as in `Profile`."""

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comments: tuple[bytes, ...] = ()
    orientation: int = 1
    resolution: tuple[float, float] | None = None
    gain_map: bool = False
    """Whether a JPEG has a map of gains for HDR screens, which `xmp` does not mention."""
    pictures: int = 1
    """In the file but a TIFF: frames, parts."""
    pages: tuple[tiff.Page, ...] = ()
    """The directories of pictures in a TIFF …"""
    planes: Planes = ONE
    """… and what its description says of them."""
    is_first: bool = True
    """Whether the first directory is the first picture, and no smaller version of one."""
    gamma: tuple[float, ...] = ()
    """Of a PNG, the exponent from light to values; then, where the file has them, x and y of white,
    red, green and blue. Empty where it has none or says that it is sRGB."""
    code_points: tuple[int, int] | tuple[()] = ()
    """Of a PNG (cICP), primaries and curve by their numbers in ITU-T H.273."""
    premultiplied: bool = False
    """Whether a TIFF has colours multiplied by alpha."""
    notes: tuple[str, ...] = ()
    """What its blocks say in two ways."""
    transparent: tuple[int, ...] = ()
    """Grey, or red, green and blue, of the one colour of a PNG that stands for nothing."""


def read_photo_tags(path: Path, head: bytes) -> PhotoTags:
    """Return the blocks of a JPEG, PNG, WebP or TIFF, empty for others; raises `UnreadableImage` at a lost end."""
    if head.startswith(SIGNATURE):
        tags = _walk_jpeg(path)
    elif head.startswith(_PNG_HEAD):
        tags = _walk_png(path)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        tags = _walk_webp(path)
    elif tiff.is_tiff(head):
        return _tiff_tags(path)
    else:
        return PhotoTags()
    tags.orientation = orientation_of(tags.exif)
    turned = _XMP_ORIENTATION.search(tags.xmp or b"")
    claims = [("EXIF", tags.orientation if tags.exif else None), ("XMP", turned and int(turned[1]))]
    tags.notes += resolve(claims).disputes("orientation")
    return tags


_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])")


def orientation_of(exif: bytes | None) -> int:
    """Return the orientation 1 … 8 of an EXIF block; 1 where it has none."""
    value = _read_exif(exif, lambda parsed: int(parsed.get(ORIENTATION, 1)), 1)
    return value if 1 <= value <= 8 else 1


def _read_exif(exif: bytes | None, read: Callable[[Any], T], otherwise: T) -> T:
    """Return what `read` finds in an EXIF block, by Pillow; `otherwise` without one, or a damaged one."""
    if not exif:
        return otherwise
    from PIL.Image import Exif

    parsed = Exif()
    try:
        parsed.load(exif)
        return read(parsed)
    except Exception:  # damaged EXIF never keeps an image from being opened
        return otherwise


def colours_in_exif(exif: bytes | None) -> list[tuple[str, str]]:
    """Return what an EXIF block says of colours: its source, and "sRGB" or "adobe-rgb" (DCF 2.0)."""

    def read(parsed: Any) -> list[tuple[str, str]]:
        settings = parsed.get_ifd(CAMERA_SETTINGS)
        # 2 is of no standard, but cameras write it.
        named = {1: "sRGB", 2: "adobe-rgb"}.get(int(settings.get(COLOUR_SPACE) or 0))
        found = [("EXIF colour space", named)] if named else []
        # Pillow before 12 fails on a directory that is not there.
        has_one = INTEROPERABILITY in settings
        is_adobe = has_one and "R03" in str(parsed.get_ifd(INTEROPERABILITY).get(1))
        return [*found, ("EXIF interoperability", "adobe-rgb")] if is_adobe else found

    return _read_exif(exif, read, [])


def upright_exif(exif: bytes | None) -> bytes | None:
    """Return `exif` for an upright copy: orientation 1, without the stale thumbnail."""
    if not exif:
        return None
    try:
        return upright_block(exif)
    except (ValueError, struct.error):  # damaged EXIF is left behind rather than copied
        return None


_XMP_SIZES = (
    re.compile(rb"((?:tiff:ImageWidth|exif:PixelXDimension)(?:=[\"']|>)\s*)\d+"),
    re.compile(rb"((?:tiff:ImageLength|exif:PixelYDimension)(?:=[\"']|>)\s*)\d+"),
)


def blocks_of_size(
    exif: bytes | None, xmp: bytes | None, height: int, width: int
) -> tuple[bytes | None, bytes | None]:
    """Return EXIF and XMP for a copy of so many pixels, where they say how many there are."""
    if xmp is not None:
        for pattern, length in zip(_XMP_SIZES, (width, height), strict=True):
            xmp = pattern.sub(rb"\g<1>%d" % length, xmp)
    return _with_settings(exif, {HEIGHT: height, WIDTH: width}), xmp


def exif_of_colours(exif: bytes | None, *, srgb: bool) -> bytes | None:
    """Return EXIF for a copy whose colours are those of sRGB, or of its own profile."""
    return _with_settings(exif, {COLOUR_SPACE: 1 if srgb else UNCALIBRATED})


def _with_settings(exif: bytes | None, numbers: Mapping[int, int]) -> bytes | None:
    if exif:
        with contextlib.suppress(ValueError, struct.error):  # a damaged one is left behind later
            return block_with(exif, numbers)
    return exif


def _walk_jpeg(path: Path) -> PhotoTags:
    with open_file(path) as file:
        tags = jpeg_tags(file, path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            # From the end: it is the last, but for what programs append.
            has_end = data.rfind(END, file.tell()) >= 0
        if not has_end:
            if not _is_whole_but_for_its_end(path):
                raise tiff.truncated(path)
            tags.notes += ("Its last marker is missing; all of its pixels are there.",)
    return tags


def _is_whole_but_for_its_end(path: Path) -> bool:
    """Return whether a JPEG that lacks its last marker has all its pixels: libjpeg warns of none."""
    from rasterio.io import MemoryFile

    content = path.read_bytes() + END
    strict = environment(GDAL_ERROR_ON_LIBJPEG_WARNING="TRUE")
    try:
        with (
            ignore_missing_georeference(),
            strict,
            MemoryFile(content) as file,
            file.open(driver="JPEG") as dataset,
        ):
            for top in range(0, dataset.height, 256):
                dataset.read(window=((top, min(top + 256, dataset.height)), (0, dataset.width)))
    except Exception:  # rasterio's and GDAL's own
        return False
    return True


def jpeg_tags(file: BinaryIO, path: Path) -> PhotoTags:
    """Return the blocks of an open JPEG, which is at the coded pixels afterwards; raises `UnreadableImage`."""
    tags, icc = PhotoTags(), dict[int, bytes]()
    for marker, segment in _jpeg_segments(file, path):
        if marker == 0xE0 and segment.startswith(b"JFIF\0") and len(segment) >= 12:
            tags.resolution = _jfif_resolution(segment)
        elif marker == 0xE1:
            _take_app1(tags, segment)
        elif marker == 0xE2 and segment.startswith(_MPF_HEADER):
            tags.pictures = _pictures_in(path, segment, file.tell() - len(segment))
        elif marker == 0xE2 and segment.startswith(_ISO_GAIN_MAP):
            tags.gain_map = True
        elif marker == 0xE2 and segment.startswith(ICC_HEADER) and len(segment) > 14:
            icc[segment[12]] = segment[14:]
        elif marker == 0xED and segment.startswith(IPTC_HEADER):
            tags.iptc = segment
        elif marker == COMMENT:
            tags.comments += (segment,)
    if icc:
        tags.icc = b"".join(icc[number] for number in sorted(icc))
    dots = resolve([("JFIF", tags.resolution), ("EXIF", _exif_resolution(tags.exif))])
    tags.resolution = dots.value
    tags.notes += dots.disputes("resolution", lambda each: f"{each[0]:g} dpi")
    return tags


def _take_app1(tags: PhotoTags, segment: bytes) -> None:
    """Add EXIF, the first one, or XMP to `tags`."""
    if segment.startswith(EXIF_HEADER) and tags.exif is None:
        tags.exif = segment
    elif segment.startswith(XMP_HEADER):
        packet = segment[len(XMP_HEADER) :]
        tags.xmp, tags.gain_map = without(packet, ATTACHED), GAIN_MAP in packet


def _pictures_in(path: Path, segment: bytes, place: int) -> int:
    """Return the pictures, thumbnails and maps of gains left out, that a JPEG's list, a segment, names."""
    try:
        entries = directories_of(segment[len(_MPF_HEADER) :])[0][_MP_ENTRIES].data
        frame, count = frame_of(path), 1
        order = ("<" if segment[4:6] == b"II" else ">") + "III"
        for at in range(16, len(entries) - 15, 16):
            kind, _, offset = struct.unpack_from(order, entries, at)
            other = frame_of(path, place + len(_MPF_HEADER) + offset)
            same = frame is not None and other is not None and frame[2:5] == other[2:5]
            count += kind & 0xFF0000 == 0x020000 or (kind & 0xFFFFFF == 0 and same)
    except (ValueError, struct.error, KeyError):
        return 1
    return count


def _jfif_resolution(segment: bytes) -> tuple[float, float] | None:
    unit, across, down = struct.unpack_from(">BHH", segment, 7)
    scale = {1: 1.0, 2: 2.54}.get(unit)
    return (across * scale, down * scale) if scale and across and down else None


def _exif_resolution(exif: bytes | None) -> tuple[float, float] | None:
    """Return dots per inch as EXIF has them."""
    try:
        main = directories_of(exif)[0] if exif else {}
        across, down = (struct.unpack("<II", main[tag].data[:8]) for tag in (0x011A, 0x011B))
        scale = {2: 1.0, 3: 2.54}.get(number_of(main.get(0x0128)) or 2, 0)
        dots = (across[0] / across[1] * scale, down[0] / down[1] * scale)
    except (ValueError, struct.error, KeyError, ZeroDivisionError):
        return None
    return dots if min(dots) > 0 else None


def _jpeg_segments(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the segments that carry metadata; `file` is then at the coded pixels. Raises `UnreadableImage`."""
    file.seek(2)
    while True:
        marker = next_segment(file)
        size = b"" if marker is None else file.read(2)
        if marker is None or len(size) < 2:
            raise tiff.truncated(path)
        # The two bytes of the length count.
        length = struct.unpack(">H", size)[0] - 2
        if marker == 0xDA:
            return
        if length < 0:
            raise UnreadableImage(
                f"{path.name} is damaged: a segment of its header has no length.",
                "Copy or download it again.",
            )
        if marker in (0xE0, 0xE1, 0xE2, 0xED, COMMENT):
            yield marker, file.read(length)
        else:
            file.seek(length, 1)


def _walk_png(path: Path) -> PhotoTags:
    tags, colour_type = PhotoTags(), 0
    found: dict[bytes, bytes] = {}
    size = path.stat().st_size
    with open_file(path) as file:
        file.seek(8)
        while True:
            header = file.read(8)
            if len(header) < 8:
                raise tiff.truncated(path)
            length, kind = struct.unpack(">I4s", header)
            if kind == b"IEND":
                tags.gamma = _png_gamma(found)
                return tags
            if file.tell() + length + 4 > size:
                raise tiff.truncated(path)
            if kind in _PNG_CHUNKS:
                data = file.read(length)
                if kind == b"IHDR" and length > 9:
                    colour_type = data[9]
                _take_chunk(tags, kind, data, colour_type)
                found[kind] = data
            else:
                if kind == b"IDAT" and b"acTL" in found and b"fcTL" not in found:
                    # A picture for programs that show no animation.
                    tags.pictures += b"IDAT" not in found
                    found[kind] = b""
                file.seek(length, 1)
            file.seek(4, 1)


_PNG_CHUNKS = (
    b"IHDR", b"eXIf", b"iCCP", b"acTL", b"fcTL", b"pHYs", b"tRNS", b"tEXt", b"iTXt", b"zTXt", b"gAMA",
    b"cHRM", b"sRGB", b"cICP",
)  # fmt: skip


def _take_chunk(tags: PhotoTags, kind: bytes, data: bytes, colour_type: int) -> None:
    """Add what a chunk of a PNG says to `tags`."""
    if kind == b"eXIf":
        tags.exif = EXIF_HEADER + data
    elif kind == b"iCCP":
        tags.icc = _png_profile(data) or tags.icc
    elif kind in (b"tEXt", b"iTXt", b"zTXt"):
        _take_text(tags, kind, data)
    elif kind == b"acTL" and len(data) == 8:
        tags.pictures = struct.unpack(">II", data)[0]
    elif kind == b"pHYs" and len(data) == 9:
        across, down, unit = struct.unpack(">IIB", data)
        # A unit of 1 is the metre, any other none.
        if unit == 1 and across and down:
            tags.resolution = across * 0.0254, down * 0.0254
    elif kind == b"cICP" and len(data) == 4 and 2 not in data[:2]:  # 2 is "unspecified"
        tags.code_points = data[0], data[1]
    elif kind == b"tRNS":
        # Of a palette it has opacities, which GDAL reads.
        colours = {0: 1, 2: 3}.get(colour_type, 0)
        if 0 < 2 * colours <= len(data):
            tags.transparent = struct.unpack(f">{colours}H", data[: 2 * colours])


def _png_gamma(chunks: Mapping[bytes, bytes]) -> tuple[float, ...]:
    """Return `PhotoTags.gamma` of the chunks of a PNG."""
    gamma, chroma = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    if len(gamma) != 4 or b"sRGB" in chunks or not any(gamma):
        return ()
    chromaticities = struct.unpack(">8I", chroma) if len(chroma) == 32 else ()
    return tuple(value / 100_000 for value in (*struct.unpack(">I", gamma), *chromaticities))


def _png_profile(data: bytes) -> bytes | None:
    """Return the profile in an iCCP chunk; None where it is damaged."""
    try:
        return _inflated(data[data.index(0) + 2 :])
    except ValueError:
        return None


def _take_text(tags: PhotoTags, kind: bytes, data: bytes) -> None:
    """Add a chunk of text of a PNG to `tags`: XMP, IPTC or a comment; others, and damaged ones, not."""
    keyword, _, text = data.partition(b"\0")
    if keyword not in (b"XML:com.adobe.xmp", b"Raw profile type iptc", b"Comment"):
        return
    is_packed = kind == b"zTXt"
    if kind == b"iTXt":
        is_packed = text[:1] == b"\1"
        text = text[2:].split(b"\0", 2)[-1]
    elif is_packed:
        text = text[1:]
    with contextlib.suppress(ValueError):
        text = _inflated(text) if is_packed else text
        if keyword == b"Comment":
            # The two older kinds are in Latin-1.
            comment = text if kind == b"iTXt" else text.decode("latin-1").encode()
            tags.comments += (comment,)
        elif keyword == b"XML:com.adobe.xmp":
            tags.xmp = text or tags.xmp
        else:
            tags.iptc = _png_iptc(text) or tags.iptc


def _png_iptc(text: bytes) -> bytes | None:
    """Return IPTC as photo software has it in a PNG, bytes as hexadecimal digits; raises `ValueError`."""
    _, name, size, digits = text.split(b"\n", 3)
    block = bytes.fromhex(digits.decode("ascii"))
    return block if name == b"iptc" and len(block) == int(size) else None


def _inflated(data: bytes) -> bytes:
    """Return decompressed bytes; `ValueError` where they are damaged, or more than any photo has."""
    import zlib

    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, _MOST_INFLATED)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not stream.eof:
        raise ValueError("more than expected, or cut off")
    return found


def _walk_webp(path: Path) -> PhotoTags:
    tags, frames = PhotoTags(), 0
    size = path.stat().st_size
    with open_file(path) as file:
        (declared,) = struct.unpack("<I", file.read(8)[4:])
        if declared + 8 > size:
            raise tiff.truncated(path)
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
            frames += kind == b"ANMF"
            file.seek(end)
    tags.pictures = max(1, frames)
    if tags.exif:
        with contextlib.suppress(ValueError, struct.error):
            field = directories_of(tags.exif)[0].get(tiff.IPTC)
            tags.iptc = None if field is None else field.data
    return tags


def _tiff_tags(path: Path) -> PhotoTags:
    summary = tiff.check_whole(path)
    file_tags = summary.tags
    text = _binary(file_tags.get(tiff.IMAGE_DESCRIPTION)) or b""
    first = summary.pages[0] if summary.pages else None
    other = next((n for n, page in enumerate(summary.pages) if not page.is_like(first)), None)
    tags = PhotoTags(
        pages=summary.pages,
        planes=replace(planes_of_pages(text, len(summary.pages)), other=other),
        is_first=not summary.pages or summary.pages[0].offset == summary.first,
        premultiplied=file_tags.get(tiff.EXTRA_SAMPLES) == (tiff.ASSOCIATED_ALPHA,),
        icc=_binary(file_tags.get(tiff.ICC)),
        xmp=_binary(file_tags.get(tiff.XMP)),
        iptc=_binary(file_tags.get(tiff.IPTC)),
    )
    orientation = file_tags.get(tiff.ORIENTATION)
    if isinstance(orientation, tuple) and orientation and 1 <= orientation[0] <= 8:
        tags.orientation = orientation[0]
    if not {tiff.EXIF_IFD, tiff.GPS_IFD, tiff.MAKE}.isdisjoint(file_tags):
        tags.exif = _tiff_exif(path)
    return tags


def _binary(value: bytes | tuple[int, ...] | None) -> bytes | None:
    return value if isinstance(value, bytes) else None


def _tiff_exif(path: Path) -> bytes | None:
    try:
        with open_file(path) as file:
            return camera_block(*directories_in(file))
    except (ValueError, struct.error):  # damaged EXIF never keeps an image from being opened
        return None


def camera_block(
    main: Directory, others: dict[int, Directory], *, developed: bool = False
) -> bytes | None:
    """Return the camera's part of a TIFF's directories, as an EXIF block of its own.

    It says sRGB where the picture is `developed`. Without orientation, and without the camera's
    private data, whose offsets are those of its file.
    """
    settings = {tag: main[tag] for tag in SETTINGS if tag in main}
    settings |= others.get(CAMERA_SETTINGS, {})
    for tag in (MAKER_NOTE, INTEROPERABILITY):
        settings.pop(tag, None)
    if COLOUR_SPACE in settings and developed:
        settings[COLOUR_SPACE] = Field(3, b"\1\0")
    others |= {CAMERA_SETTINGS: settings} if settings else {}
    kept = {tag: field for tag, field in main.items() if tag in CAMERA_TAGS}
    if is_structure(kept.get(tiff.IMAGE_DESCRIPTION, Field(2, b"")).data):
        del kept[tiff.IMAGE_DESCRIPTION]
    return block_of(kept, others) if kept or others else None


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
    """Return the values of a block by tag, those of the camera's settings among them; {} where it is damaged."""
    # Damage there never keeps an image from being used.
    return _read_exif(exif, lambda parsed: {**parsed, **parsed.get_ifd(CAMERA_SETTINGS)}, {})
