"""EXIF, IPTC and colour profiles put into finished photo files.

Pixels are encoded by GDAL; a camera's metadata is inserted afterwards, because GDAL copies it in
part only.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from napari_restore.images._profile import Profile
from napari_restore.images.export._tiff_levels import (
    MULTIPLE,
    append_directory,
    copy_with_fields,
    read_directory,
)
from napari_restore.images.files.exif import (
    CAMERA_TAGS,
    COMMENT,
    ICC_HEADER,
    INTEROPERABILITY,
    IPTC_HEADER,
    MAKER_NOTE,
    XMP_HEADER,
    upright_exif,
)
from napari_restore.images.files.exif_directories import (
    CAMERA_SETTINGS,
    EXIF_HEADER,
    Directory,
    Field,
    block_of,
    directories_of,
    flavour_of,
    laid_out,
    unpack_at,
)
from napari_restore.images.files.tiff import IPTC

_IPTC_RESOURCE = 0x0404
_SEGMENT = 65533
_COPY = 1 << 20


def iptc_records(iptc: bytes | None) -> bytes | None:
    """Return the bare IPTC records of an `iptc` block, whichever container it came from."""
    if not iptc or not iptc.startswith((IPTC_HEADER, b"8BIM")):
        return iptc or None
    data = iptc.removeprefix(IPTC_HEADER)
    at = 0
    while data[at : at + 4] == b"8BIM" and at + 12 <= len(data):
        (kind,) = struct.unpack_from(">H", data, at + 4)
        name = 1 + data[at + 6]
        at += 6 + name + name % 2
        (size,) = struct.unpack_from(">I", data, at)
        if kind == _IPTC_RESOURCE:
            return data[at + 4 : at + 4 + size]
        at += 4 + size + size % 2
    return None


def photoshop_segment(iptc: bytes) -> bytes:
    """Return an `iptc` block in the form of a JPEG."""
    if iptc.startswith(IPTC_HEADER):
        return iptc
    if iptc.startswith(b"8BIM"):
        return IPTC_HEADER + iptc
    head = struct.pack(">4sHHI", b"8BIM", _IPTC_RESOURCE, 0, len(iptc))
    return IPTC_HEADER + head + iptc + b"\0" * (len(iptc) % 2)


def jpeg_segments(profile: Profile) -> list[tuple[int, bytes]]:
    """Return (marker, content) of the segments at the start of a JPEG, but for `too_long_for_jpeg`."""
    return [
        (marker, content)
        for _, marker, content in _jpeg_segments(profile)
        if len(content) <= _SEGMENT
    ]


def too_long_for_jpeg(profile: Profile) -> list[str]:
    """Return what is metadata of more than the 64 kB that a segment of a JPEG has, by name."""
    long = [name for name, _, content in _jpeg_segments(profile) if len(content) > _SEGMENT]
    return list(dict.fromkeys(long))


def _jpeg_segments(profile: Profile) -> list[tuple[str, int, bytes]]:
    """Return name, marker and content of the segments at the start of a JPEG, however long."""
    segments = []
    if upright := upright_exif(profile.exif):
        segments.append(("EXIF", 0xE1, upright))
    if profile.xmp:
        segments.append(("XMP", 0xE1, XMP_HEADER + profile.xmp))
    if icc := profile.icc:
        size = _SEGMENT - 14
        parts = [icc[i : i + size] for i in range(0, len(icc), size)]
        for number, part in enumerate(parts, 1):
            segments.append(
                ("colour profile", 0xE2, ICC_HEADER + bytes((number, len(parts))) + part)
            )
    if profile.iptc:
        segments.append(("IPTC", 0xED, photoshop_segment(profile.iptc)))
    segments += [("comment", COMMENT, comment) for comment in profile.comments]
    return segments


def splice_jpeg(
    source: Path,
    target: Path,
    segments: list[tuple[int, bytes]],
    resolution: tuple[float, float] | None = None,
) -> None:
    """Copy a JPEG with `segments` in place of its own 1, 2 and 13, and a `resolution` in dots per inch."""
    with source.open("rb") as old, target.open("wb") as new:
        new.write(old.read(2))
        segments_copied = b""
        while True:
            marker = old.read(2)
            if marker[1:] and 0xE0 <= marker[1] <= 0xEF:
                size = old.read(2)
                content = old.read(struct.unpack(">H", size)[0] - 2)
                if content.startswith(b"JFIF\0") and resolution is not None:
                    dots = (min(max(1, round(number)), 65535) for number in resolution)
                    content = content[:7] + struct.pack(">BHH", 1, *dots) + content[12:]
                if marker[1] not in (0xE1, 0xE2, 0xED):
                    segments_copied += marker + size + content
                continue
            break
        # JFIF, where present, must come first.
        new.write(segments_copied)
        for code, content in segments:
            new.write(struct.pack(">BBH", 0xFF, code, len(content) + 2) + content)
        new.write(marker)
        shutil.copyfileobj(old, new, _COPY)


def png_chunks(profile: Profile) -> list[tuple[bytes, bytes]]:
    """Return (type, content) of what to put after a PNG's header."""
    chunks = []
    if profile.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(profile.icc)))
    if profile.resolution is not None:
        per_metre = (min(round(dots / 0.0254), 2**31 - 1) for dots in profile.resolution)
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if upright := upright_exif(profile.exif):
        chunks.append((b"eXIf", upright.removeprefix(EXIF_HEADER)))
    if profile.xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + profile.xmp))
    if records := iptc_records(profile.iptc):
        # PNG has no place for IPTC; this is the one that photo software reads.
        text = f"\niptc\n{len(records):8d}\n{records.hex()}\n".encode()
        chunks.append((b"zTXt", b"Raw profile type iptc\0\0" + zlib.compress(text)))
    for comment in profile.comments:
        plain = comment.replace(b"\0", b"")
        try:
            chunks.append((b"iTXt", b"Comment\0\0\0\0\0" + plain.decode().encode()))
        except UnicodeDecodeError:
            chunks.append((b"tEXt", b"Comment\0" + plain))
    return chunks


