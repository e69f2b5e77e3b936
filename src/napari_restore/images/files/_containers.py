"""Formats whose files may name other files, each with its own check."""

from __future__ import annotations

import re
from pathlib import Path


class ForbiddenReference(Exception):
    """A reference that must not be followed, with its reason."""


def check_pcidsk(path: Path) -> None:
    """Check a PCIDSK file: its channels may lie in other files, opened by every driver."""
    with path.open("rb") as file:
        head = file.read(512)
        try:
            start, channels = int(head[336:352]), int(head[376:384])
        except ValueError:
            raise ForbiddenReference("has a damaged header") from None
        if not 0 <= channels <= 65535 or start < 1:
            raise ForbiddenReference("has a damaged header")
        for number in range(channels):
            file.seek((start - 1) * 512 + number * 1024 + 64)
            name = file.read(64).strip(b" \0")
            if name and not re.fullmatch(rb"/SIS=\s*\d+(\s.*)?", name, re.DOTALL):
                raise ForbiddenReference("keeps channels in other files, which are not followed")


def check_geopackage(path: Path, head: bytes) -> None:
    """Check a GeoPackage: its SQL may call functions, and a log beside it may be written back."""
    import sqlite3
    from contextlib import closing

    logs = [path.with_name(path.name + suffix) for suffix in ("-wal", "-journal")]
    if head[18:20] != b"\1\1" or any(log.exists() for log in logs):
        raise ForbiddenReference("has a log of changes that are not written back yet")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as base:
            texts = base.execute("SELECT type, lower(sql) FROM sqlite_master").fetchall()
    except (sqlite3.Error, UnicodeError) as error:
        raise ForbiddenReference(f"cannot be read ({error})") from None
    for kind, text in texts:
        virtual = "virtual" in (text or "").split()[:2] and "using rtree" not in text
        if kind == "view" or virtual:
            raise ForbiddenReference("computes its tables, which may name further files")


def is_hdf5(path: Path, head: bytes) -> bool:
    """Return whether HDF5's signature stands at the beginning, or after 512, 1024, 2048 … bytes."""
    signature = b"\x89HDF\r\n\x1a\n"
    size, place = path.stat().st_size, 512
    if head.startswith((signature, b"\x0e\x03\x13\x01")):
        return True
    with path.open("rb") as file:
        while place < size:
            file.seek(place)
            if file.read(8) == signature:
                return True
            place *= 2
    return False
