"""Formatting of bytes, seconds and tables as text, for window, command line and plans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from napari_restore.errors import escape_controls

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder (zarr)."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def format_size(size: float, *, like: float | None = None) -> str:
    """Format bytes as text: ``"300 bytes"``, ``"3.4 MiB"``, ``"512 GiB"``.

    In the unit of `like` bytes, where that is given, for sizes shown side by side: ``"0.50 GiB"``
    beside ``"1.2 GiB"``.
    """
    step, scale = 0, size if like is None else like
    while scale >= 1000 and step < len(_UNITS) - 1:
        size, scale, step = size / 1024, scale / 1024, step + 1
    digits = 1 if step and size < 99.95 else 0
    if like is not None and step and 0 < size < 0.995:
        digits = 2
    return f"{size:.{digits}f} {_UNITS[step]}"


def format_seconds(seconds: float, *, tenths: bool = False) -> str:
    """Return a duration as text, rounded up: ``"8 s"``, ``"3 min 20 s"``, ``"2 h 5 min"``.

    With `tenths`, for what was measured, times below ten seconds keep one: ``"0.4 s"``.
    """
    if tenths and seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = max(0, math.ceil(seconds))
    if whole >= 3600:
        minutes = math.ceil(whole / 60)
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first `most` names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def columns(rows: Sequence[Sequence[str]], *, left: bool = False) -> str:
    """Return rows of equally many cells as text: the first left-aligned, others to the right or `left`."""
    rows = [[escape_controls(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad, lines = str.ljust if left else str.rjust, []
    for row in rows:
        cells = row[0].ljust(widths[0]), *map(pad, row[1:], widths[1:])
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
