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
        self._side = BLOCK * edge
        self._view: Region | None = None
        self._left = deque(sorted(tiles, key=self._place))
        self._seconds = 0.0
        self._measured = 0

    def __len__(self) -> int:
        return len(self._left)

    def look_at(self, view: Region | None) -> None:
        """Hand out the tiles that `view` touches first, from its middle outwards."""
        if view is not None and view != self._view:
            self._view = view
            self._left = deque(sorted(self._left, key=self._rank))

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

    def _place(self, tile: Region) -> tuple[int, ...]:
        row, column = tile.y0 // self._side, tile.x0 // self._side
        # Back and forth, so that the next neighbourhood borders on the last one.
        return (row, column if row % 2 == 0 else -column, tile.y0, tile.x0)

    def _rank(self, tile: Region) -> tuple[int, ...]:
        view = self._view
        if view is None or tile.intersect(view).is_empty:
            return (1, *self._place(tile))
        # Twice the distance of the middles, to stay with integers.
        y, x = tile.y0 + tile.y1 - view.y0 - view.y1, tile.x0 + tile.x1 - view.x0 - view.x1
        return (0, y * y + x * x)
