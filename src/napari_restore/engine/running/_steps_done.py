"""What earlier runs have finished of a model's steps, and what is left to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from napari_restore.engine.ledger._shared_slabs import OpenSlab
from napari_restore.engine.ledger._slab import SlabFile
from napari_restore.engine.planning._tiles import Grid
from napari_restore.engine.running._counts import CountStore
from napari_restore.engine.running._map_store import MapStore
from napari_restore.engine.running._tokens import TokenStore
from napari_restore.models import Statistics, Steps


class StepsDone:
    """Statistics that sweeps settled, and counts of those that have not yet.

    `settled` are those of earlier runs, by sweep.
    """

    def __init__(
        self,
        folder: Path,
        steps: Steps,
        grid: Grid,
        settled: Mapping[str, Statistics],
        open_slab: OpenSlab = SlabFile,
    ) -> None:
        self._open_slab = open_slab
        self._folder, self._steps, self._grid = folder, steps, grid
        self._settled = dict(settled)
        self._counts: dict[int, CountStore] = {}

    @property
    def settled(self) -> Statistics:
        """All statistics that are settled so far."""
        return {name: value for each in self._settled.values() for name, value in each.items()}

    def must_settle(self, number: int) -> bool:
        """Return whether a step counts what is not settled yet."""
        return number in self._steps.counting and self._steps[number].name not in self._settled

    def settle(self, number: int, statistics: Statistics) -> None:
        """Note what a sweep settled, and drop its counts."""
        self._settled[self._steps[number].name] = statistics
        self._counts.pop(number).remove()

    def counts(self, number: int, key: str) -> CountStore | None:
        """Return the counts of a sweep by tile, those of an earlier run included.

        None if it counts nothing, or all is settled.
        """
        if not self.must_settle(number):
            return None
        if number not in self._counts:
            step, counts = self._steps.counting[number]
            full_key = f"{key} {self._grid.tile} {step.name}"
            self._counts[number] = CountStore(
                self._count_file(number), counts, self._grid, full_key, self._open_slab
            )
        return self._counts[number]

    def _count_file(self, number: int) -> Path:
        return self._folder / f"counts.{number}.slab"

    def _uncounted(self, number: int, key: str) -> set[int]:
        """Return the tiles that a sweep has not counted yet.

        A file of counts takes its place on the disk when it is opened: that waits until its sweep.
        """
        if not self.must_settle(number):
            return set()
        everything = set(range(self._grid.count))
        if number not in self._counts and not self._count_file(number).exists():
            return everything
        counts = self.counts(number, key)
        assert counts is not None
        return {tile for tile in everything if not counts.has(tile)}

    def close(self) -> None:
        """Close the counts; they stay on disk."""
        for counts in self._counts.values():
            counts.close()

    def todo(
        self,
        pending: Sequence[int],
        kept: Mapping[str, set[int]],
        stores: Mapping[str, MapStore],
        tokens: TokenStore | None,
        key: str,
        *,
        relate: bool,
    ) -> list[set[int]]:
        """Return the tiles that each step has to work on, from the last step backwards.

        `pending` are those to restore, `kept` those of each map that have a place. A sweep is run
        where something is not counted, or where a map that is read later is not there. With
        `relate` the whole step is run.
        """
        whole = self._steps.whole_maps
        everything = set(range(self._grid.count))
        needed: dict[str, set[int]] = {}
        todo: list[set[int]] = [set() for _ in self._steps]
        for number in reversed(range(len(self._steps))):
            if number not in self._steps.sweeps:
                todo[number] = {0} if relate else set()
                continue
            step = self._steps.sweeps[number]
            tiles = set(pending) if number == len(self._steps) - 1 else set()
            tiles |= self._uncounted(number, key)
            feeds_whole = any(each.name in whole for each in step.writes)
            if feeds_whole and relate:
                assert tokens is not None
                tiles |= {tile for tile in everything if not tokens.encoded.has(tile)}
            for name in [each.name for each in step.writes if each.name not in whole]:
                wanted, place = needed.get(name, set()), kept.get(name, set())
                if not (feeds_whole and step.is_shallow):
                    # Others are as quickly made again where they are read.
                    store = stores.get(name)
                    there = set() if store is None else set(filter(store.has, wanted))
                    tiles |= (wanted & place) - there
                if wanted - place:
                    # They are made again, from the maps before them.
                    grown = self._around(wanted - place, step.halo + step.block - 1)
                    for before in step.reads:
                        needed.setdefault(before, set()).update(grown)
            todo[number] = tiles
            for name in step.reads:
                needed.setdefault(name, set()).update(self._around(tiles, step.halo))
        return todo

    def _around(self, tiles: set[int], halo: int) -> set[int]:
        grid = self._grid
        if not halo:
            return tiles
        return {
            near for tile in tiles for near in grid.touched(grid.around(grid.cells(tile), halo))
        }
