"""Pipeline of a run's tiles: threads that read ahead, compute, and write behind."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from napari_restore.engine._region import Region
from napari_restore.engine.memory._device import Device
from napari_restore.engine.planning._plan import READ_AHEAD, WRITE_BEHIND
from napari_restore.engine.planning._tiles import CELL, Schedule
from napari_restore.engine.running._tile import TileInput, clear_frames
from napari_restore.errors import OutOfMemory, option

T = TypeVar("T")
In = TypeVar("In", bound=TileInput)
Out = TypeVar("Out")
_POLL = 0.05
"""Seconds after which a waiting thread checks whether it should stop."""


@dataclass
class Pipeline(Generic[In, Out]):
    """One reader, `workers` computing threads, and the caller as the only writer.

    Queues between them are short, so memory is workers + queued tiles whatever
    the image's size. Every wait ends when `stop` is set.
    """

    schedule: Schedule
    read: Callable[[Region], In]
    """Returns a tile's input for its core."""
    compute: Callable[[list[In]], list[Out]]
    """Computes tiles of equal input shape."""
    step: int
    """Tile edges are multiples of this many pixels."""
    workers: int
    threads: int
    batch: int
    stop: threading.Event
    device: Device
    backoffs: int = 0

    def run(self, write: Callable[[Out], None]) -> None:
        """Work through the schedule, tile by tile; `write` is called in this thread.

        The first error of any thread stops all of them and is raised here.
        """
        inputs: queue.Queue[list[In] | None] = queue.Queue(READ_AHEAD)
        outputs: queue.Queue[Out | None] = queue.Queue(WRITE_BEHIND)
        errors: list[BaseException] = []

        def guarded(body: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                try:
                    body()
                except BaseException as error:
                    errors.append(error)
                    self.stop.set()

            return run

        def read() -> None:
            for tiles in self._batches():
                if not self._put(inputs, tiles):
                    return
            for _ in range(self.workers):
                self._put(inputs, None)

        def compute() -> None:
            torch.set_num_threads(self.threads)
            while True:
                batch = self._get(inputs)
                if batch is None:
                    break
                for output in self._compute(batch):
                    if not self._put(outputs, output):
                        return
            self._put(outputs, None)

        bodies = [read] + [compute] * self.workers
        running = [
            threading.Thread(target=guarded(body), name=f"tiles-{body.__name__}", daemon=True)
            for body in bodies
        ]
        for thread in running:
            thread.start()
        try:
            finished = 0
            while finished < self.workers and not self.stop.is_set():
                output = self._get(outputs)
                if output is None:
                    finished += 1
                else:
                    write(output)
        except BaseException:
            self.stop.set()
            raise
        finally:
            for thread in running:
                thread.join()
        if errors:
            raise errors[0]
        # Tiles that were computed when the user cancelled are kept.
        while not outputs.empty():
            output = outputs.get_nowait()
            if output is not None:
                write(output)

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
            if len(batch) == self.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def _compute(self, batch: list[In]) -> list[Out]:
        """Return the outputs of the batch.

        After running out of memory, tiles are computed one by one, then in quarters.
        """
        try:
            return self.compute(batch)
        except OutOfMemory as error:
            clear_frames(error)
            self.backoffs += 1
        self.device.empty_cache()
        if len(batch) > 1:
            return [output for tile in batch for output in self._compute([tile])]
        parts = quarters(batch[0].core, self.step)
        if len(parts) == 1:
            raise OutOfMemory(
                "Out of memory even with the smallest tile; finished tiles are kept.",
                f"Close other programs or use {option('device', 'cpu')}, "
                "then run the same command again.",
            )
        outputs = []
        for part in parts:
            outputs.extend(self._compute([self.read(part)]))
        return outputs

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
