"""Ranges of tiles that are given to workers: neighbours together, as many as take a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from napari_restore.engine._region import Region

SECONDS = 2.0
"""Seconds that a range should take a worker: longer than handing it out, short for a lost one."""
BLOCK = 4
"""Tiles of a neighbourhood along a side: they read chunks of the image that they share."""
MOST = 64
"""Tiles of a range at most."""


class Ranges:
    """Tiles in neighbourhoods, handed out in ranges of a size that follows the time they take."""

    def __init__(self, tiles: Sequence[Region], edge: int) -> None:
        side = BLOCK * edge

        def place(tile: Region) -> tuple[int, ...]:
            row, column = tile.y0 // side, tile.x0 // side
            # Back and forth, so that the next neighbourhood borders on the last one.
            return (row, column if row % 2 == 0 else -column, tile.y0, tile.x0)

        self._left = deque(sorted(tiles, key=place))
        self._seconds = 0.0
        self._measured = 0

    def __len__(self) -> int:
        return len(self._left)

    def put_back(self, tiles: Sequence[Region]) -> None:
        """Hand these tiles out again, first of all."""
        self._left.extendleft(reversed(tiles))

    def measured(self, tiles: int, seconds: float) -> None:
        """Take into account that a worker took `seconds` for so many tiles."""
        self._measured += tiles
        self._seconds += seconds

    def pop(self, workers: int) -> list[Region]:
        """Return the next range; the last ones are small, so that all workers end together."""
        count = 1
        if self._seconds:
            count = int(SECONDS * self._measured / self._seconds)
        count = max(1, min(count, MOST, -(-len(self._left) // (2 * max(1, workers)))))
        return [self._left.popleft() for _ in range(min(count, len(self._left)))]
