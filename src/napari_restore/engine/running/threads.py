"""Tiles on threads of this process, which read ahead, compute, and write behind."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch

from napari_restore._points import reached
from napari_restore.engine._region import CELL, Region
from napari_restore.engine.machine.failures import clear_frames
from napari_restore.engine.planning.layout import READ_AHEAD, WRITE_BEHIND
from napari_restore.engine.planning.tiles import TileQueue
from napari_restore.engine.running.executor import Executor, In, Out, Stage
from napari_restore.engine.running.state import RunState
from napari_restore.errors import OutOfMemory, option

T = TypeVar("T")
_POLL = 0.05
"""Seconds after which a waiting thread checks whether it should stop."""


class ThreadExecutor(Executor):
    """One reader, the plan's number of computing threads, and the caller as the only writer."""

    def map(self, stage: Stage[Any, Any]) -> None:
        """Work through a stage, tile by tile; the first error of any thread stops all of them and is raised here."""
        # The caller's thread keeps the outputs.
        pipeline = Pipeline(self.state, stage)
        threads, running = pipeline.started(), self.state.plan.layout.workers
        try:
            while running and not self.state.stop.is_set():
                try:
                    output = pipeline.outputs.get(timeout=_POLL)
                except queue.Empty:
                    continue
                if output is None:
                    running -= 1
                else:
                    pipeline.keep(output)
        except BaseException:
            self.state.stop.set()
            raise
        finally:
            for thread in threads:
                thread.join()
        if pipeline.errors:
            raise pipeline.errors[0]
        pipeline.keep_rest()


class Pipeline(Generic[In, Out]):
    """The threads of a stage."""

    # Queues between them are short, so memory is workers + queued tiles whatever the image's size.
    # Every wait ends when the run is stopped.
    def __init__(self, state: RunState, stage: Stage[In, Out]) -> None:
        self.plan, self.stop, self.totals = state.plan, state.stop, state.totals
        self.stage, self.read, self.compute = stage, stage.read, stage.compute
        self.schedule = (
            state.ordered(stage.tiles, backwards=stage.backwards)
            if stage.restores
            else TileQueue(stage.tiles)
        )
        self._inputs: queue.Queue[list[In] | None] = queue.Queue(READ_AHEAD)
        self.outputs: queue.Queue[Out | None] = queue.Queue(WRITE_BEHIND)
        """What is to be kept; None once for each computing thread that has ended."""
        self.errors: list[BaseException] = []

    def started(self) -> list[threading.Thread]:
        """Start the threads; return them."""
        bodies = [("tiles-read", self._read_tiles)]
        bodies += [("tiles-compute", self._compute_tiles)] * self.plan.layout.workers
        threads = [threading.Thread(target=body, name=name, daemon=True) for name, body in bodies]
        for thread in threads:
            thread.start()
        return threads

    def keep(self, output: Out) -> None:
        """Keep and report an output."""
        self.stage.keep(output)
        self.stage.report()
        reached("tile stored" if self.stage.restores else "tile swept")

    def keep_rest(self) -> None:
        """Keep what was computed when the user cancelled."""
        while not self.outputs.empty():
            output = self.outputs.get_nowait()
            if output is not None:
                self.keep(output)

    # -- threads ---------------------------------------------------------------------

    def _read_tiles(self) -> None:
        with self._errors_kept():
            for tiles in self._batches():
                if not self._put(self._inputs, tiles):
                    return
            for _ in range(self.plan.layout.workers):
                self._put(self._inputs, None)

    def _compute_tiles(self) -> None:
        with self._errors_kept():
            torch.set_num_threads(self.plan.layout.threads)
            while (batch := self._get(self._inputs)) is not None:
                outputs: list[Out] | None = None
                try:
                    outputs = self.compute(batch)
                except OutOfMemory as error:
                    self._back_off(error)
                for output in self._in_parts(batch) if outputs is None else outputs:
                    if not self._put(self.outputs, output):
                        return
                # It need not stay in memory while this thread waits for the next batch.
                outputs = None
            self._put(self.outputs, None)

    @contextmanager
    def _errors_kept(self) -> Iterator[None]:
        """Keep an error of a thread for `run` to raise, and stop the other threads."""
        try:
            yield
        except BaseException as error:
            self.errors.append(error)
            self.stop.set()

    # -- batches ---------------------------------------------------------------------

    def _batches(self) -> Iterator[list[In]]:
        """Yield inputs in scheduled order, equal input shapes together up to the batch size."""
        batch: list[In] = []
        while not self.stop.is_set():
            core = self.schedule.pop()
            if core is None:
                break
            tile = self.read(core)
            if batch and batch[0].input_box.shape != tile.input_box.shape:
                yield batch
                batch = []
            batch.append(tile)
            if len(batch) == self.plan.layout.tile_batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def _back_off(self, error: OutOfMemory) -> None:
        """Free what a failed batch took; what is smaller is tried once `error` is forgotten."""
        clear_frames(error)
        self.totals.backoffs += 1

    def _in_parts(self, batch: list[In]) -> list[Out]:
        """Return the outputs of a batch that ran out of memory: tile by tile, then in quarters."""
        self.plan.device.empty_cache()
        if len(batch) > 1:
            return [output for tile in batch for output in self._computed([tile])]
        parts = quarters(batch[0].core, self.plan.step)
        if len(parts) == 1 or self.plan.computing.is_whole:
            raise OutOfMemory(
                "Out of memory even with the smallest tile; finished tiles are kept.",
                f"Close other programs or use {option('device', 'cpu')}, "
                "then run the same command again.",
            )
        return [output for part in parts for output in self._computed([self.read(part)])]

    def _computed(self, batch: list[In]) -> list[Out]:
        try:
            return self.compute(batch)
        except OutOfMemory as error:
            self._back_off(error)
        return self._in_parts(batch)

    # -- queues ----------------------------------------------------------------------

    def _put(self, target: queue.Queue[T], item: T) -> bool:
        while not self.stop.is_set():
            try:
                target.put(item, timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    def _get(self, source: queue.Queue[T]) -> T | None:
        while not self.stop.is_set():
            try:
                return source.get(timeout=_POLL)
            except queue.Empty:
                continue
        return None


def quarters(core: Region, step: int = CELL) -> list[Region]:
    """Return `core` cut in up to four at multiples of `step`; itself when it is one cell."""

    def halves(low: int, high: int) -> list[tuple[int, int]]:
        middle = (low // step + -(-(high - low) // (2 * step))) * step
        return [(low, high)] if middle >= high else [(low, middle), (middle, high)]

    return [
        Region(y0, x0, y1, x1)
        for y0, y1 in halves(core.y0, core.y1)
        for x0, x1 in halves(core.x0, core.x1)
    ]
