"""Small files that a user or another file names, read whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

_MIB = 1 << 20


class UnreadFile(OSError, ValueError):
    """A file that is not read; `strerror` says why."""

    def __str__(self) -> str:
        return self.strerror or super().__str__()


def open_file(path: str | Path) -> BinaryIO:
    """Open a plain file to be read; a pipe or a device is not waited for.

    Raises `OSError`, whose `strerror` says why, and `ValueError` for a path with NUL.
    """
    flags = getattr(os, "O_NONBLOCK", 0)
    file = open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags))
    if not S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UnreadFile(errno.EINVAL, "it is no plain file", str(path))
    return file


def read_file(path: str | Path, most: int) -> bytes:
    """Return the bytes of a plain file of at most `most`; raises as `open_file`."""
    with open_file(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        size = f"{most // _MIB} MiB" if most >= _MIB else f"{most >> 10} KiB"
        raise UnreadFile(errno.EFBIG, f"it is larger than {size}", str(path))
    return data


def read_text(path: str | Path, most: int = 64 * _MIB) -> str:
    """Return UTF-8 text, with or without a byte order mark, with line ends as they are.

    Raises as `open_file`, and `UnicodeDecodeError`.
    """
    return read_file(path, most).decode("utf-8-sig")
