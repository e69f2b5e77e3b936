"""The work of one process of a cluster: ranges of the tiles of a plan."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import Any

from napari_restore._heap import keep_freed_memory, release_freed_memory
from napari_restore.engine._region import Region
from napari_restore.engine.executors._prepared_file import read_prepared
from napari_restore.engine.executors._range_report import RangeReport
from napari_restore.engine.ledger._store import Part, PartWriter
from napari_restore.engine.ledger._store_files import SHARED
from napari_restore.engine.machine._budget import PeakMemory
from napari_restore.engine.machine._parallel import map_parallel
from napari_restore.engine.masks._open_mask import open_mask
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.planning._tiles import Schedule
from napari_restore.engine.running._local_run import LocalRun
from napari_restore.engine.running._prepared import Prepared
from napari_restore.engine.running._run import Run
from napari_restore.engine.running._tile import TileOutput, TileWork
from napari_restore.engine.running._tile_reader import TileReader
from napari_restore.engine.statistics._context import context_exclude
from napari_restore.engine.statistics._context_blocks import BlockPart, ContextBlocks
from napari_restore.images import chunk_cache

Step = Mapping[str, Any]
"""Sweep that tiles are to go through: its ``number``, and whether it is ``counting``."""


def count_parts(plan: Plan, boxes: list[Region], threads: int) -> list[BlockPart]:
    """Return what `ContextBlocks` of the image of `plan` count in `boxes`, for another process."""
    image = plan.image.full or plan.image
    exclude = context_exclude(image, plan.reading.exclude)
    blocks = ContextBlocks(image, exclude, plan.described, sampled=False)
    return list(map_parallel(boxes, blocks.part, threads, name="context"))


class InWorker(Run):
    """A plan in a worker: all that its tiles share is loaded once, by the first range.

    `threads` is the number of threads that the worker may use. Tiles are computed as in a run on
    one machine and written to the store of the plan, which all workers see.
    """

    def __init__(self, plan: Plan, threads: int) -> None:
        workers = max(1, min(plan.layout.workers, threads))
        # Other processes compute on the other cores.
        each = plan.layout.invariance.threads_each(threads, workers)
        layout = replace(plan.layout, workers=workers, threads=each)
        # The process that keeps the journal makes the levels: their chunks are of several tiles.
        super().__init__(replace(plan, layout=layout, pyramid=False), lambda event: None)
        keep_freed_memory()
        with ExitStack() as opened:
            self._memory = opened.enter_context(
                PeakMemory(limit=plan.memory, release=release_freed_memory)
            )
            opened.enter_context(chunk_cache.bounded(plan.layout.read_cache_bytes))
            self._parts = PartWriter(plan.store, plan.key)
            for frame in plan.image.frames:
                self._decode_once(frame)
            exclude = open_mask(plan.reading.exclude, plan.image) if plan.reading.exclude else None
            plan.model.to(plan.device.torch)
            self.reader = TileReader(plan.image, exclude, plan.model.card.uses_validity)
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
        step: Step | None = None,
    ) -> RangeReport:
        """Compute what of `tiles` the part `name` has not yet; report all that it has.

        `done` is called after each tile. Ends within a tile when `stop` is set.
        """
        began, traffic = time.perf_counter(), _traffic()
        self.stop = stop
        part = self._part(name, step)
        finished = {Region(*line["region"]) for line in part.lines}
        before, known = self._totals.backoffs, len(part.lines)
        pending = self._pending(tiles, finished, step)
        if pending:
            self._compute(part, pending, done, step)
        read, written = (now - then for now, then in zip(_traffic(), traffic, strict=True))
        return RangeReport(
            lines=part.lines,
            computed=len(part.lines) - known,
            seconds=time.perf_counter() - began,
            process=f"{platform.node()}:{os.getpid()}",
            added_bytes=self._memory.peak - self._memory.start,
            backoffs=self._totals.backoffs - before,
            read_bytes=read,
            written_bytes=written,
            rounding=self._rounded(),
        )

    def _pending(
        self, tiles: list[Region], finished: set[Region], step: Step | None
    ) -> list[Region]:
        return [tile for tile in tiles if tile not in finished]

    def _shared_work(self) -> TileWork:
        """Return what all tiles share, as the process that started the run has written it."""
        return self._work(self._prepared())

    def _prepared(self) -> Prepared:
        return read_prepared(self.plan.store / SHARED, self.plan.image)

    def _part(self, name: str, step: Step | None) -> Part:
        return self._parts.part(name)

    def _rounded(self) -> tuple[float, float]:
        return 0.0, 0.0

    def _compute(
        self, part: Part, pending: list[Region], done: Callable[[Region], None], step: Step | None
    ) -> None:
        """Compute tiles, write what they leave, and note it in `part`."""
        raise NotImplementedError


class RangeRun(InWorker, LocalRun):
    """A plan in a worker whose tiles are each restored by themselves."""

    @cached_property
    def _tile_work(self) -> TileWork:
        return self._shared_work()

    def _compute(
        self, part: Part, pending: list[Region], done: Callable[[Region], None], step: Step | None
    ) -> None:
        def write(output: TileOutput) -> None:
            part.write(output.core, output.pixels, output.maps, {output.core: output.entry})
            done(output.core)

        compute = self._checked(self._tile_work, pending[:0])
        self._pipeline(Schedule(pending), self._read, compute).run(write)


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
