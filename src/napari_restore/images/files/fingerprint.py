"""Fingerprints of the content of files that do not require reading all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from napari_restore._plain_files import open_file
from napari_restore.errors import UnreadableImage
from napari_restore.images._suffixes import ZARR_MARKERS
from napari_restore.images.files.objects import ask
from napari_restore.images.files.remote import RemotePath

MEBI = 2**20
BLOCKS = 64
BLOCK_BYTES = 4096
_HASHED_FILES = 64


def fingerprint_files(paths: Iterable[Path]) -> str:
    """Return a hex digest over size, first and last MiB, and 64 fixed blocks of each file.

    The modification time is not part of it: a copied file keeps its fingerprint. Of a file at an
    address it is over that, size and ETag. Raises `OSError`.
    """
    digest = hashlib.sha256()
    for path in paths:
        if isinstance(path, RemotePath):
            try:
                answer = ask(path)
            except UnreadableImage as error:
                raise OSError(error.message) from error
            digest.update(f"{path};{answer.size};{answer.tag}".encode())
        elif path.is_dir():
            _add_folder(digest, path)
        else:
            _add_file(digest, path)
    return digest.hexdigest()


def fingerprint_array(rows: Iterable[np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> str:
    """Return the hex digest over the bytes, shapes and dtypes of arrays that come one by one."""
    digest = hashlib.sha256()
    for block in rows:
        digest.update(f"{block.shape}{block.dtype.str}".encode())
        digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()


def _add_file(digest: hashlib._Hash, path: Path) -> None:
    size = path.stat().st_size
    digest.update(f"{size};".encode())
    with open_file(path) as file:
        digest.update(file.read(MEBI))
        if size <= MEBI:
            return
        for number in range(BLOCKS):
            file.seek(size * number // BLOCKS)
            digest.update(file.read(BLOCK_BYTES))
        file.seek(max(MEBI, size - MEBI))
        digest.update(file.read(MEBI))


def _add_folder(digest: hashlib._Hash, folder: Path) -> None:
    """Add names and sizes of all files, the content of the metadata and of some chunks."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()}:{path.stat().st_size};".encode())
    described = [p for p in files if p.name in ZARR_MARKERS]
    chunks = [p for p in files if p not in set(described)]
    step = max(1, len(chunks) // _HASHED_FILES)
    for path in [*described, *chunks[::step]]:
        _add_file(digest, path)
