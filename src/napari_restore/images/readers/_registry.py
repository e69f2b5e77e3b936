"""Which reader opens the file that a user names, and what to say where none does."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from napari_restore.errors import UnreadableImage
from napari_restore.images._reader import Reader
from napari_restore.images.readers._gdal import GdalReader
from napari_restore.images.readers._ome_tiff import OmeTiffReader
from napari_restore.images.readers._ome_zarr import OmeZarrReader
from napari_restore.images.readers._oriented import OrientedReader
from napari_restore.images.readers._radiance import RadianceReader
from napari_restore.images.readers._raw import RawReader

HEAD_BYTES = 4096
PathLike = str | os.PathLike[str]


READERS: tuple[type[Reader], ...] = tuple(
    sorted(
        (GdalReader, OmeTiffReader, OmeZarrReader, RadianceReader, RawReader),
        key=lambda reader: -reader.PRIORITY,
    )
)
"""All readers of files, the most particular first. A new format is one module and one name here."""


def reader_of(given: PathLike) -> Reader:
    """The reader of a file or a zarr folder, upright. Raises `UnreadableImage`."""
    text = os.fspath(given)
    if re.match(r"^(https?|s3|gs|az|ftp)://", text) or text.startswith("/vsi"):
        raise UnreadableImage(
            f"{text} is not a file on this computer.", "Download it first and open the copy."
        )
    path = Path(text).expanduser().absolute()
    head = _head_of(path)
    for reader in READERS:
        if reader.supports(path, head):
            try:
                opened = reader(path, head)  # type: ignore[call-arg]
            except UnreadableImage as error:
                raise _plainer(error, path, head) from error
            return _upright(opened)
    raise UnreadableImage(
        f"{path.name} is a folder, but no zarr image.", "Name a file, or an OME-Zarr folder."
    )


def _head_of(path: Path) -> bytes:
    """The first bytes of a file, empty for a folder; raises `UnreadableImage`."""
    try:
        if path.is_dir():
            # Asked for its list, a forbidden folder says so.
            os.scandir(path).close()
            return b""
        with path.open("rb") as file:
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


def _plainer(error: UnreadableImage, path: Path, head: bytes) -> UnreadableImage:
    """A plainer sentence than GDAL's where the content tells that this is no image."""
    if "not recognized as being in a supported" not in error.message:
        return error
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
    """Turned as its orientation tag says; a place on the map goes before a camera's tag."""
    if reader.profile.orientation == 1:
        return reader
    if reader.georeference is not None:
        reader.notes.append("The orientation tag is ignored: the georeference tells where up is.")
        return reader

    return OrientedReader(reader)