def splice_png(source: Path, target: Path, chunks: list[tuple[bytes, bytes]]) -> None:
    """Copy a PNG with `chunks` after its header, in place of its own of these types."""
    kinds = {kind for kind, _ in chunks if kind not in (b"tEXt", b"zTXt")}
    # A profile and the statement that the image is sRGB exclude each other.
    if b"iCCP" in kinds:
        kinds |= {b"sRGB", b"gAMA", b"cHRM"}
    with source.open("rb") as old, target.open("wb") as new:
        new.write(old.read(8 + 25))
        for kind, content in chunks:
            new.write(struct.pack(">I", len(content)) + kind + content)
            new.write(struct.pack(">I", zlib.crc32(kind + content)))
        while len(head := old.read(8)) == 8 and head[4:] != b"IDAT":
            body = old.read(struct.unpack(">I", head[:4])[0] + 4)
            if head[4:] not in kinds:
                new.write(head + body)
        new.write(head)
        shutil.copyfileobj(old, new, _COPY)


def add_to_tiff(path: Path, exif: bytes | None, iptc: bytes | None) -> None:
    """Give the first directory of a TIFF the camera's tags, EXIF, GPS and IPTC."""
    # The directory is written again at the file's end; nothing else moves.
    with path.open("r+b") as file:
        _add_fields(file, *_fields_of(exif, iptc))


def splice_cog(
    source: Path, target: Path, exif: bytes | None, iptc: bytes | None, more: Directory
) -> None:
    """Copy a cloud-optimised GeoTIFF with `more` and the fields of `add_to_tiff`, directories first."""
    main, directories = _fields_of(exif, iptc)
    copy_with_fields(source, target, {**main, **more}, directories)


def _fields_of(exif: bytes | None, iptc: bytes | None) -> tuple[Directory, dict[int, Directory]]:
    main, directories = _camera_part(exif)
    if records := iptc_records(iptc):
        main[IPTC] = Field(7, records)
    return main, directories


def exif_with_iptc(exif: bytes | None, iptc: bytes | None) -> bytes | None:
    """Return an EXIF block with IPTC as a TIFF has it, for formats that have no place of its own."""
    records = iptc_records(iptc)
    if not records:
        return exif
    field = {IPTC: Field(7, records)}
    if not exif:
        return block_of(field, {})
    block = io.BytesIO()
    block.write(exif.removeprefix(EXIF_HEADER))
    _add_fields(block, field, {})
    return EXIF_HEADER + block.getvalue()


def _add_fields(file: BinaryIO, main: Directory, directories: Mapping[int, Directory]) -> None:
    """Add fields to the first directory of a TIFF, which is written again at its end."""
    flavour = flavour_of(file)
    (first,) = unpack_at(file, flavour.offset, flavour.first)
    present, link = read_directory(file, flavour, first)
    (following,) = unpack_at(file, flavour.offset, link)
    added, values = laid_out(flavour, file.seek(0, os.SEEK_END), main, directories, MULTIPLE)
    file.write(values)
    entries = sorted(({entry.tag: entry for entry in present} | added).values())
    append_directory(file, flavour, entries, flavour.first, following=following, multiple=MULTIPLE)


def _camera_part(exif: bytes | None) -> tuple[Directory, dict[int, Directory]]:
    """Return the camera's tags of EXIF's main directory, and its directories EXIF and GPS."""
    try:
        main, others = directories_of(exif) if exif else ({}, {})
    except (ValueError, struct.error):  # damaged EXIF is left behind
        return {}, {}
    for tag in (MAKER_NOTE, INTEROPERABILITY):
        # Its offsets would lead nowhere.
        others.get(CAMERA_SETTINGS, {}).pop(tag, None)
    return {tag: main[tag] for tag in CAMERA_TAGS if tag in main}, others
