"""Independent jobs mapped over several threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def map_parallel(jobs: Iterable[T], work: Callable[[T], R], workers: int) -> Iterator[R]:
    """Yield ``work(job)`` for every job, in their order, computed on `workers` threads.

    Each uses one torch thread, whatever their number: sums divided among threads depend on how many
    there are. No more than `workers` results wait. An error of a job is raised here; jobs that have
    not begun are then left.
    """

    def begin() -> None:
        # Torch's number of threads belongs to the thread that calls it.
        torch.set_num_threads(1)

    with ThreadPoolExecutor(max(1, workers), "gradients", begin) as pool:
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
