"""Batches in order, prefetched by worker processes and independent of their number."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from napari_restore.extension import BadParameter, RestoreError, reached
from napari_restore_lab.data._pack import Pack
from napari_restore_lab.data._recipe import Recipe
from napari_restore_lab.data._sample import Sampler


@dataclass(frozen=True)
class Batch:
    """N crops of one size, on the CPU; floats are float32, colours display values 0 to 1."""

    hazy: torch.Tensor
    """(N, 3, h, w); of brackets (N, 9, h, w), dark to bright."""
    clear: torch.Tensor
    """(N, 3, h, w)."""
    depth: torch.Tensor
    """(N, 1, h, w) applied optical depth at 550 nm; 0 where no haze was added."""
    airlight: torch.Tensor
    """(N, 3); 1 where no haze was added."""
    valid: torch.Tensor
    """(N, 1, h, w) bool; False for pixels without data, excluded from losses."""
    names: tuple[str, ...]
    """Names of the scenes."""

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """Return the batch on another device."""
        tensors: dict[str, Any] = {
            item.name: value.to(device, non_blocking=non_blocking)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), torch.Tensor)
        }
        return replace(self, **tensors)


class BatchLoader:
    """An endless sequence of batches; batch `step` is a function of pack, recipe and seed.

    They are prefetched by `workers` processes; 0: they are made on request.
    """

    def __init__(self, packed: Pack, recipe: Recipe, seed: int, workers: int = 0) -> None:
        if seed < 0 or workers < 0:
            raise BadParameter("Seed and workers are at least 0.", "Give other numbers.")
        self.pack, self.recipe, self.seed, self.workers = packed, recipe, seed, workers
        self._sampler = Sampler(packed, recipe)

    def batch(self, step: int) -> Batch:
        """Return batch `step`, made in this process."""
        arrays = empty(self.recipe.for_batch(self.seed, step))
        return _batch(arrays, fill(arrays, self._sampler, self.seed, step))

    def batches(self, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield batches from `start_step` on; closing the iterator ends its workers."""
        if not self.workers:
            step = start_step
            while True:
                yield self.batch(step)
                step += 1
        with Prefetcher(self.pack, self.recipe, self.seed, self.workers, start_step) as ahead:
            while True:
                yield _batch(*ahead.next())


def _batch(arrays: Arrays, names: tuple[str, ...]) -> Batch:
    return Batch(**{name: torch.from_numpy(values) for name, values in arrays.items()}, names=names)


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

    def __exit__(self, *_: object) -> None:
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
    reached("batches begin")
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
    # It starts with the first process, and would leave SIGINT unblocked for that.
    resource_tracker.ensure_running()
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


Arrays = dict[str, npt.NDArray[Any]]


class ArrayLayout(NamedTuple):
    """One array of a batch."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


def layouts(recipe: Recipe) -> dict[str, ArrayLayout]:
    """Return shape and dtype of the arrays of a batch by name, those of `Batch`."""
    n, side, real = recipe.batch, recipe.size, np.dtype(np.float32)
    return {
        "hazy": ArrayLayout((n, recipe.planes, side, side), real),
        "clear": ArrayLayout((n, 3, side, side), real),
        "depth": ArrayLayout((n, 1, side, side), real),
        "airlight": ArrayLayout((n, 3), real),
        "valid": ArrayLayout((n, 1, side, side), np.dtype(np.bool_)),
    }


def fill(
    arrays: Mapping[str, npt.NDArray[Any]], sampler: Sampler, seed: int, step: int
) -> tuple[str, ...]:
    """Write batch number `step` into `arrays`, each as in `layouts`; return the names of the scenes."""
    names = []
    sampler = sampler.with_recipe(sampler.recipe.for_batch(seed, step))
    for number in range(sampler.recipe.batch):
        sample = sampler.sample(np.random.default_rng((seed, step, number)))
        for name, values in (("hazy", sample.hazy), ("clear", sample.clear)):
            for channel in range(values.shape[2]):
                # Twice as fast as one transposition.
                arrays[name][number, channel] = values[..., channel]
        arrays["valid"][number, 0] = sample.valid
        haze = sample.haze
        arrays["depth"][number, 0] = 0 if haze is None else haze.depth
        arrays["airlight"][number] = 1 if haze is None else haze.airlight
        names.append(sample.name)
    return tuple(names)


def empty(recipe: Recipe) -> Arrays:
    """Return uninitialised arrays for one batch."""
    return {name: np.empty(item.shape, item.dtype) for name, item in layouts(recipe).items()}


def views(buffer: Any, start: int, recipe: Recipe) -> Arrays:
    """Return the arrays of a batch of one size as views of a buffer, from byte `start` on."""
    offset, arrays = start, {}
    for name, item in layouts(recipe).items():
        count = int(np.prod(item.shape))
        arrays[name] = np.frombuffer(buffer, item.dtype, count, offset).reshape(item.shape)
        offset += _aligned(item.bytes)
    return arrays


def slot_bytes(recipe: Recipe) -> int:
    """Return the bytes of one batch in a buffer; of the largest where there are several sizes."""
    return max(
        sum(_aligned(item.bytes) for item in layouts(one).values()) for one in recipe.by_size()
    )


def _aligned(size: int) -> int:
    return -(-size // 64) * 64
