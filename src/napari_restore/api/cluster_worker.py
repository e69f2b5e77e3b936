"""Functions that the workers of a cluster call, and what a worker keeps between two calls.

For ranges of tiles and rows of a table. They are sent by name.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore import engine, explain, images, models
from napari_restore._points import reached
from napari_restore.api._task_cache import TaskCache
from napari_restore.errors import (
    BadModel,
    Cancelled,
    InputError,
    ResourceError,
    RestoreError,
    SourceChanged,
)

if TYPE_CHECKING:
    from napari_restore.engine import BlockPart, Plan, RangeReport, RangeRun
    from napari_restore.explain import RowValues
    from napari_restore.models import RestorationModel

Task = dict[str, Any]
BUSY = 0.5
"""Seconds between two attempts where a lost client's worker still computes the same."""
KEPT_STOPS = 100
"""Runs that were stopped are remembered for work that begins later."""
_cache = TaskCache()
_opening = threading.Lock()
"""To be held while `_cache` opens something."""
_computing = threading.Lock()
_stops: dict[str, threading.Event] = {}
_log = logging.getLogger("distributed.worker")
_run: tuple[str, RangeRun] | None = None


# -- ranges of tiles ------------------------------------------------------------------


def check(task: Task) -> None:
    """Raise where this worker does not see what `task` names, or sees something else."""
    with _opening:
        plan = _plan(task)
    engine.PartWriter(plan.store, plan.key)


def restore_range(
    task: Task, run: str, part: str, tiles: list[list[int]], step: dict[str, Any]
) -> RangeReport:
    """Restore `tiles` of a task and note them in the file `part` of its store.

    Of the program of the plan's model compute its `step`. Ranges are computed one after
    another, each on all threads of the worker; one that waits has its turn at once. `run` is the
    id of the client's run, for `stop`.
    """
    from distributed import get_worker

    worker, number = get_worker(), step["number"]
    stop = _stop_of(run)
    try:
        with _turn():
            return _loaded(task, run, worker.state.nthreads).restore(
                part,
                [engine.Region(*tile) for tile in tiles],
                stop,
                lambda core: worker.log_event(
                    engine.topic_of(run), {"step": number, "region": core}
                ),
                step,
            )
    finally:
        if stop.is_set():
            _free(run)


def count_blocks(task: Task, boxes: list[list[int]]) -> list[BlockPart]:
    """Count these blocks of the whole image of a task, on all threads of the worker."""
    from distributed import get_worker

    worker = get_worker()
    with _turn():
        with _opening:
            plan = _plan(task)
        threads = worker.state.nthreads
        return engine.count_parts(plan, [engine.Region(*box) for box in boxes], threads)


def stop(run: str) -> None:
    """End the ranges of `run` within a tile, also those that have not begun; free what it keeps."""
    _stop_of(run).set()
    _free(run)


def _free(run: str) -> None:
    """Free what is kept of `run`; where a range is computed now, that does so at its end."""
    global _run
    if _computing.acquire(blocking=False):
        try:
            if _run is not None and _run[0] == run:
                _run[1].close()
                _run = None
        finally:
            _computing.release()


def _loaded(task: Task, run: str, threads: int) -> RangeRun:
    """Return the run of this process for `task`, opened by its first range."""
    global _run

    if _run is None or _run[0] != run:
        if _run is not None:
            _run[1].close()
            _run = None
        with _opening:
            _run = (run, engine.RangeRun(_plan(task), threads))
    return _run[1]


def _plan(task: Task) -> Plan:
    plan = _cache.plan(task)
    _check_same_model(plan.model, task, "plan")
    return plan


# -- items ----------------------------------------------------------------------------


@dataclass(frozen=True)
class RowAnswer:
    """What a worker returns of a row; no pixels."""

    result: RowValues | RestoreError
    """An error is that of this row; the others go on."""
    notes: list[str] = field(default_factory=list)


