"""The work of one process of a cluster: ranges of the tiles of a plan."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from napari_restore._heap import keep_freed_memory, release_freed_memory
from napari_restore.engine._region import Region
from napari_restore.engine.cluster._prepared_file import read_prepared
from napari_restore.engine.masks._open_mask import open_mask
from napari_restore.engine.memory._budget import PeakMemory
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.planning._tiles import Schedule
from napari_restore.engine.running._local_run import LocalRun
from napari_restore.engine.running._parallel import map_parallel
from napari_restore.engine.running._pipeline import Pipeline
from napari_restore.engine.running._tile import TileOutput
from napari_restore.engine.running._tile_reader import TileReader
from napari_restore.engine.statistics._context import context_exclude
from napari_restore.engine.statistics._context_blocks import BlockPart, ContextBlocks
from napari_restore.engine.storage._part_writer import PartWriter
from napari_restore.engine.storage._store import SHARED
from napari_restore.images import chunk_cache


@dataclass(frozen=True)
class RangeReport:
    """What a worker returns of a range of tiles; no pixels."""

    lines: list[dict[str, Any]]
    """Entries of the store's journal, one for each finished tile."""
    computed: int
    """Tiles that this call has computed; the others were finished by a worker that was lost."""
    seconds: float
    process: str
    """Host and process id of the worker."""
    added_bytes: int
    """Most memory so far beyond the idle worker."""
    backoffs: int


def count_parts(plan: Plan, boxes: list[Region], threads: int) -> list[BlockPart]:
    """Return what `ContextBlocks` of the image of `plan` count in `boxes`, for another process."""
    image = plan.image.full or plan.image
    exclude = context_exclude(image, plan.reading.exclude)
    blocks = ContextBlocks(image, exclude, plan.described, sampled=False)
    return list(map_parallel(boxes, blocks.part, threads, name="context"))


class RangeRun(LocalRun):
    """A plan in a worker: all that its tiles share is loaded once, by the first range.

    `threads` is the number of threads that the worker may use. Tiles are computed as in a run on
    one machine and written to the store of the plan, which all workers see.
    """

    def __init__(self, plan: Plan, threads: int) -> None:
        workers = max(1, min(plan.layout.workers, threads))
        # Other processes compute on the other cores.
        each = plan.layout.invariance.threads or max(1, threads // workers)
        layout = replace(plan.layout, workers=workers, threads=each)
        # The process that keeps the journal makes the levels: their chunks are of several tiles.
        super().__init__(replace(plan, layout=layout, pyramid=False), lambda event: None)
        keep_freed_memory()
        self._open = ExitStack()
        self._memory = self._open.enter_context(
            PeakMemory(limit=plan.memory, release=release_freed_memory)
        )
        self._open.enter_context(chunk_cache.bounded(plan.layout.read_cache_bytes))
        self._parts = PartWriter(plan.store, plan.key)
        for frame in plan.image.frames:
            self._decode_once(frame)
        exclude = open_mask(plan.reading.exclude, plan.image) if plan.reading.exclude else None
        plan.model.to(plan.device.torch)
        prepared = read_prepared(plan.store / SHARED, plan.image)
        self.reader = TileReader(plan.image, exclude, plan.model.card.uses_validity)
        self._tile_work = self._work(prepared)

    def close(self) -> None:
        """Give back what the run has limited and measured."""
        self._open.close()

    def restore(
        self,
        name: str,
        tiles: list[Region],
        stop: threading.Event,
        done: Callable[[Region], None],
    ) -> RangeReport:
        """Restore what of `tiles` the part `name` has not yet; report all that it has.

        `done` is called after each tile. Ends within a tile when `stop` is set.
        """
        plan = self.plan
        began = time.perf_counter()
        part = self._parts.part(name)
        finished = {Region(*line["region"]) for line in part.lines}
        before = self._totals.backoffs

        def write(output: TileOutput) -> None:
            part.write(output.core, output.pixels, output.maps, output.entry)
            done(output.core)

        pending = [tile for tile in tiles if tile not in finished]
        if pending:
            backoff, compute = self._totals.count_backoff, self._tile_work.run
            Pipeline(plan, stop, backoff, Schedule(pending), self._read, compute).run(write)
        return RangeReport(
            lines=part.lines,
            computed=len(part.lines) - len(finished),
            seconds=time.perf_counter() - began,
            process=f"{platform.node()}:{os.getpid()}",
            added_bytes=self._memory.peak - self._memory.start,
            backoffs=self._totals.backoffs - before,
        )
