"""What a worker returns of a range of tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RangeReport:
    """What a worker returns of a range of tiles; no pixels."""

    lines: list[dict[str, Any]]
    """Entries of its part of the store, one for each finished tile."""
    computed: int
    """Tiles that this call has computed; the others were finished by a worker that was lost."""
    seconds: float
    process: str
    """Host and process id of the worker."""
    added_bytes: int
    """Most memory so far beyond the idle worker."""
    backoffs: int
    read_bytes: int = 0
    """Bytes that the worker read in this time, from disk, network or the system's cache."""
    written_bytes: int = 0
    rounding: tuple[float, float] = (0.0, 0.0)
    """`Rounding.measured` of all maps so far that sweeps left."""
