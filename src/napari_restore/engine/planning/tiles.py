"""Tiles of a run: their boxes, their order, the grid of a run of sweeps, and bytes kept by tile.

"core" is a word of docs/glossary.md.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from napari_restore.engine._region import CELL, Region, cut_on_grid
from napari_restore.models import Counts, Shapes, Steps

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
        for core in cut_on_grid(box, tile):
            place = core.y0 // tile, core.x0 // tile
            wanted[place] = core.union(wanted.get(place, core))
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
    """Number of tiles of a cut, the pixels of their cores and inputs, and the largest input."""

    count: int
    core_pixels: int
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
    """Return the sizes of `cut_into_tiles` without making a list of a hundred thousand tiles."""
    count = cores = pixels = largest = 0
    # Overlapping targets are counted twice, so this is an upper bound then.
    for target in targets:
        box = target.align(step).intersect(Region(0, 0, *size))
        cores += box.pixels
        rows = _input_lengths(box.y0, box.y1, tile, halo, size[0], step, least)
        columns = _input_lengths(box.x0, box.x1, tile, halo, size[1], step, least)
        count += len(rows) * len(columns)
        pixels += sum(rows) * sum(columns)
        largest = max(largest, max(rows) * max(columns))
    return TileSizes(count, cores, pixels, largest)


def _input_lengths(
    low: int, high: int, tile: int, halo: int, limit: int, step: int, least: int
) -> list[int]:
    """Return the lengths along one axis of the input boxes of the tiles of [low, high)."""
    starts = range(low // tile * tile, high, tile)
    ranges = (
        _input_range(max(s, low), min(s + tile, high), halo, limit, step, least) for s in starts
    )
    return [end - begin for begin, end in ranges]


class TileQueue:
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


COUNT_BYTES = 8
"""Bytes of one count: a float64."""
PAGE = 4096
"""Bytes of which a tile's record is a multiple: machines that write tiles beside each other share no
page of the file."""
TOKEN_BYTES = 4
"""Bytes of one value of a map that a step takes as a whole: float32 whatever the precision of the
model, since layer by layer is added to it."""


@dataclass(frozen=True)
class Grid:
    """Tiles of `tile` pixels from the corner of `box`, numbered row by row."""

    # The model sees `box` grown at bottom and right to multiples of `multiple`, by reflection.
    box: Region
    """Level-0 pixels that the model sees."""
    tile: int
    multiple: int

    @cached_property
    def rows(self) -> int:
        return -(-self.box.height // self.tile)

    @cached_property
    def columns(self) -> int:
        return -(-self.box.width // self.tile)

    @property
    def count(self) -> int:
        return self.rows * self.columns

    @cached_property
    def padded(self) -> Region:
        """The box with its padding."""
        y0, x0 = self.box.y0, self.box.x0
        height, width = (-(-side // self.multiple) * self.multiple for side in self.box.shape)
        return Region(y0, x0, y0 + height, x0 + width)

    def number(self, core: Region) -> int:
        """Return the number of the tile that the corner of `core` lies in."""
        row = (core.y0 - self.box.y0) // self.tile
        return row * self.columns + (core.x0 - self.box.x0) // self.tile

    def whole(self, number: int) -> Region:
        """Return all of a tile, which may reach beyond the padding."""
        row, column = divmod(number, self.columns)
        y, x = self.box.y0 + row * self.tile, self.box.x0 + column * self.tile
        return Region(y, x, y + self.tile, x + self.tile)

    def core(self, number: int) -> Region:
        """Return a tile's part of the image."""
        return self.whole(number).intersect(self.box)

    def cells(self, number: int) -> Region:
        """Return a tile's part of the padded box: where its maps have cells."""
        return self.whole(number).intersect(self.padded)

    def blocks(self, box: Region, block: int) -> Region:
        """Return `box` grown to whole blocks of so many pixels, but not beyond the padding."""
        y0, x0 = self.box.y0, self.box.x0
        return box.shift(-y0, -x0).align(block).shift(y0, x0).intersect(self.padded)

    def around(self, box: Region, halo: int) -> Region:
        """Return `box` grown by `halo`, but not beyond the padding."""
        grown = Region(box.y0 - halo, box.x0 - halo, box.y1 + halo, box.x1 + halo)
        return grown.intersect(self.padded)

    def pixels_around(self, halo: int) -> int:
        """Return the pixels of all tiles' `cells`, each with what is `around` it."""
        low, high = self.padded[:2], self.padded[2:]
        lengths = [
            sum(
                min(first + n * self.tile + self.tile + halo, end)
                - max(first + n * self.tile - halo, first)
                for n in range(count)
            )
            for first, end, count in zip(low, high, (self.rows, self.columns), strict=True)
        ]
        return lengths[0] * lengths[1]

    def map_size(self, stride: int) -> tuple[int, int]:
        """Return rows and columns of a map of all tiles, in cells of `stride` pixels."""
        side = self.tile // stride
        return self.rows * side, self.columns * side

    def map_window(self, number: int, stride: int, margin: int = 0) -> tuple[slice, slice]:
        """Return a tile's rows and columns, and a `margin` of cells, in a map of all tiles that has that margin."""
        (row, column), side = divmod(number, self.columns), self.tile // stride
        y, x, around = row * side, column * side, side + 2 * margin
        return slice(y, y + around), slice(x, x + around)

    def touched(self, box: Region) -> Iterable[int]:
        """Return the numbers of the tiles that `box`, within the padding, has a part of."""
        rows = range((box.y0 - self.box.y0) // self.tile, -(-(box.y1 - self.box.y0) // self.tile))
        first = (box.x0 - self.box.x0) // self.tile
        last = -(-(box.x1 - self.box.x0) // self.tile)
        return (
            row * self.columns + column
            for row in rows
            for column in range(first, min(last, self.columns))
            if row < self.rows
        )

    def reached(self, numbers: Iterable[int], halo: int) -> Iterator[int]:
        """Yield the tiles that each of `numbers` with its halo touches; some come several times."""
        if not halo:
            yield from numbers
            return
        for number in numbers:
            yield from self.touched(self.around(self.cells(number), halo))


def count_bytes(counts: Counts, grid: Grid) -> int:
    """Return the bytes of the counts of one tile of `grid`."""
    return bytes_of(counts.shapes_of(grid.tile, grid.box.shape))


def bytes_of(shapes: Shapes) -> int:
    """Return the bytes of a tile's record of counts of these shapes."""
    return -(-COUNT_BYTES * values_of(shapes) // PAGE) * PAGE


def values_of(shapes: Shapes) -> int:
    """Return how many numbers counts of these shapes are."""
    return sum(math.prod(shape) for shape in shapes.values())


def tile_bytes(width: int, side: int, margin: int = 0) -> int:
    """Return bytes of a tile's tokens of `width` channels, with `margin` more on every side."""
    return int(width * (side + 2 * margin) ** 2 * TOKEN_BYTES)


class Surroundings:
    """Boxes of whole tiles that sweeps need of each other to restore the `targets`, for a plan."""

    # A sweep works on the tiles whose maps later sweeps read, with their halos; so the boxes grow
    # from the last sweep to the first.
    def __init__(self, steps: Steps, grid: Grid, targets: Sequence[Region]) -> None:
        self._grid = grid
        self._of_map: dict[str, list[Region]] = {}
        self._of_step: dict[int, list[Region]] = {}
        tile = grid.tile
        last = len(steps) - 1
        for number, step in reversed(steps.sweeps.items()):
            boxes = [target.align(tile) for target in targets] if number == last else []
            for written in step.writes:
                boxes = _united(boxes, self._of_map.get(written.name, []))
            self._of_step[number] = boxes
            read = [box.expand(step.halo).align(tile) for box in boxes]
            for name in step.reads:
                self._of_map[name] = _united(self._of_map.get(name, []), read)

    def tiles_of_step(self, number: int) -> int:
        """Return how many tiles a sweep works on, at most."""
        return self._count(self._of_step[number])

    def tiles_of_maps(self, names: Sequence[str]) -> int:
        """Return the tiles of which any of these maps is read, at most."""
        boxes: list[Region] = []
        for name in names:
            boxes = _united(boxes, self._of_map.get(name, []))
        return self._count(boxes)

    def _count(self, boxes: Sequence[Region]) -> int:
        grid = self._grid
        inside = [each for box in boxes if not (each := box.intersect(grid.box)).is_empty]
        size = (grid.box.y1, grid.box.x1)
        return min(grid.count, tile_sizes(inside, size, grid.tile, 0, grid.tile).count)


def _united(some: list[Region], others: list[Region]) -> list[Region]:
    """Return the boxes of each target that contain both."""
    if not (some and others):
        return some or others
    return [one.union(other) for one, other in zip(some, others, strict=True)]


def tiles_needed(
    steps: Steps, grid: Grid, target: Sequence[int], everywhere: Collection[int] = ()
) -> tuple[dict[int, list[int]], dict[str, list[int]]]:
    """Return the tiles that each sweep works on, those of `target` first, and those read of each map."""
    worked: dict[int, list[int]] = {}
    read: dict[str, list[int]] = {}
    last = len(steps) - 1
    # Sweeps of the numbers `everywhere` work on all tiles.
    for number, step in reversed(steps.sweeps.items()):
        written = [read.get(each.name, []) for each in step.writes]
        own = target if number == last else [tile for tiles in written for tile in tiles]
        worked[number] = list(dict.fromkeys(range(grid.count) if number in everywhere else own))
        near = [*worked[number], *grid.reached(worked[number], step.halo)]
        for name in step.reads:
            read[name] = list(dict.fromkeys([*read.get(name, []), *near]))
    return worked, read
