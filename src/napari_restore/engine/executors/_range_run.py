"""The work of one process of a cluster: ranges of the tiles of a plan."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._confined import room_for
from napari_restore._heap import keep_freed_memory
from napari_restore.engine._region import Region, bounding_box
from napari_restore.engine.executors.ranges import RangeReport, by_chunks
from napari_restore.engine.ledger.shared_slabs import PartSlabs
from napari_restore.engine.ledger.store import Part, PartWriter
from napari_restore.engine.ledger.store_files import CHUNK, SHARED, STAGED
from napari_restore.engine.machine.budget import PeakMemory
from napari_restore.engine.machine.threads import map_parallel
from napari_restore.engine.masks.open_mask import open_exclude
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.running.prepared import read_prepared
from napari_restore.engine.running.run import Run
from napari_restore.engine.running.sweep_work import Swept
from napari_restore.engine.running.tile import TileOutput
from napari_restore.engine.statistics.context_blocks import BlockPart, ContextBlocks
from napari_restore.images import chunk_cache

Step = Mapping[str, Any]
"""Step that tiles are to go through: its ``number``, and whether it is ``counting``."""


def count_parts(plan: Plan, boxes: list[Region], threads: int) -> list[BlockPart]:
    """Return what `ContextBlocks` of the image of `plan` count in `boxes`, for another process."""
    image = plan.image.full or plan.image
    exclude = open_exclude(plan.reading, image.full or image)
    blocks = ContextBlocks(image, exclude, plan.described, sampled=False)
    return list(map_parallel(boxes, blocks.part, threads, name="context"))


class RangeRun:
    """A plan in a worker of so many threads: all that its tiles share is loaded once, by the first range."""

    # Tiles are computed as in a run on one machine and written to the store of the plan, which all
    # workers see. Maps and counts are written into files that another process has made and keeps
    # the journals of; maps of the steps before are read from them.
    def __init__(self, plan: Plan, threads: int) -> None:
        workers = max(1, min(plan.layout.workers, threads))
        # Other processes compute on the other cores.
        each = plan.layout.invariance.threads_each(threads, workers)
        layout = replace(plan.layout, workers=workers, threads=each)
        # The process that keeps the journal makes the levels: their chunks are of several tiles.
        self._plan = plan = replace(plan, layout=layout, pyramid=False)
        self._run = Run(plan, lambda event: None)
        self._run.executor.open_slab = self._slabs = PartSlabs()
        self._step: Step | None = None
        keep_freed_memory()
        with ExitStack() as opened:
            self._memory = opened.enter_context(PeakMemory(plan.memory))
            opened.enter_context(chunk_cache.bounded(plan.layout.read_cache_bytes))
            opened.enter_context(room_for(plan.memory))
            self._parts = PartWriter(plan.store, plan.key)
            self._run.open_reader()
            plan.model.to(plan.device.torch)
            self._opened = opened.enter_context(ExitStack())
            """What is open for the current step."""
            self._open = opened.pop_all()

    def close(self) -> None:
        """Give back what the run has limited and measured."""
        self._open.close()

    def restore(
        self,
        name: str,
        tiles: list[Region],
        stop: threading.Event,
        done: Callable[[Region], None],
        step: Step,
    ) -> RangeReport:
        """Compute what of `tiles` the part lacks, until `stop`, calling `done` after each; report all that it has."""
        began, traffic = time.perf_counter(), _traffic()
        self._run.state.stop = stop
        totals, rounding = self._run.state.totals, self._run.state.rounding
        restores = self._run.program.restores(step["number"])
        part = self._parts.part(name, "" if restores else STAGED)
        before, known = totals.backoffs, len(part.lines)
        finished = {Region(*line["region"]) for line in part.lines}
        pending = self._pending(tiles, finished, in_chunks=restores)
        if pending:
            self._compute(part, pending, done, step)
        read, written = (now - then for now, then in zip(_traffic(), traffic, strict=True))
        return RangeReport(
            lines=part.lines,
            computed=len(part.lines) - known,
            seconds=time.perf_counter() - began,
            process=f"{platform.node()}:{os.getpid()}",
            added_bytes=self._memory.peak - self._memory.start,
            backoffs=totals.backoffs - before,
            read_bytes=read,
            written_bytes=written,
            rounding=(0.0, 0.0) if rounding is None else rounding.measured,
        )

    def _pending(
        self, tiles: list[Region], finished: set[Region], *, in_chunks: bool
    ) -> list[Region]:
        edge = self._plan.layout.tile
        if edge >= CHUNK or not in_chunks:
            return [tile for tile in tiles if tile not in finished]
        # Tiles of one chunk of the result are written together.
        groups = by_chunks(tiles, edge).values()
        return [tile for group in groups if not finished.issuperset(group) for tile in group]

    def _compute(
        self, part: Part, pending: list[Region], done: Callable[[Region], None], step: Step
    ) -> None:
        """Compute tiles, write what they leave, and note it in `part`."""
        self._open_step(step)
        stage = self._stage
        keep: Callable[[Any], None]
        if not stage.restores:

            def keep(swept: Swept) -> None:
                stage.keep(swept)
                part.note(swept.core, {"records": self._slabs.take()})
                done(swept.core)
        elif self._plan.layout.tile < CHUNK:
            keep = _ChunkWriter(part, pending, self._plan.layout.tile, done).write
        else:

            def keep(output: TileOutput) -> None:
                part.write(output.core, output.pixels, output.maps, {output.core: output.entry})
                done(output.core)

        self._run.executor.map(replace(stage, tiles=pending, keep=keep, report=lambda: None))

    def _open_step(self, step: Step) -> None:
        """Open what a step reads and writes, as far as the steps before it are done."""
        if step == self._step:
            return
        self._opened.close()
        self._step = None
        tile = self._run.work(read_prepared(self._plan.store / SHARED, self._plan.image))
        self._stage = self._run.program.open_stage(
            tile, step["number"], self._opened, counting=step["counting"]
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


def _traffic() -> tuple[int, int]:
    """Return bytes that this process has read and written so far; zeros where that is not known."""
    import psutil

    try:
        counters = psutil.Process().io_counters()
    except (psutil.Error, AttributeError, OSError):
        # macOS has none.
        return 0, 0
    # Linux counts characters apart from what reached a disk.
    read = getattr(counters, "read_chars", counters.read_bytes)
    return int(read), int(getattr(counters, "write_chars", counters.write_bytes))
