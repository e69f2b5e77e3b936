"""Processes that make batches ahead, in memory shared with the one that asks for them."""

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

SLOTS = 2
"""Batches that each process may have ready."""
NICENESS = 5
"""Training comes first, and a person's other work before both."""


class WorkerLost(RestoreError):
    """A process that makes batches has ended."""


class Ahead:
    """Batches from number `start` on, in order; number i comes from process i % `workers`."""

    def __init__(self, packed: Pack, recipe: Recipe, seed: int, workers: int, start: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._recipe, self._step = recipe, start
        self._lines: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._buffers: list[Any] = []
        try:
            for number in range(workers):
                # Anonymous shared memory where there is room for it, else a deleted file.
                buffer = context.RawArray(ctypes.c_byte, SLOTS * slot_bytes(recipe))
                here, there = context.Pipe()
                # The first of the process: the least step from `start` on that is its own.
                first = start + (number - start) % workers
                process = context.Process(
                    target=_work,
                    args=(there, buffer, packed, recipe, seed, first, workers),
                    name=f"batches-{number}",
                    daemon=True,
                )
                self._buffers.append(buffer)
                self._lines.append(here)
                self._processes.append(process)
                with _deaf():
                    process.start()
                # Else the line would stay open when the process dies.
                there.close()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Ahead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def next(self) -> tuple[Arrays, tuple[str, ...]]:
        """The next batch's arrays and names. Raises what its process raised, or `WorkerLost`."""
        number = self._step % len(self._lines)
        line = self._lines[number]
        try:
            told = line.recv()
        except (EOFError, OSError) as error:
            raise WorkerLost(
                "A process that makes batches has ended.", "Start again; the run goes on."
            ) from error
        if isinstance(told, BaseException):
            raise told
        step, slot, names = told
        assert step == self._step
        shared = views(self._buffers[number], self._recipe, slot)
        arrays = {name: values.copy() for name, values in shared.items()}
        line.send(slot)
        self._step += 1
        return arrays, names

    def close(self) -> None:
        """End all processes at once."""
        for process in self._processes:
            if process.pid is not None:
                process.terminate()
        for process in self._processes:
            if process.pid is not None:
                process.join(5)
                if process.is_alive():
                    process.kill()
                    process.join()
        for line in self._lines:
            line.close()
        self._processes, self._lines, self._buffers = [], [], []


def _work(
    line: Connection,
    buffer: Any,
    packed: Pack,
    recipe: Recipe,
    seed: int,
    step: int,
    stride: int,
) -> None:
    """Make batches number `step`, `step + stride`, … until nobody listens any more."""
    # Ctrl-C reaches the whole group; the process that trains decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    torch.set_num_threads(1)
    try:
        sampler = Sampler(packed, recipe)
        slots = [views(buffer, recipe, slot) for slot in range(SLOTS)]
        free = list(range(SLOTS))
        while True:
            while not free or line.poll():
                free.append(line.recv())
            slot = free.pop(0)
            names = fill(slots[slot], sampler, seed, step)
            line.send((step, slot, names))
            step += stride
    except (EOFError, BrokenPipeError, ConnectionError):
        return
    except Exception as error:
        line.send(error)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes started within hear no Ctrl-C, not even while they import; POSIX only.

    Blocked and not ignored: what comes meanwhile reaches this process afterwards.
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
