"""Files of a product by their names below its top: in a folder, or in a zip that is never unpacked."""

from __future__ import annotations

import os
import re
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from napari_restore._plain_files import read_file
from napari_restore.errors import UnreadableImage
from napari_restore.images.files.claims import DEFLATE_RATIO, check_ratio

LONGEST_METADATA = 64 * 2**20
"""Bytes of the largest file of metadata that is read."""
LARGEST_DIRECTORY = 16 * 2**20
"""Bytes of the largest list of files of a zip; a product has some hundreds."""
ZIP_MAGIC = b"PK\x03\x04"
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_TAIL = 65557
"""Bytes of the largest end record of a zip, its comment included."""


class ZipMember(NamedTuple):
    """A file in a zip."""

    archive: Path
    name: str
    size: int

    @property
    def path(self) -> Path:
        """What messages call it; there is no file of this name."""
        return self.archive / self.name

    @property
    def in_gdal(self) -> str:
        """The name under which GDAL reads it."""
        return f"/vsizip/{{{self.archive}}}/{self.name}"


Location = Path | ZipMember
"""Where a file of a product is."""


class Locations(ABC):
    """Where the files are that the metadata of a product names."""

    path: Path
    """What the user named."""
    notes: tuple[str, ...] = ()
    """The note on files that `nearest` has found."""

    @abstractmethod
    def locate(self, name: str) -> Location | str:
        """Return the file `name`, a string being an address; raises `UnreadableImage` if it lies elsewhere."""

    def nearest(self, name: str) -> str:
        """Return `name`, or that of the file beside the metadata which is read in its place."""
        return name

    def missing(self, name: str) -> UnreadableImage:
        """Return the error for a file that the metadata names and that is not there."""
        return UnreadableImage(
            f"{PurePosixPath(name).name} is missing from {self.path.name}, whose metadata names it.",
            "Download or unpack the whole product again.",
        )


class Tree(Locations):
    """Files below the top of a product; names are relative to it, with slashes."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of a file of metadata; raises `UnreadableImage`."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Return whether there is something of that name, which `place` checks."""

    def checked(self, name: str) -> str:
        """Return `name` if it can lead nowhere else; raises `UnreadableImage`."""
        if not is_plain_name(name):
            raise outside(self.path, name)
        return name


class FolderTree(Tree):
    """The files of a folder; links that lead out of it are refused."""

    def __init__(self, folder: Path) -> None:
        self.path, self._real = folder, folder.resolve()

    def locate(self, name: str) -> Path:
        path = self.path / self.checked(name)
        if not path.resolve().is_relative_to(self._real):
            raise outside(self.path, name)
        if not path.is_file():
            raise self.missing(name)
        return path

    def has(self, name: str) -> bool:
        return os.path.lexists(self.path / name)

    def read(self, name: str) -> bytes:
        return read_metadata(self.locate(name))


class ZipTree(Tree):
    """The files of a zip below the folder `top` in it.

    Raises `UnreadableImage` for a zip that is damaged or encrypted, has names that lead elsewhere or
    stand for two files, or claims more than its bytes can contain.
    """

    def __init__(self, archive: Path) -> None:
        self.path, self.top = archive, ""
        try:
            with archive.open("rb") as file:
                _check_directory(archive, file)
            with zipfile.ZipFile(archive) as opened:
                listed = opened.infolist()
        except (
            OSError,
            ValueError,
            zipfile.BadZipFile,
            NotImplementedError,
            struct.error,
        ) as error:
            raise self._damaged(error) from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in listed:
            name = member.orig_filename
            if not is_plain_name(name.removesuffix("/")):
                raise outside(archive, name)
            if self._members.setdefault(name, member) is not member:
                raise UnreadableImage(
                    f"{archive.name} has {name} twice.", "Download or pack it again."
                )

    @property
    def names(self) -> list[str]:
        """Names of all files from the top of the zip."""
        return list(self._members)

    def locate(self, name: str) -> ZipMember:
        member = self._member(name)
        return ZipMember(self.path, member.orig_filename, member.file_size)

    def has(self, name: str) -> bool:
        return self.top + name in self._members

    def read(self, name: str) -> bytes:
        member = self._member(name)
        if member.file_size > LONGEST_METADATA:
            raise _too_long(self.path / name)
        try:
            with zipfile.ZipFile(self.path) as opened, opened.open(member) as file:
                # The size that is claimed may be too small.
                data = file.read(LONGEST_METADATA + 1)
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise self._damaged(error) from error
        if len(data) > LONGEST_METADATA:
            raise _too_long(self.path / name)
        return data

    def _member(self, name: str) -> zipfile.ZipInfo:
        member = self._members.get(self.top + self.checked(name))
        if member is None:
            raise self.missing(name)
        if member.flag_bits & 1 or member.compress_type not in _PACKED:
            raise UnreadableImage(
                f"{member.orig_filename} in {self.path.name} is encrypted or packed in a way that is "
                "not read.",
                "Unpack the zip and open the folder.",
            )
        what = f"{member.file_size} bytes of {PurePosixPath(name).name}"
        check_ratio(self.path.name, member.file_size, member.compress_size, DEFLATE_RATIO, what)
        return member

    def _damaged(self, error: BaseException) -> UnreadableImage:
        return UnreadableImage(
            f"{self.path.name} is a damaged zip ({' '.join(str(error).split())[:100]}).",
            "Download or copy it again.",
        )


def _check_directory(path: Path, file: BinaryIO) -> None:
    """Raise `UnreadableImage` for a list of files too long to be read; `ValueError` if there is none."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _TAIL)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise ValueError("its end is missing")
    (length,) = struct.unpack_from("<I", tail, at + 12)
    if length == 0xFFFFFFFF and at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
        (place,) = struct.unpack_from("<Q", tail, at - 12)
        file.seek(min(place, size))
        record = file.read(56)
        if not record.startswith(b"PK\x06\x06"):
            raise ValueError("its end is damaged")
        (length,) = struct.unpack_from("<Q", record, 40)
    if length > LARGEST_DIRECTORY:
        raise UnreadableImage(
            f"{path.name} has a list of files of {length} bytes.",
            "Unpack it and open the folder of the product.",
        )


def is_plain_name(name: str) -> bool:
    """Return whether `name`, relative and with slashes, leads only below where it begins."""
    parts = name.split("/")
    return not (
        "\0" in name
        or "\\" in name
        or re.match(r"[A-Za-z][\w+.-]*:", name)
        or any(part in ("", ".", "..") or part.startswith("~") for part in parts)
    )


def outside(path: Path, name: str) -> UnreadableImage:
    """Return the error for a name that leads out of a product."""
    return UnreadableImage(
        f"{path.name} names a file outside itself: {name[:120]}.",
        "If you trust it, put all its files into one folder.",
    )


def read_metadata(path: Path) -> bytes:
    """Return the content of a plain file of metadata; raises `UnreadableImage`."""
    try:
        return read_file(path, LONGEST_METADATA)
    except FileNotFoundError:
        raise UnreadableImage(f"There is no file {path}.", "Check the spelling.") from None
    except OSError as error:
        raise UnreadableImage(
            f"{path.name} cannot be read: {error.strerror}.", "Check the file and the disk."
        ) from error


def _too_long(path: Path) -> UnreadableImage:
    return UnreadableImage(
        f"{path.name} is longer than {LONGEST_METADATA >> 20} MiB, which no metadata is.",
        "Download the product again.",
    )
