"""Runs of models that see the whole image: their steps in order, each over all tiles."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from napari_restore.engine._region import Region
from napari_restore.engine.ledger._kept_layers import KeptLayers
from napari_restore.engine.ledger._shared_slabs import OpenSlab, enter_left
from napari_restore.engine.ledger._slab import SlabFile, discard
from napari_restore.engine.ledger._store_files import STAGED
from napari_restore.engine.machine._failures import FAILURES, as_failure
from napari_restore.engine.machine._new_thread import on_new_thread
from napari_restore.engine.machine._precision import dtype_of
from napari_restore.engine.planning._identity import (
    SETTLED,
    UNFINISHED,
    find_settled,
    keep_settled,
    lend,
)
from napari_restore.engine.planning._map_layout import SweptLayout
from napari_restore.engine.planning._tiles import Grid, Schedule
from napari_restore.engine.running._counts import CountStore
from napari_restore.engine.running._events import Phase
from napari_restore.engine.running._open_maps import OpenMaps, in_order
from napari_restore.engine.running._rounding import Rounding
from napari_restore.engine.running._run import Run
from napari_restore.engine.running._steps_done import StepsDone
from napari_restore.engine.running._sweep_work import (
    SweepWork,
    Swept,
    SweptInput,
    empty_tile,
    reflection,
)
from napari_restore.engine.running._tile import TileWork
from napari_restore.engine.running._tile_reader import Mask, TileInput
from napari_restore.engine.running._tokens import TokenStore
from napari_restore.engine.running._whole_run import WholeRun
from napari_restore.errors import Cancelled
from napari_restore.images import chunk_cache
from napari_restore.models import Counts, Statistics, Steps, Sweep, SweptModel, WholeStep


class SweptRun(Run):
    """A plan of scope `swept`: the model's steps in order, each over all tiles.

    Maps lie beside the result until their last reader is done. Finished work is never repeated:
    tiles of a sweep whose maps and counts are on disk, what the counts settled, layers of a whole
    step that took long, restored tiles. Maps that were in the memory of a run that ended are
    recomputed.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._seconds: dict[str, float] = {}
        self._rounding: Rounding | None = None
        self._swept = 0
        self._maps: OpenMaps | None = None
        self._open_slab: OpenSlab = SlabFile
        self._kept_layers: KeptLayers | None = None
        """Where the inputs of the whole step's layers are to be left; None: they are not kept."""

    def _is_related(self, tokens: TokenStore) -> bool:
        """Return whether nothing of the whole step is missing."""
        return tokens.is_finished and (self._kept_layers is None or self._kept_layers.is_complete)

    def _restore(self, work: TileWork) -> None:
        tiles, pending = self._tiles()
        folder = self.plan.store / STAGED
        if pending:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / UNFINISHED).touch()
            self._enter_parts()
            self._run_steps(work, tiles, pending)
        if not self.stop.is_set():
            for path in folder.glob("*.slab"):
                discard(path)
            shutil.rmtree(folder / SETTLED, ignore_errors=True)
            (folder / UNFINISHED).unlink(missing_ok=True)

    def settle(self) -> Statistics:
        """Run the sweeps that count, if any is missing; return all statistics, nothing restored."""
        with chunk_cache.bounded(self.plan.layout.read_cache_bytes):
            return self._run_steps(self.open(), [], [])

    def _run_steps(self, work: TileWork, tiles: list[Region], pending: list[Region]) -> Statistics:
        """Run all steps that are not done yet; return the statistics with all that is settled."""
        model, layout = self.plan.swept, self.plan.staged
        assert layout is not None
        grid = Grid(layout.box, self.plan.layout.tile, model.padded_to)
        self._rounding = Rounding(dtype_of(layout.residual_dtype))
        folder, steps = self.plan.store / STAGED, Steps(model.steps())
        with ExitStack() as stack:
            tokens = self._tokens(folder, layout, model, stack)
            done = self._steps_done(grid, self._settled_before(steps), stack)
            self._maps = self._open_maps(grid, tiles, stack)
            kept = self._maps.open_earlier()
            swept = SweepWork(
                model,
                work,
                grid,
                layout.residual_dtype,
                self._rounding,
                self._tile,
                self._maps.stores,
            )
            swept = self._knowing(swept, done.settled)
            numbers = [grid.number(core) for core in pending]
            relate = tokens is not None and not self._is_related(tokens)
            todo = done.todo(numbers, kept, self._maps.stores, tokens, self.plan.key, relate=relate)
            for number, step in enumerate(steps):
                self.check_source()
                if isinstance(step, WholeStep):
                    if todo[number]:
                        assert tokens is not None
                        self._relate(step, number, tokens)
                elif number == len(steps) - 1:
                    if pending:
                        self._decode(swept, number, tokens, len(tiles), pending)
                elif todo[number] or done.must_settle(number):
                    self._maps.open_for(number)
                    swept = self._sweep(swept, number, tokens, done, todo[number])
                self._maps.free_after(number)
        if self.plan.lends is not None and self.plan.settled is not None:
            lend(self.plan.lends, self.plan.image, self.plan.settled, model)
        return swept.tile.statistics

    def _enter_parts(self) -> None:
        """Note what workers of an earlier run had finished of the sweeps when that run ended."""
        assert self.store is not None
        for name, lines in self.store.parts(STAGED):
            for line in lines:
                enter_left(self.plan.store / STAGED, line["records"])
            self.store.remove_part(name, STAGED)

    def _steps_done(
        self, grid: Grid, settled: dict[str, Statistics], stack: ExitStack
    ) -> StepsDone:
        """Return what is done of the steps; `stack` closes it."""
        steps, folder = Steps(self.plan.swept.steps()), self.plan.store / STAGED
        done = StepsDone(folder, steps, grid, settled, self._open_slab)
        stack.callback(done.close)
        return done

    def _open_maps(self, grid: Grid, tiles: list[Region], stack: ExitStack) -> OpenMaps:
        """Return the maps to restore `tiles` from, none of them open; `stack` closes them."""
        # In the order of sweeping: that is how maps are assigned to the tiers.
        target = [grid.number(core) for core in in_order(tiles)]
        steps = Steps(self.plan.swept.steps())
        maps = OpenMaps(self.plan, self._device_memory, grid, steps, target, self._open_slab)
        stack.callback(maps.close)
        return maps

    def _relate(self, step: WholeStep, number: int, tokens: TokenStore) -> None:
        layout = self.plan.staged
        assert layout is not None
        self.emit(Phase(self._title(step, number, len(layout.steps))))
        whole = WholeRun(
            self.plan,
            self.emit,
            self.stop,
            self._totals.count_backoff,
            self._device_memory,
            self._kept_layers,
        )
        with self._timed(step.name):
            whole.relate(step, tokens)

    def _settled_before(self, steps: Steps) -> dict[str, Statistics]:
        """Return what earlier runs settled, by sweep."""
        assert self.plan.settled is not None
        found: dict[str, Statistics] = {}
        for step, counts in steps.counting.values():
            known = find_settled(self.plan.settled, step.name, counts)
            if known is None:
                # What later ones settled follows from this one.
                break
            found[step.name] = known
        return found

    def _knowing(self, work: SweepWork, settled: Statistics) -> SweepWork:
        """Return the work with more statistics, on the device."""
        here = {name: self.plan.device.take(value) for name, value in settled.items()}
        statistics = {**work.tile.statistics, **here}
        return replace(work, tile=replace(work.tile, statistics=statistics))

    def _tokens(
        self, folder: Path, layout: SweptLayout, model: SweptModel, stack: ExitStack
    ) -> TokenStore | None:
        """Return the store of the maps that are taken as a whole; None if there are none."""
        step = Steps(model.steps()).whole
        if step is None:
            return None
        side = self.plan.layout.tile // step.reads.stride
        channels = step.reads.channels
        store = TokenStore(
            folder, layout, channels, side, step.margin, self.plan.key, self._open_slab
        )
        return stack.enter_context(closing(store))

    # -- sweeps ----------------------------------------------------------------------

    def _sweep(
        self,
        work: SweepWork,
        number: int,
        tokens: TokenStore | None,
        done: StepsDone,
        wanted: set[int],
    ) -> SweepWork:
        """Run a sweep that leaves maps or counts; return the work with what it settled."""
        step, grid = work.steps.sweeps[number], work.grid
        counts = done.counts(number, self.plan.key)
        self.emit(Phase(self._title(step, number, len(work.steps))))
        already, total = grid.count - len(wanted), grid.count
        if tokens is None and not done.must_settle(number):
            already, total = 0, len(wanted)
        progress = self._progress(already)
        progress(already, total)
        finished = itertools.count(already + 1)

        def report() -> None:
            self._swept += 1
            progress(next(finished), total)

        cores = [grid.core(each) for each in wanted]
        with self._timed(step.name):
            self._sweep_tiles(work, number, tokens, counts, cores, report)
        if self.stop.is_set():
            raise Cancelled(f"Cancelled in the phase {step.title}.")
        if counts is None:
            return work
        assert step.counts is not None and self.plan.settled is not None
        settled = self._settle(work, step.counts, counts)
        about = {"image": self.plan.image.name, "model": work.model.card.id}
        keep_settled(self.plan.settled, step.name, settled, about)
        done.settle(number, settled)
        return self._knowing(work, settled)

    def _sweep_tiles(
        self,
        work: SweepWork,
        number: int,
        tokens: TokenStore | None,
        counts: CountStore | None,
        cores: list[Region],
        report: Callable[[], None],
    ) -> None:
        """Run a sweep on tiles, and keep what it leaves; `report` is called after each."""

        def write(swept: Swept) -> None:
            keep_swept(work, tokens, counts, swept)
            report()

        read = partial(self._read, work, number, tokens)
        compute = partial(work.sweep, number, counting=counts is not None)
        self._pipeline(Schedule(cores), read, compute).run(write)

    def _settle(self, work: SweepWork, counts: Counts, store: CountStore) -> Statistics:
        """Return what follows from the counts of all tiles, on the processor."""
        merged = {name: self.plan.device.take(one) for name, one in store.merged().items()}

        def settle() -> Statistics:
            # Sums are divided among threads: what all pixels follow from must not depend on these.
            torch.set_num_threads(1)
            # No precision is set: it is not rounded.
            with torch.inference_mode():
                return counts.settle(merged, work.tile.statistics)

        try:
            settled = on_new_thread(settle, "settle")
        except FAILURES as error:
            raise as_failure(work.model, error) from error
        return {name: settled[name].detach().cpu().clone() for name in counts.settles}

    def _read(
        self, work: SweepWork, number: int, tokens: TokenStore | None, core: Region
    ) -> SweptInput:
        """Return a tile with the pixels and the kept maps of its input box."""
        step, grid = work.steps.sweeps[number], work.grid
        tile = grid.number(core)
        # A model that fixes its tiles is given whole ones.
        box = grid.around(grid.cells(tile), step.halo)
        if step.sees_image:
            read = self._tile(core, box)
        else:
            read = empty_tile(core, box, self._valid(box) if step.counts is not None else None)
        maps: dict[str, torch.Tensor] = {}
        whole = work.steps.whole_maps.intersection(step.reads)
        if whole:
            assert tokens is not None
            maps |= self._from_tokens(work, tokens, tile)
        maps |= work.stored([name for name in step.reads if name not in whole], box)
        return SweptInput(**vars(read), number=tile, maps=maps)

    def _from_tokens(
        self, work: SweepWork, tokens: TokenStore, tile: int
    ) -> dict[str, torch.Tensor]:
        step = work.steps.whole
        assert step is not None
        related, encoded = tokens.tile(tile)
        return {step.writes.name: related, step.reads.name: encoded}

    def _tile(self, core: Region, box: Region) -> TileInput:
        """Return the pixels of `box`, reflected where it reaches beyond the image."""
        image = self.plan.image
        needed, (rows, columns) = reflection(box, (image.height, image.width))
        tile = self.reader.read(core, needed)
        if needed == box:
            return tile
        pick = (rows[:, None], columns[None, :])
        return replace(
            tile,
            input_box=box,
            pixels=tile.pixels[pick],
            valid=None if tile.valid is None else tile.valid[pick],
            excluded=None if tile.excluded is None else tile.excluded[pick],
            representative=None if tile.representative is None else tile.representative[pick],
            companions=tuple(each.take(pick) for each in tile.companions),
        )

    def _valid(self, box: Region) -> Mask | None:
        """Return the pixels (h, w) of `box` that counts rely on, as `_tile` gives them."""
        image = self.plan.image
        needed, (rows, columns) = reflection(box, (image.height, image.width))
        mask = self.reader.representative(needed)
        mask = self.reader.valid(needed) if mask is None else mask
        return None if mask is None else mask[rows[:, None], columns[None, :]]

    def _title(self, step: Sweep | WholeStep, number: int, steps: int) -> str:
        return f"{step.title} ({number + 1} of {steps})"

    # -- the last sweep --------------------------------------------------------------

    def _decode(
        self,
        work: SweepWork,
        number: int,
        tokens: TokenStore | None,
        total: int,
        pending: list[Region],
    ) -> None:
        step = work.steps[number]
        self.emit(Phase(self._title(step, number, len(work.steps))))
        with self._timed(step.name):
            self._decode_tiles(work, number, tokens, total, pending)

    def _decode_tiles(
        self,
        work: SweepWork,
        number: int,
        tokens: TokenStore | None,
        total: int,
        pending: list[Region],
    ) -> None:
        """Restore the tiles that are `pending` of `total`."""
        read = partial(self._read, work, number, tokens)
        # The last to be written come first: they are still in the system's cache.
        schedule = self._schedule(pending, backwards=True)
        self._pipeline(schedule, read, work.restore).run(self._writer(total))

    # -- reporting -------------------------------------------------------------------

    def _measured(self) -> dict[str, Any]:
        return {
            "phase_seconds": self._seconds,
            "tiles_encoded": self._swept,
            "residual_bytes": OpenMaps.NOTHING if self._maps is None else self._maps.most_bytes,
            "residual_rounding": 0.0 if self._rounding is None else self._rounding.relative,
        }

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] = time.perf_counter() - began


def keep_swept(
    work: SweepWork, tokens: TokenStore | None, counts: CountStore | None, swept: Swept
) -> None:
    """Keep what a sweep left of a tile."""
    # Counts and tokens mark the tile as done: maps first.
    kept = work.kept(swept.maps)
    for store in dict.fromkeys(work.stores[name] for name in kept):
        store.put(swept.number, kept)
    for name in work.steps.whole_maps.intersection(swept.maps):
        assert tokens is not None
        tokens.put_encoded(swept.number, swept.maps[name].float())
    if counts is not None and swept.counts is not None and not counts.has(swept.number):
        counts.put(swept.number, swept.counts)
