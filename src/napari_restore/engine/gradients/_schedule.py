"""Which tiles the sweeps of a picture and of its gradient work on, and how long maps are kept."""

from __future__ import annotations

from dataclasses import dataclass

from napari_restore.engine._region import Region
from napari_restore.engine.gradients.kept import Shelf, Spill, map_bytes
from napari_restore.engine.planning.tiles import Grid, tiles_needed
from napari_restore.models import Counts, Map, Steps


@dataclass(frozen=True)
class TileKept:
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
    """Work of the sweeps of `steps` on a grid, for an output in `box` and its gradient."""

    # Without `counting` all that sweeps count is known: what is far from the box is left out.
    def __init__(self, steps: Steps, grid: Grid, box: Region, counting: bool = True) -> None:
        self.steps, self.grid = steps, grid
        self.whole = steps.whole_maps
        of_box = [n for n in range(grid.count) if not grid.whole(n).intersect(box).is_empty]
        everywhere = {
            number
            for number, step in steps.sweeps.items()
            if self.whole.intersection(each.name for each in step.writes)
        }
        counted = {n: counts for n, (_, counts) in steps.counting.items() if counting}
        forward, self._read = tiles_needed(steps, grid, of_box, {*everywhere, *counted})
        everywhere.update(n for n, counts in counted.items() if differentiable(counts))
        backward, _ = tiles_needed(steps, grid, of_box, everywhere)
        self.forward = {number: tuple(sorted(tiles)) for number, tiles in forward.items()}
        """Tiles by sweep."""
        self.backward = {number: tuple(sorted(tiles)) for number, tiles in backward.items()}
        """Tiles by sweep that a gradient can reach."""
        self.kept = {each.map.name: each for each in self._kept()}
        """By map."""

    def _kept(self) -> list[TileKept]:
        kept = []
        for number, step in self.steps.sweeps.items():
            for one in step.writes:
                readers = self.steps.readers(one.name)
                if not readers or one.name in self.whole:
                    continue
                place = tuple(sorted(self._read[one.name]))
                margin = self.steps.margins[one.name]
                kept.append(TileKept(one, place, margin, number, readers[0], readers[-1]))
        return kept

    def spills(self, number: int) -> dict[str, Spill]:
        """Return how the gradients of the maps that a sweep reads are kept, by map."""
        step, whole = self.steps.sweeps[number], self.steps.whole
        # Gradients of what a whole step writes are kept in memory.
        names = [name for name in step.reads if whole is None or name != whole.writes.name]
        return {name: Spill(self.steps.maps[name], self.grid.tile, step.halo) for name in names}

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
            for one in self.steps.sweeps[number].writes:
                for reader in self.steps.readers(one.name):
                    shelf.free((one.name, reader))
        return shelf


def differentiable(counts: Counts) -> bool:
    """Return whether anything that follows from `counts` has a gradient."""
    return any(name not in counts.choices for name in counts.statistics)
