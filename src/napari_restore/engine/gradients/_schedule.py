"""Which tiles the sweeps of a picture and of its gradient work on, and how long maps are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_restore.engine._region import Region
from napari_restore.engine.gradients._kept import Shelf, Spill, map_bytes, touched
from napari_restore.engine.planning._grid import Grid
from napari_restore.engine.planning._groups import Step, margins_of, readers_of, whole_maps
from napari_restore.models import Counts, Map, Sweep


@dataclass(frozen=True)
class Kept:
    """A map that is kept by tile."""

    map: Map
    tiles: tuple[int, ...]
    """Those that are read."""
    margin: int
    """Pixels around a tile that readers take."""
    writer: int
    first: int
    """The first sweep that reads it: the last of its gradient."""
    last: int
    """The last sweep that reads it."""


class Schedule:
    """Work of the sweeps of `steps` on a grid, for an output in `box` and its gradient.

    Without `counting` all that sweeps count is known: what is far from the box is left out.
    """

    def __init__(
        self, steps: Sequence[Step], grid: Grid, box: Region, counting: bool = True
    ) -> None:
        self.steps, self.grid = steps, grid
        self.whole = whole_maps(steps)
        everywhere = set(range(grid.count))
        last = len(steps) - 1
        self.forward: dict[int, tuple[int, ...]] = {}
        """Tiles by sweep."""
        self.backward: dict[int, tuple[int, ...]] = {}
        """Tiles by sweep that a gradient can reach."""
        forward: dict[int, set[int]] = {}
        backward: dict[int, set[int]] = {}
        of_box = {n for n in everywhere if not grid.whole(n).intersect(box).is_empty}
        for number in reversed(range(len(steps))):
            step = steps[number]
            if not isinstance(step, Sweep):
                continue
            if number == last:
                forward[number] = backward[number] = of_box
                continue
            forward[number] = self._read_of(step, forward)
            backward[number] = self._read_of(step, backward)
            if self.whole.intersection(each.name for each in step.writes):
                forward[number] = backward[number] = everywhere
            if counting and step.counts is not None:
                forward[number] = everywhere
                if differentiable(step.counts):
                    backward[number] = everywhere
        self.forward = {number: tuple(sorted(tiles)) for number, tiles in forward.items()}
        self.backward = {number: tuple(sorted(tiles)) for number, tiles in backward.items()}
        self.kept = {each.map.name: each for each in self._kept()}
        """By map."""

    def _read_of(self, writer: Sweep, tiles: dict[int, set[int]]) -> set[int]:
        """Return the tiles of a sweep's maps that later sweeps on `tiles` read."""
        found: set[int] = set()
        for one in writer.writes:
            for reader in readers_of(self.steps, one.name):
                found |= touched(self.grid, tiles[reader], self._halo(reader))
        return found

    def _halo(self, number: int) -> int:
        step = self.steps[number]
        assert isinstance(step, Sweep)
        return step.halo

    def _kept(self) -> list[Kept]:
        margins, kept = margins_of(self.steps), []
        for number, step in enumerate(self.steps):
            for one in step.writes if isinstance(step, Sweep) else ():
                readers = readers_of(self.steps, one.name)
                if not readers or one.name in self.whole:
                    continue
                tiles = {
                    tile
                    for reader in readers
                    for tile in touched(self.grid, self.forward[reader], self._halo(reader))
                }
                place = tuple(sorted(tiles))
                margin = margins[one.name]
                kept.append(Kept(one, place, margin, number, readers[0], readers[-1]))
        return kept

    def spills(self, number: int) -> dict[str, Spill]:
        """Return how the gradients of the maps that a sweep reads are kept, by map."""
        step, declared = self.steps[number], self._declared()
        assert isinstance(step, Sweep)
        names = [name for name in step.reads if name not in self._written_whole()]
        return {name: Spill(declared[name], self.grid.tile, step.halo) for name in names}

    def _written_whole(self) -> set[str]:
        """Return the maps whose gradients are kept in memory: those that a whole step writes."""
        return {s.writes.name for s in self.steps if not isinstance(s, Sweep)}

    def _declared(self) -> dict[str, Map]:
        sweeps = (step for step in self.steps if isinstance(step, Sweep))
        return {each.name: each for step in sweeps for each in step.writes}

    def on(self, ram: int) -> Shelf:
        """Return a shelf as a gradient leaves it that may take so many bytes of memory."""
        shelf = Shelf(ram)
        for name, kept in self.kept.items():
            shelf.take(name, len(kept.tiles), map_bytes(kept.map, self.grid.tile))
        for number in sorted(self.backward, reverse=True):
            for name, spill in self.spills(number).items():
                shelf.take((name, number), len(self.backward[number]), spill.bytes)
            for name, kept in self.kept.items():
                if kept.first == number:
                    shelf.free(name)
            step = self.steps[number]
            assert isinstance(step, Sweep)
            for one in step.writes:
                for reader in readers_of(self.steps, one.name):
                    shelf.free((one.name, reader))
        return shelf


def differentiable(counts: Counts) -> bool:
    """Return whether anything that follows from `counts` has a gradient."""
    return any(name not in counts.choices for name in counts.settles)
