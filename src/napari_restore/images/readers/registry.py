"""Choice of the reader of a file, and the error where there is none."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from napari_restore._addresses import without_queries
from napari_restore._plain_files import open_file
from napari_restore.errors import OutsideFolder, UnreadableImage, option
from napari_restore.images._reader import Reader
from napari_restore.images._suffixes import VECTOR_SUFFIXES
from napari_restore.images.files.cancelling import cancellable
from napari_restore.images.files.claims import check_bands, check_block
from napari_restore.images.files.references import grid_named
from napari_restore.images.files.remote import RemotePath, is_address
from napari_restore.images.files.tiff import TIFF_MAGIC
from napari_restore.images.levels.row_pyramid import row_levels
from napari_restore.images.readers._oriented import OrientedReader
from napari_restore.images.readers._remote import RemoteReader
from napari_restore.images.readers._remote_zarr import RemoteZarrReader
from napari_restore.questions import Pathlike

HEAD_BYTES = 4096


_TIFF = b"|".join(map(re.escape, TIFF_MAGIC))
READERS = (
    (rb"P[Ff]\s", "_pfm:PfmReader"),
    (rb"#\?(RADIANCE|RGBE)", "_radiance:RadianceReader"),
    (rb".{4}ftypavi[fs]", "_avif:AvifReader"),
    (rb".{4}ftyp(he[iv][cxms]|mif[12]|msf1)", "_heif:HeifReader"),
    (rb"\Z", "ome_zarr:OmeZarrReader"),
    (rb"v/1\x01", "_openexr:OpenExrReader"),
    (_TIFF, "_ome_tiff:OmeTiffReader"),
    (rb"\xff\xd8\xff", "_jpeg:JpegReader"),
    (rb".", "raw:RawReader"),
    (rb"RIFF.{4}WEBP", "_webp:WebpReader"),
    (_TIFF, "_tiff_photo:TiffPhotoReader"),
    (rb".", "_gdal:GdalReader"),
)
"""Patterns of the beginning of a file, which is empty of a folder, and classes: the first that supports a file
reads it. A new format is one module and one row here."""


def reader_of(
    given: Pathlike,
    *,
    allow_outside: bool = False,
    codes: bool = False,
    cancelled: Callable[[], bool] | None = None,
    plane: int | None = None,
) -> Reader:
    """Return the reader of a file or a zarr folder, upright; raises `UnreadableImage`, `BadParameter`, `Cancelled`."""
    reader = _reader_of(
        given, allow_outside=allow_outside, codes=codes, cancelled=cancelled, plane=plane or 0
    )
    if plane is None and reader.planes.count > 1:
        raise reader.planes.unchosen(reader.path.name)
    return reader


def _reader_of(
    given: Pathlike,
    *,
    allow_outside: bool,
    codes: bool,
    cancelled: Callable[[], bool] | None,
    plane: int,
) -> Reader:
    text = os.fspath(given)
    if is_address(text):
        if not allow_outside:
            raise OutsideFolder(
                f"{without_queries(text)} is an address, and a file has named it.",
                f"If you trust it, allow it with {option('allow_outside', True)}.",
            )
        with cancellable(cancelled):
            # A part of a zarr counts as well.
            is_zarr = any(part.lower().endswith(".zarr") for part in RemotePath.of(text).parts)
            kind = RemoteZarrReader if is_zarr else RemoteReader
            remote: Reader = kind(text, plane=plane)
            _check_chunks(remote)
            return _upright(remote)
    grid = grid_named(text)
    path = _local(text if grid is None else grid["file"])
    head = _head_of(path)
    with cancellable(cancelled):
        for pattern, name in READERS if grid is None else READERS[-1:]:
            if re.match(pattern, head, re.DOTALL) is None:
                continue
            reader: Any = resolve_name(f"napari_restore.images.readers.{name}")
            if not reader.supports(path, head):
                continue
            asked = {"allow_outside": allow_outside, "grid": grid, "codes": codes, "plane": plane}
            try:
                opened: Reader = reader(
                    path, head, **{each: asked[each] for each in reader.OPTIONS}
                )
                opened.planes.check(opened.name, plane)
                _check_chunks(opened)
            except UnreadableImage as error:
                plain = _plainer(error, path, head, grid)
                if plain is error:
                    raise
                raise plain from error
            return _upright(opened)
    raise UnreadableImage(
        f"{path.name} is a folder, but no OME-Zarr image.", "Name one of the images in it."
    )


def _local(text: str) -> Path:
    """Return the absolute path that `text` names; raise `UnreadableImage` where it names none."""
    if not text or "\0" in text:
        raise UnreadableImage(f"{text!r} is no name of a file.", "Check the spelling.")
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(text).decode("utf-8", "backslashreplace")
        raise UnreadableImage(f"The name {shown} is not UTF-8.", "Rename it first.") from None
    path = Path(text).expanduser().absolute()
    if re.match(r"^[A-Za-z][\w+.-]+://", text) or re.match(r"/+vsi", str(path)):
        raise UnreadableImage(
            f"{text} is not a file on this computer.", "Download it first and open the copy."
        )
    return path


def _check_chunks(reader: Reader) -> None:
    """Raise `UnreadableImage` where one chunk, or the rows read at once, would not fit."""
    item = reader.dtype.itemsize
    check_bands(reader.path.name, reader.bands)
    for level in reader.levels:
        rows, columns = level.chunk_height, level.chunk_width
        check_block(reader.path.name, "chunk", (rows, columns, reader.bands), item)
    if not reader.random_access:
        whole = reader.levels[0]
        (first, *_) = row_levels(whole.height, whole.width, reader.bands * item)
        band = (min(first.chunk_height, whole.height), whole.width, reader.bands)
        check_block(reader.path.name, "band of rows", band, item)


def _head_of(path: Path) -> bytes:
    """Return the first bytes of a file, empty for a folder; raises `UnreadableImage`."""
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            # Listing a forbidden folder raises the error.
            os.scandir(path).close()
            return b""
        if not stat.S_ISREG(kind):
            # Opening a pipe would wait for its writer.
            raise UnreadableImage(
                f"{path.name} is no plain file but a pipe or a device.",
                "Write what it gives into a file and open that.",
            )
        with open_file(path) as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise UnreadableImage(f"There is no file {path}.", _similar(path)) from error
    except PermissionError as error:
        raise UnreadableImage(
            f"{path.name} may not be read.", "Ask its owner for permission to read it."
        ) from error
    except OSError as error:
        raise UnreadableImage(
            f"{path.name} cannot be read: {error.strerror}.", "Check the disk or the connection."
        ) from error
    if not head:
        raise UnreadableImage(f"{path.name} is empty.", "Copy or download it again.")
    return head


def _similar(path: Path) -> str:
    try:
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), 1)
    except OSError:
        return f"There is no folder {path.parent} that may be read, either."
    return f"Did you mean {near[0]}?" if near else "Check the spelling."


def _plainer(
    error: UnreadableImage, path: Path, head: bytes, grid: re.Match[str] | None
) -> UnreadableImage:
    """Return a clearer message than GDAL's where there is no such grid, or no image by the content."""
    if grid is not None and "cannot be read" in error.message:
        why = f"{path.name} has no grid {grid['part']} that can be read as {grid['kind']}."
        return UnreadableImage(why, f"Name the file alone, to see what it has: {path}.")
    if "not recognized as being in a supported" not in error.message:
        return error
    if path.suffix.lower() in VECTOR_SUFFIXES:
        hint = f"Name an image, and give the shapes as {option('mask')} or {option('exclude')}."
        return UnreadableImage(f"{path.name} is a vector file, not an image.", hint)
    try:
        head.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError as decoding:
        # The head may end within a character.
        is_text = decoding.start > len(head) - 4
    else:
        is_text = b"\0" not in head
    if is_text:
        return UnreadableImage(
            f"{path.name} is text, not an image.", "Name an image, for example a GeoTIFF."
        )
    return UnreadableImage(
        f"{path.name} is no image of a known format.",
        "GeoTIFF, JPEG 2000, PNG, JPEG, WebP, OME-TIFF, OME-Zarr, RAW and many others are read.",
    )


def _upright(reader: Reader) -> Reader:
    """Return the reader turned by its orientation tag, over which a georeference takes precedence."""
    if reader.profile.orientation == 1:
        return reader
    if reader.georeference is not None:
        reader.notes.append(
            "The orientation tag is ignored: the georeference defines the orientation."
        )
        return reader

    return OrientedReader(reader)
