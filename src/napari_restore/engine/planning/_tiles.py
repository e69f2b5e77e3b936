"""Tiles of a run and the order in which they are restored."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from napari_restore.engine._region import CELL, Region

BAND = 8192
"""Pixels across within which tiles follow each other row by row, so that the rows of chunks
worth caching do not grow with the image's width."""
MIN_INPUT_SIDE = 256
"""Least side in pixels of a model's input (measured: 160 suffices on CPUs)."""


def cut_into_tiles(
    targets: Sequence[Region],
    size: tuple[int, int],
    tile: int,
    touches: Callable[[Region], bool] | None = None,
    step: int = CELL,
) -> list[Region]:
    """Return the cores of all tiles that touch a target.

    Cores lie on one grid of `tile` pixels from the image's origin whatever the target, so that a
    region's tiles are the same as in a run over the whole image. Cores are cropped to the image
    (`size` = height, width) and to the targets' bounding boxes grown to multiples of `step`, itself
    one of `CELL` and of the model's own steps. `touches` may rule out cores, for instance those no
    polygon reaches.
    """
    height, width = size
    whole = Region(0, 0, height, width)
    wanted: dict[tuple[int, int], Region] = {}
    for target in targets:
        box = target.align(step).intersect(whole)
        for y in range(box.y0 // tile * tile, box.y1, tile):
            for x in range(box.x0 // tile * tile, box.x1, tile):
                core = Region(y, x, y + tile, x + tile).intersect(box)
                earlier = wanted.get((y, x))
                wanted[y, x] = core if earlier is None else earlier.union(core)
    return [core for core in wanted.values() if touches is None or touches(core)]


def box_with_halo(
    core: Region, halo: int, size: tuple[int, int], step: int = CELL, least: int = MIN_INPUT_SIDE
) -> Region:
    """Return the input box of `core`: grown by the halo, cropped to the image.

    Never smaller than `least` and `MIN_INPUT_SIDE` where the image allows: convolution libraries
    switch to other kernels for slivers, which round differently.
    """
    rows = _input_range(core.y0, core.y1, halo, size[0], step, least)
    columns = _input_range(core.x0, core.x1, halo, size[1], step, least)
    return Region(rows[0], columns[0], rows[1], columns[1])


def _input_range(
    low: int, high: int, halo: int, limit: int, step: int, least: int
) -> tuple[int, int]:
    low, high = max(0, low - halo), min(limit, high + halo)
    least = max(least, MIN_INPUT_SIDE)
    if high - low < least:
        low = min(low, max(0, high - least) // step * step)
        high = min(limit, max(high, low + least))
    return low, high


@dataclass(frozen=True)
class TileSizes:
    """Number of tiles of a cut, their input pixels in all, and those of the largest."""

    count: int
    input_pixels: int
    largest: int


def tile_sizes(
    targets: Sequence[Region],
    size: tuple[int, int],
    tile: int,
    halo: int,
    step: int = CELL,
    least: int = MIN_INPUT_SIDE,
) -> TileSizes:
    """Return the sizes of `cut_into_tiles` without making a list of a hundred thousand tiles.

    Overlapping targets are counted twice, so this is an upper bound then.
    """
    count = pixels = largest = 0
    for target in targets:
        box = target.align(step).intersect(Region(0, 0, *size))
        rows = _input_lengths(box.y0, box.y1, tile, halo, size[0], step, least)
        columns = _input_lengths(box.x0, box.x1, tile, halo, size[1], step, least)
        count += len(rows) * len(columns)
        pixels += sum(rows) * sum(columns)
        largest = max(largest, max(rows) * max(columns))
    return TileSizes(count, pixels, largest)


def _input_lengths(
    low: int, high: int, tile: int, halo: int, limit: int, step: int, least: int
) -> list[int]:
    """Return the lengths along one axis of the input boxes of the tiles of [low, high)."""
    starts = range(low // tile * tile, high, tile)
    ranges = (
        _input_range(max(s, low), min(s + tile, high), halo, limit, step, least) for s in starts
    )
    return [end - begin for begin, end in ranges]


class Schedule:
    """Queue of tiles, nearest to a point first; the point may move during the run.

    Without a point, row by row, or from the last to the first if `backwards`. Thread safe. The
    order never changes values, only when they arrive.
    """

    def __init__(
        self,
        tiles: Iterable[Region],
        centre: tuple[float, float] | None = None,
        *,
        backwards: bool = False,
    ) -> None:
        self._lock = threading.Lock()
        self._sign = -1 if backwards else 1
        self._heap: list[tuple[tuple[float, ...], Region]] = []
        self._order(list(tiles), centre)

    def __len__(self) -> int:
        return len(self._heap)

    def pop(self) -> Region | None:
        """Return the next tile, or None when there is none left."""
        with self._lock:
            return heapq.heappop(self._heap)[1] if self._heap else None

    def prioritise(self, region: Region) -> None:
        """Bring the tiles nearest to the middle of `region` to the front."""
        centre = ((region.y0 + region.y1) / 2, (region.x0 + region.x1) / 2)
        with self._lock:
            self._order([tile for _, tile in self._heap], centre)

    def _order(self, tiles: list[Region], centre: tuple[float, float] | None) -> None:
        def rank(tile: Region) -> tuple[float, ...]:
            if centre is None:
                # Row by row in bands: neighbours share their halo in the chunk cache.
                order = (tile.x0 // BAND, tile.y0, tile.x0)
                return tuple(self._sign * place for place in order)
            y, x = (tile.y0 + tile.y1) / 2, (tile.x0 + tile.x1) / 2
            return ((y - centre[0]) ** 2 + (x - centre[1]) ** 2,)

        self._heap = [(rank(tile), tile) for tile in tiles]
        heapq.heapify(self._heap)
