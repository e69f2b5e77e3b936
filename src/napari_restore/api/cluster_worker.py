"""Functions that the workers of a cluster call, and what they keep between two calls."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from napari_restore.api._task_cache import TaskCache
from napari_restore.errors import BadModel

if TYPE_CHECKING:
    from napari_restore.engine import BlockPart, InWorker, Plan, RangeReport

Task = dict[str, Any]
KEPT_STOPS = 100
"""Runs that were stopped are remembered for ranges that begin later."""
_cache = TaskCache()
_opening = threading.Lock()
_computing = threading.Lock()
_run: tuple[str, InWorker] | None = None
_stops: dict[str, threading.Event] = {}


def check(task: Task) -> None:
    """Raise where this worker does not see what `task` names, or sees something else."""
    from napari_restore.engine import PartWriter

    with _opening:
        plan = _plan(task)
    PartWriter(plan.store, plan.key)


def restore_range(
    task: Task, run: str, part: str, tiles: list[list[int]], step: dict[str, Any] | None = None
) -> RangeReport:
    """Restore `tiles` of a task and note them in the file `part` of its store.

    Of a model that sweeps over the image, compute its `step`. Ranges are computed one after
    another, each on all threads of the worker; one that waits has its turn at once. `run` is the
    id of the client's run, for `stop`.
    """
    from distributed import get_worker

    from napari_restore.engine import Region, topic_of

    worker, number = get_worker(), None if step is None else step["number"]
    with _computing:
        stop = _stop_of(run)
        loaded = _loaded(task, run, worker.state.nthreads)
        try:
            return loaded.restore(
                part,
                [Region(*tile) for tile in tiles],
                stop,
                lambda core: worker.log_event(topic_of(run), {"step": number, "region": core}),
                step,
            )
        finally:
            if stop.is_set():
                _close(run)


def count_blocks(task: Task, boxes: list[list[int]]) -> list[BlockPart]:
    """Count these blocks of the whole image of a task, on all threads of the worker."""
    from distributed import get_worker

    from napari_restore.engine import Region, count_parts

    with _computing:
        with _opening:
            plan = _plan(task)
        threads = get_worker().state.nthreads
        return count_parts(plan, [Region(*box) for box in boxes], threads)


def stop(run: str) -> None:
    """End the ranges of `run` within a tile, also those that have not begun; free what it keeps."""
    _stop_of(run).set()
    # Else the range that is computed frees it at its end.
    if _computing.acquire(blocking=False):
        try:
            _close(run)
        finally:
            _computing.release()


def _close(run: str) -> None:
    global _run
    if _run is not None and _run[0] == run:
        _run[1].close()
        _run = None


def _stop_of(run: str) -> threading.Event:
    while len(_stops) > KEPT_STOPS:
        _stops.pop(next(iter(_stops)), None)
    return _stops.setdefault(run, threading.Event())


def _loaded(task: Task, run: str, threads: int) -> InWorker:
    """Return the run of this process for `task`, opened by its first range."""
    global _run
    from napari_restore.engine import range_run

    if _run is None or _run[0] != run:
        if _run is not None:
            _run[1].close()
            _run = None
        with _opening:
            _run = (run, range_run(_plan(task), threads))
    return _run[1]


def _plan(task: Task) -> Plan:
    plan = _cache.plan(task)
    if plan.model.card.weights_sha256 != task["weights_sha256"]:
        raise BadModel(
            f"The weights of {plan.model.card.id} are not those of the plan.",
            "Copy the same file to all machines.",
        )
    return plan
