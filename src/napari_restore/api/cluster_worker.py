"""Functions that the workers of a cluster call for ranges of tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_restore.api._worker_state import (
    cache,
    check_same_model,
    opening,
    stop_of,
    turn,
    turn_if_free,
)

if TYPE_CHECKING:
    from napari_restore.engine import BlockPart, Plan, RangeReport, RangeRun

Task = dict[str, Any]
_run: tuple[str, RangeRun] | None = None


def check(task: Task) -> None:
    """Raise where this worker does not see what `task` names, or sees something else."""
    from napari_restore.engine import PartWriter

    with opening:
        plan = _plan(task)
    PartWriter(plan.store, plan.key)


def restore_range(
    task: Task, run: str, part: str, tiles: list[list[int]], step: dict[str, Any]
) -> RangeReport:
    """Restore `tiles` of a task and note them in the file `part` of its store.

    Of the program of the plan's model compute its `step`. Ranges are computed one after
    another, each on all threads of the worker; one that waits has its turn at once. `run` is the
    id of the client's run, for `stop`.
    """
    from distributed import get_worker

    from napari_restore.engine import Region, topic_of

    worker, number = get_worker(), step["number"]
    stop = stop_of(run)
    try:
        with turn():
            return _loaded(task, run, worker.state.nthreads).restore(
                part,
                [Region(*tile) for tile in tiles],
                stop,
                lambda core: worker.log_event(topic_of(run), {"step": number, "region": core}),
                step,
            )
    finally:
        if stop.is_set():
            _free(run)


def count_blocks(task: Task, boxes: list[list[int]]) -> list[BlockPart]:
    """Count these blocks of the whole image of a task, on all threads of the worker."""
    from distributed import get_worker

    from napari_restore.engine import Region, count_parts

    worker = get_worker()
    with turn():
        with opening:
            plan = _plan(task)
        threads = worker.state.nthreads
        return count_parts(plan, [Region(*box) for box in boxes], threads)


def stop(run: str) -> None:
    """End the ranges of `run` within a tile, also those that have not begun; free what it keeps."""
    stop_of(run).set()
    _free(run)


def _free(run: str) -> None:
    """Free what is kept of `run`; where a range is computed now, that does so at its end."""
    global _run
    with turn_if_free() as is_free:
        if is_free and _run is not None and _run[0] == run:
            _run[1].close()
            _run = None


def _loaded(task: Task, run: str, threads: int) -> RangeRun:
    """Return the run of this process for `task`, opened by its first range."""
    global _run
    from napari_restore.engine import RangeRun

    if _run is None or _run[0] != run:
        if _run is not None:
            _run[1].close()
            _run = None
        with opening:
            _run = (run, RangeRun(_plan(task), threads))
    return _run[1]


def _plan(task: Task) -> Plan:
    plan = cache.plan(task)
    check_same_model(plan.model, task, "plan")
    return plan