def check_table(task: Task) -> None:
    """Raise where this worker does not see images, models or files of a table, or sees others."""
    for spec in task["models"]:
        model_of(spec)
    for described in task["images"]:
        # Not those of the cache: there may be more than it holds, and it closes the oldest.
        image = images.Image.from_spec(described["spec"])
        try:
            if image.fingerprint != described["fingerprint"]:
                raise changed(image.name)
        finally:
            image.close()
    for name, known in task["files"].items():
        check_seen(name)
        if engine.digest(Path(name)) != known:
            raise changed(name)
    if task["baseline_fingerprint"] is not None:
        baseline = task["options"]["baseline"]
        check_seen(baseline)
        if images.open_image(baseline).fingerprint != task["baseline_fingerprint"]:
            raise changed(baseline)


def attribute_row(task: Task, run: str, item: Task) -> RowAnswer:
    """Compute one row of a table; an error of its own is part of the answer.

    `item` names image, model and place. Rows are computed one after another, each on as many threads
    as the client has: sums are divided among them. Raises `Cancelled` after a stop of `run`.
    """
    from napari_restore.api._attribution import attribute

    notes: list[str] = []

    def keep_note(event: Any) -> None:
        if isinstance(event, engine.Note):
            notes.append(event.text.marked)

    with turn_of(task, run) as stop:
        while True:
            try:
                with _opening:
                    image = _cache.image(item["spec"], item["fingerprint"])
                found = attribute(
                    image,
                    model_of(task["models"][item["model"]]),
                    item["box"],
                    polygon=item["polygon"],
                    emit=keep_note,
                    stop=stop,
                    **task["options"],
                )
                return RowAnswer(explain.measured(found), notes)
            except engine.StoreBusy as error:
                if stop.wait(BUSY):
                    raise Cancelled("The run was cancelled.") from error
            except Cancelled:
                raise
            except RestoreError as error:
                return RowAnswer(error, notes)


@contextmanager
def turn_of(task: Task, run: str) -> Iterator[threading.Event]:
    """Wait for the turn of an item of `run`; yields what is set when it is to stop."""
    with _turn():
        stop = _stop_of(run)
        if stop.is_set():
            raise Cancelled("The run was cancelled.")
        reached("item begins")
        with task["threads"].used():
            yield stop


def model_of(described: Task) -> RestorationModel:
    """Return the model of a spec; raises `BadModel` where it differs from that of the client."""
    with _opening:
        model = _cache.model(described["spec"])
    _check_same_model(model, described, "client")
    return model


def check_seen(name: str) -> None:
    """Raise `InputError` where this worker does not see a file or folder."""
    if not os.path.exists(name):
        raise InputError(
            f"{name} is not there.", "Put it in a folder that all machines see under the same name."
        )


def changed(name: str) -> SourceChanged:
    """Return the error of a file that differs from that of the client."""
    return SourceChanged(f"{name} is another file there.", "Copy the same file to all machines.")


# -- one thing at a time --------------------------------------------------------------


def _check_same_model(model: RestorationModel, known: Mapping[str, Any], owner: str) -> None:
    """Raise `BadModel` for a model that differs from what the `owner` has `known` of it."""
    part = models.changed_part(model, known)
    if part is not None:
        raise BadModel(
            f"The {part} of {model.card.id} are not those of the {owner}.",
            "Copy the same files to all machines.",
        )


@contextmanager
def _turn() -> Iterator[None]:
    """Wait for the turn to compute: a worker does one thing at a time, on all of its threads.

    Errors are raised with the name of the machine, and without their causes: those are in its log.
    """
    from distributed import get_worker

    machine = get_worker().address
    with _computing:
        try:
            yield
        except Cancelled as error:
            raise Cancelled(error.message.marked, error.hint.marked) from None
        except RestoreError as error:
            _log.info("%s", error, exc_info=True)
            raise engine.on_machine(error, machine) from None
        except Exception as error:
            _log.exception("a task of napari-restore failed")
            raise ResourceError(
                f"A worker failed: {error!r} (on {machine}).",
                "See the log of that worker; what is finished is kept.",
            ) from None


def _stop_of(run: str) -> threading.Event:
    """Return what is set when `run` is to stop, also before its work begins."""
    while len(_stops) > KEPT_STOPS:
        _stops.pop(next(iter(_stops)), None)
    return _stops.setdefault(run, threading.Event())
