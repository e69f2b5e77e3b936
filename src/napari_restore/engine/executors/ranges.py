"""Ranges of tiles that are given to workers: neighbours together, as many as take a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from napari_restore.engine._region import Region
from napari_restore.engine.ledger.store_files import CHUNK


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


SECONDS = 2.0
"""Seconds that a range should take a worker: longer than handing it out, short for a lost one."""
BLOCK = 4
"""Tiles of a neighbourhood along a side: they read chunks of the image that they share."""
MOST = 64
"""Tiles of a range at most."""
Chunk = tuple[int, int]
"""Row and column of a chunk of the result, or of a tile of several chunks."""


def by_chunks(tiles: Iterable[Region], edge: int) -> dict[Chunk, list[Region]]:
    """Return tiles of `edge` pixels that share a chunk of the result, by that chunk."""
    side = max(edge, CHUNK)
    found: dict[Chunk, list[Region]] = {}
    for tile in tiles:
        found.setdefault((tile.y0 // side, tile.x0 // side), []).append(tile)
    return found


def in_whole_chunks(chosen: Iterable[Region], tiles: Iterable[Region], edge: int) -> list[Region]:
    """Return those of `tiles` that share a chunk with any of the `chosen`."""
    wanted = by_chunks(chosen, edge)
    groups = by_chunks(tiles, edge).items()
    return [tile for chunk, group in groups if chunk in wanted for tile in group]


class Ranges:
    """Tiles in neighbourhoods, handed out in ranges of a size that follows the time they take."""

    # Tiles of `edge` pixels that share a chunk of the result are never in two ranges.
    def __init__(self, tiles: Sequence[Region], edge: int) -> None:
        self._side = BLOCK * max(edge, CHUNK)
        self._view: Region | None = None
        self._edge = edge
        self._groups = deque(sorted(by_chunks(tiles, edge).values(), key=self._place))
        self._count = len(tiles)
        self._seconds = 0.0
        self._measured = 0

    def __len__(self) -> int:
        return self._count

    def look_at(self, view: Region | None) -> None:
        """Hand out the tiles that `view` touches first, from its middle outwards."""
        if view is not None and view != self._view:
            self._view = view
            self._groups = deque(sorted(self._groups, key=self._rank))

    def put_back(self, tiles: Sequence[Region]) -> None:
        """Hand these tiles out again, first of all."""
        self._groups.extendleft(reversed(by_chunks(tiles, self._edge).values()))
        self._count += len(tiles)

    def measured(self, tiles: int, seconds: float) -> None:
        """Take into account that a worker took `seconds` for so many tiles."""
        self._measured += tiles
        self._seconds += seconds

    def pop(self, workers: int) -> list[Region]:
        """Return the next range; the last ones are small, so that all workers end together."""
        count = 1
        if self._seconds:
            count = int(SECONDS * self._measured / self._seconds)
        count = max(1, min(count, MOST, -(-self._count // (2 * max(1, workers)))))
        found: list[Region] = []
        while self._groups and len(found) < count:
            found += self._groups.popleft()
        self._count -= len(found)
        return found

    def _place(self, group: list[Region]) -> tuple[int, ...]:
        tile = group[0]
        row, column = tile.y0 // self._side, tile.x0 // self._side
        # Back and forth, so that the next neighbourhood borders on the last one.
        return (row, column if row % 2 == 0 else -column, tile.y0, tile.x0)

    def _rank(self, group: list[Region]) -> tuple[int, ...]:
        view = self._view
        if view is None or all(tile.intersect(view).is_empty for tile in group):
            return (1, *self._place(group))
        tile = group[0]
        # Twice the distance of the middles, to stay with integers.
        y, x = tile.y0 + tile.y1 - view.y0 - view.y1, tile.x0 + tile.x1 - view.x0 - view.x1
        return (0, y * y + x * x)
