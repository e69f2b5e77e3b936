"""Files that appear whole or not at all, and files with a checksum of their content."""

from __future__ import annotations

import contextlib
import os
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore._points import reached

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHECKSUM_BYTES = 4


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it on success, and is removed otherwise.

    It has the suffix of `path`, for writers that go by it; a `durable` one is on the disk before
    it replaces `path`. Raises `OSError`.
    """
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield part
        if durable:
            with part.open("r+b") as file:
                os.fsync(file.fileno())
        reached(f"{path.name} written")
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of `replacing` below `folder` that a killed process has left."""
    # No other process may write there.
    for part in folder.rglob(".*.part*"):
        with contextlib.suppress(OSError):
            part.unlink()


class DamagedFile(ValueError):
    """The checksum of a file differs from that of its content."""


def write_checked(path: Path, content: Any) -> None:
    """Write bytes, or an array of them, as a chunk of zarr with the codec crc32c, atomically.

    A missing folder is made. Raises `OSError`.
    """
    try:
        _write_checked(path, content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_checked(path, content)


def _write_checked(path: Path, content: Any) -> None:
    with replacing(path) as part, part.open("wb") as file:
        file.write(content)
        file.write(_checksum(content))


def read_checked(path: Path) -> npt.NDArray[np.uint8]:
    """Return the bytes that `write_checked` wrote. Raises `DamagedFile`, `OSError`."""
    import numpy as np

    whole = np.fromfile(path, np.uint8)
    content = whole[:-CHECKSUM_BYTES]
    if whole[-CHECKSUM_BYTES:].tobytes() != _checksum(content):
        raise DamagedFile(path)
    return content


def _checksum(content: Any) -> bytes:
    import google_crc32c

    return struct.pack("<I", google_crc32c.value(content))
