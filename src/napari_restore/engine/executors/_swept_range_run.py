"""The work of one process of a cluster for models that sweep over the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region, bounding_box
from napari_restore.engine.executors._range_run import InWorker, RangeRun, Step
from napari_restore.engine.executors._ranges import by_chunks
from napari_restore.engine.ledger._shared_slabs import PartSlabs
from napari_restore.engine.ledger._store import Part
from napari_restore.engine.ledger._store_files import STAGED
from napari_restore.engine.machine._precision import dtype_of
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.planning._tiles import Grid, Schedule
from napari_restore.engine.running._counts import CountStore
from napari_restore.engine.running._rounding import Rounding
from napari_restore.engine.running._steps_run import SweptRun, keep_swept
from napari_restore.engine.running._sweep_work import SweepWork, Swept
from napari_restore.engine.running._tile import TileOutput
from napari_restore.engine.running._tokens import TokenStore


class SweptRangeRun(InWorker, SweptRun):
    """A plan of sweeps in a worker, one step after the other.

    Maps and counts are written into files that another process has made and keeps the journals
    of; maps of the steps before are read from them.
    """

    def __init__(self, plan: Plan, threads: int) -> None:
        super().__init__(plan, threads)
        layout = self.plan.staged
        assert layout is not None
        self._open_slab = self._slabs = PartSlabs()
        self._rounding = Rounding(dtype_of(layout.residual_dtype))
        self._step: Step | None = None
        self._opened = self._open.enter_context(ExitStack())
        """What is open for the current step."""

    def _part(self, name: str, step: Step | None) -> Part:
        return self._parts.part(name, "" if self._is_last(step) else STAGED)

    def _pending(
        self, tiles: list[Region], finished: set[Region], step: Step | None
    ) -> list[Region]:
        if not self._is_last(step):
            return super()._pending(tiles, finished, step)
        # Tiles of one chunk of the result are written together.
        groups = by_chunks(tiles, self.plan.layout.tile).values()
        return [tile for group in groups if not finished.issuperset(group) for tile in group]

    def _is_last(self, step: Step | None) -> bool:
        assert step is not None
        return bool(step["number"] == len(self.plan.swept.steps()) - 1)

    def _rounded(self) -> tuple[float, float]:
        assert self._rounding is not None
        return self._rounding.measured

    def _compute(
        self, part: Part, pending: list[Region], done: Callable[[Region], None], step: Step | None
    ) -> None:
        assert step is not None
        self._open_step(step)
        number, work = step["number"], self._sweep_work
        read = partial(self._read, work, number, self._tokens_of_step)
        if self._is_last(step):
            write = _ChunkWriter(part, pending, work.grid.tile, done).write
            self._pipeline(Schedule(pending), read, work.restore).run(write)
            return
        counts: CountStore | None = self._counts_of_step

        def keep(swept: Swept) -> None:
            keep_swept(work, self._tokens_of_step, counts, swept)
            part.note(swept.core, {"records": self._slabs.take()})
            done(swept.core)

        compute = partial(work.sweep, number, counting=counts is not None)
        self._pipeline(Schedule(pending), read, compute).run(keep)

    def _open_step(self, step: Step) -> None:
        """Open what a step reads and writes, as far as the steps before it are done."""
        if step == self._step:
            return
        self._opened.close()
        self._step = None
        model, layout = self.plan.swept, self.plan.staged
        assert layout is not None and self._rounding is not None
        grid = Grid(layout.box, self.plan.layout.tile, model.padded_to)
        tokens = self._tokens(self.plan.store / STAGED, layout, model, self._opened)
        done = self._steps_done(grid, {}, self._opened)
        maps = self._open_maps(grid, self._target_tiles(), self._opened)
        maps.open_earlier()
        self._tokens_of_step: TokenStore | None = tokens
        self._counts_of_step = (
            done.counts(step["number"], self.plan.key) if step["counting"] else None
        )
        self._sweep_work = SweepWork(
            model,
            self._shared_work(),
            grid,
            layout.residual_dtype,
            self._rounding,
            self._tile,
            maps.stores,
        )
        self._step = step


class _ChunkWriter:
    """Writes tiles that are smaller than a chunk of the result together, when all of it are there."""

    def __init__(
        self, part: Part, tiles: Sequence[Region], edge: int, done: Callable[[Region], None]
    ) -> None:
        self._part, self._done = part, done
        self._group_of = {
            tile: group for group in by_chunks(tiles, edge).values() for tile in group
        }
        self._outputs: dict[Region, TileOutput] = {}

    def write(self, output: TileOutput) -> None:
        """Take a tile; write it with those of its chunk, when they are there."""
        self._outputs[output.core] = output
        group = self._group_of[output.core]
        if not all(tile in self._outputs for tile in group):
            return
        outputs = {tile: self._outputs.pop(tile) for tile in group}
        box = bounding_box(group)
        if box.pixels == sum(tile.pixels for tile in group):
            pixels = _joined(box, {tile: each.pixels for tile, each in outputs.items()})
            maps = {
                name: _joined(box, {tile: each.maps[name] for tile, each in outputs.items()})
                for name in output.maps
            }
            self._part.write(box, pixels, maps, {t: each.entry for t, each in outputs.items()})
        else:
            # What is missing was excluded by a mask.
            for tile, each in outputs.items():
                self._part.write(tile, each.pixels, each.maps, {tile: each.entry})
        for tile in group:
            self._done(tile)


def _joined(box: Region, parts: dict[Region, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return the pixels (h, w, C) of `box` from those of its parts."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    first = next(iter(parts.values()))
    whole = np.empty((*box.shape, first.shape[2]), first.dtype)
    for core, pixels in parts.items():
        whole[core.within(box)] = pixels
    return whole


def range_run(plan: Plan, threads: int) -> InWorker:
    """Return the run in a worker for the scope of the plan's model."""
    return RangeRun(plan, threads) if plan.staged is None else SweptRangeRun(plan, threads)
