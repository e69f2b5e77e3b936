"""Tiles that know nothing of each other, worked on by several threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(
    jobs: Iterable[T], work: Callable[[T], R], workers: int, threads: int
) -> Iterator[R]:
    """``work(job)`` for every job, in their order, on `workers` threads of `threads` each.

    No more than `workers` results wait, whatever takes them. What a job raises is raised here;
    jobs that have not begun are then left.
    """
    # Torch's number of threads belongs to the thread that calls it.
    if workers <= 1:
        own = torch.get_num_threads()
        for job in jobs:
            torch.set_num_threads(threads)
            try:
                found = work(job)
            finally:
                torch.set_num_threads(own)
            yield found
        return

    def begin() -> None:
        torch.set_num_threads(threads)

    with ThreadPoolExecutor(workers, "gradients", begin) as pool:
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
