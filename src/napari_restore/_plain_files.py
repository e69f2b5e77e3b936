"""Small files that a user or another file names, read whole."""

from __future__ import annotations

import errno
import os
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO

_MIB = 1 << 20
_NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?:[eE][-+]?\d+)?(?![\w.])")
MOST_DOTS = 100
"""Dots in a line of TOML but for those of numbers: of keys with many parts tomllib takes minutes."""


class UnreadFile(OSError, ValueError):
    """A file that is not read; `strerror` says why."""

    def __str__(self) -> str:
        return self.strerror or super().__str__()


def open_file(path: str | Path) -> BinaryIO:
    """Open a plain file to be read; a pipe or a device is not waited for.

    Raises `OSError`, whose `strerror` says why.
    """
    flags = getattr(os, "O_NONBLOCK", 0)
    try:
        file = open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags))
    except ValueError:
        raise UnreadFile(errno.EINVAL, "its name has a NUL", str(path)) from None
    if not S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UnreadFile(errno.EINVAL, "it is no plain file", str(path))
    return file


def read_file(path: str | Path, most: int) -> bytes:
    """Return the bytes of a plain file of at most `most`; raises as `open_file`."""
    with open_file(path) as file:
        data = file.read(most + 1)
    if data is None:  # as of the kernel's messages, which are a plain file by their mode
        raise UnreadFile(errno.EINVAL, "it is no plain file", str(path))
    if len(data) > most:
        size = f"{most // _MIB} MiB" if most >= _MIB else f"{most >> 10} KiB"
        raise UnreadFile(errno.EFBIG, f"it is larger than {size}", str(path))
    return data


def check_file(path: str | Path) -> None:
    """Raise as `open_file` for what is there and no plain file."""
    with suppress(FileNotFoundError):
        open_file(path).close()


def read_text(path: str | Path, most: int = 64 * _MIB) -> str:
    """Return UTF-8 text, with or without a byte order mark, with line ends as they are.

    Raises as `open_file`, and `UnicodeDecodeError`.
    """
    return read_file(path, most).decode("utf-8-sig")


def parse_toml(text: str) -> dict[str, Any]:
    """Return the content of TOML text; raises `ValueError`, also for what is nested too deeply."""
    if any(line.count(".") > MOST_DOTS for line in _NUMBER.sub("", text).splitlines()):
        raise ValueError(f"a line has more than {MOST_DOTS} dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
