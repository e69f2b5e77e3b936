"""Independent jobs mapped over several threads, with their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


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
