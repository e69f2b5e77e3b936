"""The steps of a plan's model in order, each over all tiles, of a user's module compared with their surroundings."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from napari_restore.engine._region import Region, cut
from napari_restore.engine.ledger.kept_layers import KeptLayers
from napari_restore.engine.ledger.shared_slabs import OpenSlab, enter_left
from napari_restore.engine.ledger.slab import SlabFile, discard_slab
from napari_restore.engine.ledger.store_files import STAGED
from napari_restore.engine.machine.failures import FAILURES, as_failure
from napari_restore.engine.machine.threads import on_new_thread
from napari_restore.engine.planning.identity import (
    COUNTED,
    UNFINISHED,
    find_counted,
    keep_counted,
    lend,
)
from napari_restore.engine.planning.layout import tile_step
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.planning.tile_invariance import ROUNDING
from napari_restore.engine.running._whole_run import WholeRun
from napari_restore.engine.running.counts import CountStore
from napari_restore.engine.running.events import Phase
from napari_restore.engine.running.executor import Executor, In, Stage
from napari_restore.engine.running.map_store import MapStore, OpenMaps, in_order
from napari_restore.engine.running.state import RunState
from napari_restore.engine.running.sweep_work import SweepWork, Swept
from napari_restore.engine.running.tile import TileOutput, TileWork
from napari_restore.engine.running.tile_reader import TileInput
from napari_restore.engine.running.tokens import TokenStore
from napari_restore.errors import Cancelled, OutOfMemory, TilesDiffer, option
from napari_restore.models import Counts, Statistics, Steps, WholeStep, WrappedModel

ONE_OF = 64
"""One of so many tiles is compared, drawn by its place."""
PARTS = 3
"""Most parts of a tile that are compared."""


@dataclass(frozen=True)
class Agreement:
    """Compares parts of tiles, each with the halo of the plan, with the same part of more."""

    # What a measurement on made-up images has missed is seen on the image itself.
    work: TileWork
    read: Callable[[Region, Region], TileInput]
    """Reads a core with its input box."""

    def check_first(self, cores: list[Region]) -> None:
        """Compare parts of one of the tiles with as much around them as a tile may have; raises `TilesDiffer`."""
        if len(cores) > 1:
            core, plan = cores[len(cores) // 2], self.work.plan
            step = tile_step(plan.model)
            # Where there is no room for more, tiles are smaller too.
            with suppress(OutOfMemory):
                self._compare(core, plan.input_box(core, plan.layout.halo + step, step))

    def run(self, batch: list[TileInput]) -> list[TileOutput]:
        """Restore tiles as `TileWork.run`, and compare some. Raises `TilesDiffer`."""
        for tile in batch:
            if hash(tuple(tile.core)) % ONE_OF == 0:
                self._compare(tile.core, tile.input_box)
        return self.work.run(batch)

    def _compare(self, core: Region, around: Region) -> None:
        """Compare small parts of `core` with what they are in the middle of `around`."""
        plan, step = self.work.plan, tile_step(self.work.plan.model)
        drawn = sorted(cut(core, step), key=lambda cell: hash((*core, *cell)))[:PARTS]
        parts = [(one, plan.input_box(one, step=step)) for one in drawn]
        parts = [(one, box) for one, box in parts if box != around]
        if not parts:
            return
        whole = self.work.run([self.read(core, around)], raw=True)[0]
        for one, box in parts:
            made = self.work.run([self.read(one, box)], raw=True)[0]
            wanted = whole[(..., *one.within(around))]
            difference = (made[(..., *one.within(box))] - wanted).abs().nan_to_num()
            most = float(difference.max())
            if most > ROUNDING * max(1.0, float(torch.nan_to_num(wanted).abs().max())):
                model = plan.model
                whose = "measured" if model.measured else "of its card"
                raise TilesDiffer(
                    f"Tiles of {model.card.id} differ by up to {most:.1g} of the range from the same "
                    f"pixels in a larger part of {plan.image.name}: a halo of {plan.layout.halo} pixels and "
                    f"steps of {model.card.multiple_of}, {whose}, are too small here, and no tile was "
                    "kept.",
                    f"Use {option('tile', 'whole')}, or give it a card with a larger halo.",
                )


class StepsDone:
    """Statistics that sweeps counted, those of earlier runs among them, and counts of those that have not yet."""

    def __init__(
        self, plan: Plan, counted: Mapping[str, Statistics], open_slab: OpenSlab = SlabFile
    ) -> None:
        self._plan, self._open_slab = plan, open_slab
        self._steps, self._grid = plan.swept.ordered_steps, plan.grid
        self._counted = dict(counted)
        self._counts: dict[int, CountStore] = {}

    @property
    def counted(self) -> Statistics:
        """All statistics that are counted so far."""
        return {name: value for each in self._counted.values() for name, value in each.items()}

    def must_count(self, number: int) -> bool:
        """Return whether a step counts what no run has counted yet."""
        return number in self._steps.counting and self._steps[number].name not in self._counted

    def finish(self, number: int, statistics: Statistics) -> None:
        """Note the statistics of a sweep, and drop its counts."""
        self._counted[self._steps[number].name] = statistics
        self._counts.pop(number).remove()

    def counts(self, number: int) -> CountStore | None:
        """Return the counts of a sweep by tile, of earlier runs, too; None if it counts nothing, or all is counted."""
        if not self.must_count(number):
            return None
        if number not in self._counts:
            step, counts = self._steps.counting[number]
            key = f"{self._plan.key} {self._grid.tile} {step.name}"
            self._counts[number] = CountStore(
                self._count_file(number), counts, self._grid, key, self._open_slab
            )
        return self._counts[number]

    def _count_file(self, number: int) -> Path:
        return self._plan.store / STAGED / f"counts.{number}.slab"

    def _uncounted(self, number: int) -> set[int]:
        """Return the tiles that a sweep has not counted yet."""
        if not self.must_count(number):
            return set()
        # A file of counts takes its place on the disk when it is opened: that waits until its
        # sweep.
        everything = set(range(self._grid.count))
        if number not in self._counts and not self._count_file(number).exists():
            return everything
        counts = self.counts(number)
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
            tiles |= self._uncounted(number)
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
                    margin = step.halo + step.block - 1
                    grown = set(self._grid.reached(wanted - place, margin))
                    for before in step.reads:
                        needed.setdefault(before, set()).update(grown)
            todo[number] = tiles
            for name in step.reads:
                needed.setdefault(name, set()).update(self._grid.reached(tiles, step.halo))
        return todo


class Program:
    """The steps of a plan's model, opened by a run; a model without sweeps has one, with its halo."""

    # Maps lie beside the result until their last reader is done. Finished work is never repeated:
    # tiles of a sweep whose maps and counts are on disk, statistics of what was counted, layers of
    # a whole step that took long, restored tiles. Maps that were in the memory of a run that ended
    # are recomputed.
    def __init__(self, state: RunState, executor: Executor) -> None:
        self._state, self._executor, self._plan = state, executor, state.plan
        self._seconds: dict[str, float] = {}
        self._swept = 0
        self._maps: OpenMaps | None = None
        self.kept_layers: KeptLayers | None = None
        """Where the inputs of the whole step's layers are to be left; None: they are not kept."""

    @cached_property
    def steps(self) -> Steps:
        """The steps of a model that sweeps."""
        return self._plan.swept.ordered_steps

    def restores(self, number: int) -> bool:
        """Return whether a step is the last one."""
        return self._plan.staged is None or number == len(self.steps) - 1

    def restore(self, work: TileWork, tiles: list[Region], pending: list[Region]) -> None:
        """Restore the tiles that are `pending` of all `tiles`."""
        state = self._state
        if self._plan.staged is None:
            state.ahead = self._plan.seconds_after(0)
            self._executor.map(self._tiles_stage(work, pending, len(tiles)))
            return
        folder = self._plan.store / STAGED
        if pending:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / UNFINISHED).touch()
            self._enter_parts()
            self.run_steps(work, tiles, pending)
        if not state.stop.is_set():
            for path in folder.glob("*.slab"):
                discard_slab(path)
            shutil.rmtree(folder / COUNTED, ignore_errors=True)
            (folder / UNFINISHED).unlink(missing_ok=True)

    def run_steps(self, tile: TileWork, tiles: list[Region], pending: list[Region]) -> Statistics:
        """Run all sweeps that are not done yet; return the statistics with all that is counted."""
        state, plan, steps = self._state, self._plan, self.steps
        with ExitStack() as stack:
            assert plan.counted is not None
            before = find_counted(plan.swept, plan.counted)
            work, done, maps = self._opened(tile, tiles, before, stack)
            self._maps = maps
            kept = maps.open_earlier()
            work, tokens = work.knowing(done.counted), work.tokens
            numbers = [self._plan.grid.number(core) for core in pending]
            relate = tokens is not None and not self._is_related(tokens)
            todo = done.todo(numbers, kept, maps.stores, tokens, relate=relate)
            for number, step in enumerate(steps):
                state.check_source()
                state.ahead = plan.seconds_after(number)
                if isinstance(step, WholeStep):
                    if todo[number]:
                        assert tokens is not None
                        self._relate(step, number, tokens)
                elif self.restores(number):
                    if pending:
                        with self._timed(step.name):
                            self._executor.map(self._last_stage(work, pending, len(tiles)))
                elif todo[number] or done.must_count(number):
                    maps.open_for(number)
                    work = self._sweep(work, number, done, todo[number])
                maps.free_after(number)
        if plan.lends is not None and plan.counted is not None:
            lend(plan.lends, plan.image, plan.counted, work.model)
        return work.tile.statistics

    # -- stages ------------------------------------------------------------------------

    def _tiles_stage(
        self, work: TileWork, pending: list[Region], total: int
    ) -> Stage[TileInput, TileOutput]:
        """Return the only stage of a model without sweeps: every tile by itself, in any order."""
        plan, reader = self._plan, self._state.reader
        # Of a user's module some tiles are compared with more of the image: its card may have been
        # proposed by a measurement.
        compute: Callable[[list[TileInput]], list[TileOutput]] = work.run

        def read(core: Region) -> TileInput:
            return reader.read(core, plan.input_box(core))

        is_ours = not isinstance(plan.model, WrappedModel)
        if not (is_ours or plan.computing.is_whole or plan.computing.precision != "float32"):
            agreement = Agreement(work, reader.read)
            agreement.check_first(pending)
            compute = agreement.run
        return self._restoring(0, work, pending, total, read, compute)

    def _last_stage(
        self, work: SweepWork, pending: list[Region], total: int
    ) -> Stage[Any, TileOutput]:
        """Return the stage of the last sweep."""
        number = len(self.steps) - 1
        read = partial(work.read, number)
        return self._restoring(number, work.tile, pending, total, read, work.restore)

    def _restoring(
        self,
        number: int,
        work: TileWork,
        pending: list[Region],
        total: int,
        read: Callable[[Region], In],
        compute: Callable[[list[In]], list[TileOutput]],
    ) -> Stage[In, TileOutput]:
        state = self._state
        state.emit(Phase(self._title(number)))
        return Stage(
            number,
            self._title(number),
            work,
            pending,
            read,
            compute,
            state.write,
            state.counter_of(state.totals.resumed, total),
            restores=True,
            # The last to be written by a sweep come first: they are still in the system's cache.
            backwards=self._plan.staged is not None,
        )

    def _sweep_stage(
        self,
        work: SweepWork,
        number: int,
        counts: CountStore | None,
        cores: list[Region],
        report: Callable[[], None],
    ) -> Stage[Any, Swept]:
        """Return the stage of a sweep that leaves maps or counts."""
        return Stage(
            number,
            self._title(number),
            work.tile,
            cores,
            partial(work.read, number),
            partial(work.sweep, number, counting=counts is not None),
            partial(work.keep, counts=counts),
            report,
            counts=counts is not None,
        )

    def _title(self, number: int) -> str:
        if self._plan.staged is None:
            return "Restoring"
        return f"{self.steps[number].title} ({number + 1} of {len(self.steps)})"

    # -- opening -----------------------------------------------------------------------

    def open_stage(
        self, tile: TileWork, number: int, stack: ExitStack, *, counting: bool
    ) -> Stage[Any, Any]:
        """Return the stage of a step, without tiles, for a process that did not run those before; `stack` closes it."""
        if self._plan.staged is None:
            return self._tiles_stage(tile, [], 0)
        work, done, maps = self._opened(tile, self._state.target_tiles(), {}, stack)
        maps.open_earlier()
        if self.restores(number):
            return self._last_stage(work, [], 0)
        counts = done.counts(number) if counting else None
        return self._sweep_stage(work, number, counts, [], lambda: None)

    def _opened(
        self, tile: TileWork, tiles: list[Region], counted: dict[str, Statistics], stack: ExitStack
    ) -> tuple[SweepWork, StepsDone, OpenMaps]:
        """Return the work, what is done, and the maps to restore `tiles` from, none of them open."""
        plan, state = self._plan, self._state
        open_slab = self._executor.open_slab
        tokens = TokenStore.of(plan, open_slab)
        if tokens is not None:
            stack.enter_context(closing(tokens))
        done = StepsDone(plan, counted, open_slab)
        stack.callback(done.close)
        # In the order of sweeping: that is how maps are assigned to the tiers.
        target = [plan.grid.number(core) for core in in_order(tiles)]
        maps = OpenMaps(plan, state.device_memory, target, open_slab)
        stack.callback(maps.close)
        assert state.rounding is not None
        work = SweepWork(plan.swept, tile, state.reader, state.rounding, maps.stores, tokens)
        return work, done, maps

    def _enter_parts(self) -> None:
        """Note what workers of an earlier run had finished of the sweeps when that run ended."""
        store = self._state.store
        for name, lines in store.parts(STAGED):
            for line in lines:
                enter_left(self._plan.store / STAGED, line["records"])
            store.remove_part(name, STAGED)

    def _is_related(self, tokens: TokenStore) -> bool:
        """Return whether nothing of the whole step is missing."""
        return tokens.is_finished and (self.kept_layers is None or self.kept_layers.is_complete)

    # -- steps -------------------------------------------------------------------------

    def _relate(self, step: WholeStep, number: int, tokens: TokenStore) -> None:
        self._state.emit(Phase(self._title(number)))
        with self._timed(step.name):
            WholeRun(self._state, step, tokens, self.kept_layers).relate()

    def _sweep(self, work: SweepWork, number: int, done: StepsDone, wanted: set[int]) -> SweepWork:
        """Run a sweep that leaves maps or counts; return the work with what it counted."""
        state, step, grid = self._state, self.steps.sweeps[number], self._plan.grid
        counts = done.counts(number)
        state.emit(Phase(self._title(number)))
        already, total = grid.count - len(wanted), grid.count
        if work.tokens is None and not done.must_count(number):
            already, total = 0, len(wanted)
        count = state.counter_of(already, total)

        def report() -> None:
            self._swept += 1
            count()

        cores = [grid.core(each) for each in wanted]
        with self._timed(step.name):
            self._executor.map(self._sweep_stage(work, number, counts, cores, report))
        if state.stop.is_set():
            raise Cancelled(f"Cancelled in the phase {step.title}.")
        if counts is None:
            return work
        assert step.counts is not None and self._plan.counted is not None
        counted = self._finalize(work, step.counts, counts)
        about = {"image": self._plan.image.name, "model": work.model.card.id}
        keep_counted(self._plan.counted, step.name, counted, about)
        done.finish(number, counted)
        return work.knowing(counted)

    def _finalize(self, work: SweepWork, counts: Counts, store: CountStore) -> Statistics:
        """Return what follows from the counts of all tiles, on the processor."""
        merged = {name: self._plan.device.take(one) for name, one in store.merged().items()}

        def finalize() -> Statistics:
            # Sums are divided among threads: what all pixels follow from must not depend on these.
            torch.set_num_threads(1)
            # No precision is set: it is not rounded.
            with torch.inference_mode():
                return counts.finalize(merged, work.tile.statistics)

        try:
            counted = on_new_thread(finalize, "finalize")
        except FAILURES as error:
            raise as_failure(work.model, error) from error
        return {name: counted[name].detach().cpu().clone() for name in counts.statistics}

    # -- reporting ---------------------------------------------------------------------

    def measured(self) -> dict[str, Any]:
        """Return what the record's `measured` says of sweeps."""
        if self._state.rounding is None:
            return {}
        return {
            "phase_seconds": self._seconds,
            "tiles_encoded": self._swept,
            "residual_bytes": OpenMaps.NOTHING if self._maps is None else self._maps.most_bytes,
            "residual_rounding": self._state.rounding.relative,
        }

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] = time.perf_counter() - began
