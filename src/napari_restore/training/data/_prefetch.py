"""Worker processes that prefetch batches into shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import torch

from napari_restore.errors import RestoreError
from napari_restore.training.data._arrays import Arrays, fill, slot_bytes, views
from napari_restore.training.data._pack import Pack
from napari_restore.training.data._recipe import Recipe
from napari_restore.training.data._sample import Sampler

SLOTS_PER_WORKER = 2
"""Batches that each worker may have ready."""
NICENESS = 5
"""Niceness of the workers: training and other programs have priority."""


class WorkerLost(RestoreError):
    """A worker process has ended."""


class Prefetcher:
    """Iterator over batches from number `start` on; batch i comes from worker i % `workers`."""

    def __init__(self, packed: Pack, recipe: Recipe, seed: int, workers: int, start: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._recipe, self._seed, self._step = recipe, seed, start
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._buffers: list[Any] = []
        try:
            for number in range(workers):
                # Anonymous shared memory where it fits, else a deleted file.
                buffer = context.RawArray(ctypes.c_byte, SLOTS_PER_WORKER * slot_bytes(recipe))
                parent_end, child_end = context.Pipe()
                # First step of this worker: the smallest from `start` on with its remainder.
                first = start + (number - start) % workers
                process = context.Process(
                    target=_make_batches,
                    args=(child_end, buffer, packed, recipe, seed, first, workers),
                    name=f"batches-{number}",
                    daemon=True,
                )
                self._buffers.append(buffer)
                self._connections.append(parent_end)
                self._processes.append(process)
                with _sigint_blocked():
                    process.start()
                # Otherwise the connection would stay open when the process ends.
                child_end.close()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def next(self) -> tuple[Arrays, tuple[str, ...]]:
        """Return arrays and names of the next batch. Raises errors of its worker, or `WorkerLost`."""
        number = self._step % len(self._connections)
        connection = self._connections[number]
        try:
            message = connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerLost(
                "A process that makes batches has ended.", "Start again; the run continues."
            ) from error
        if isinstance(message, BaseException):
            raise message
        step, slot, names = message
        assert step == self._step
        start = slot * slot_bytes(self._recipe)
        recipe = self._recipe.for_batch(self._seed, step)
        shared = views(self._buffers[number], start, recipe)
        arrays = {name: values.copy() for name, values in shared.items()}
        connection.send(slot)
        self._step += 1
        return arrays, names

    def close(self) -> None:
        """Terminate all workers."""
        for process in self._processes:
            if process.pid is not None:
                process.terminate()
        for process in self._processes:
            if process.pid is not None:
                process.join(5)
                if process.is_alive():
                    process.kill()
                    process.join()
        for connection in self._connections:
            connection.close()
        self._processes, self._connections, self._buffers = [], [], []


def _make_batches(
    connection: Connection,
    buffer: Any,
    packed: Pack,
    recipe: Recipe,
    seed: int,
    step: int,
    stride: int,
) -> None:
    """Make batches `step`, `step + stride`, … until the connection is closed."""
    # Ctrl-C reaches the whole process group, but only the training process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    torch.set_num_threads(1)
    try:
        sampler = Sampler(packed, recipe)
        free = list(range(SLOTS_PER_WORKER))
        while True:
            while not free or connection.poll():
                free.append(connection.recv())
            slot = free.pop(0)
            arrays = views(buffer, slot * slot_bytes(recipe), recipe.for_batch(seed, step))
            names = fill(arrays, sampler, seed, step)
            connection.send((step, slot, names))
            step += stride
    except (EOFError, BrokenPipeError, ConnectionError):
        return
    except Exception as error:
        connection.send(error)


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT for processes started within the block, also during their imports; POSIX only.

    A blocked signal is delivered to this process afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
