"""Threads of this process: one for a call, several for many jobs, and how many torch uses."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

from napari_restore._confined import CANCELLED
from napari_restore.engine.machine.device import assume_cores, cores

T = TypeVar("T")
R = TypeVar("R")


def on_new_thread(body: Callable[[], T], name: str, stop: threading.Event | None = None) -> T:
    """Run `body` on a new thread and return its result; its errors are raised here."""
    # For calls that set torch's number of threads, which belongs to the thread that sets it. Where
    # the wait is interrupted (Ctrl-C), `stop` is set and `body` ends before that is raised.
    results: list[T] = []
    errors: list[BaseException] = []
    stop = stop or threading.Event()

    def run() -> None:
        CANCELLED.set(stop)
        try:
            results.append(body())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    try:
        thread.join()
    except BaseException:
        stop.set()
        thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]


def map_parallel(
    jobs: Iterable[T],
    work: Callable[[T], R],
    workers: int,
    *,
    name: str,
    begin: Callable[[], object] | None = None,
) -> Iterator[R]:
    """Yield ``work(job)`` for every job, in their order, computed on `workers` threads.

    No more than `workers` results wait. An error of a job is raised here; jobs that have not begun
    are then left. Each thread is named after `name` and calls `begin` first.
    """
    with ThreadPoolExecutor(max(1, workers), name, begin) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True)
class Threads:
    """Numbers of threads of a process: sums that are divided among as many have the same bits."""

    cores: int
    torch: int

    @classmethod
    def of_process(cls) -> Self:
        """Return those of this process."""
        import torch

        return cls(cores(), torch.get_num_threads())

    @contextmanager
    def used(self) -> Iterator[None]:
        """Compute with as many; for one thread of a process at a time."""
        import torch

        before = torch.get_num_threads()
        assume_cores(self.cores)
        torch.set_num_threads(self.torch)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            assume_cores(None)
