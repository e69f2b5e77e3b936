"""Functions that the workers of a cluster call for rows of a table and cases of an evaluation."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_restore.api._worker_state import cache, check_same_model, opening, stop_of, turn
from napari_restore.errors import (
    BadOutput,
    Cancelled,
    InputError,
    RestoreError,
    SourceChanged,
)

if TYPE_CHECKING:
    from napari_restore.explain import RowValues
    from napari_restore.models import RestorationModel
    from napari_restore.training.score import CaseAnswer, CaseItem, MethodTask, ScoringTask

Task = dict[str, Any]
BUSY = 0.5
"""Seconds between two attempts where a lost client's worker still computes the same."""


@dataclass(frozen=True)
class RowAnswer:
    """What a worker returns of a row; no pixels."""

    result: RowValues | RestoreError
    """An error is that of this row; the others go on."""
    notes: list[str] = field(default_factory=list)


def check_table(task: Task) -> None:
    """Raise where this worker does not see images, models or files of a table, or sees others."""
    from napari_restore import images
    from napari_restore.engine import digest

    for spec in task["models"]:
        _model(spec)
    for described in task["images"]:
        # Not those of the cache: there may be more than it holds, and it closes the oldest.
        image = images.Image.from_spec(described["spec"])
        try:
            if image.fingerprint != described["fingerprint"]:
                raise _changed(image.name)
        finally:
            image.close()
    for name, known in task["files"].items():
        _check_seen(name)
        if digest(Path(name)) != known:
            raise _changed(name)
    if task["baseline_fingerprint"] is not None:
        baseline = task["options"]["baseline"]
        _check_seen(baseline)
        if images.open_image(baseline).fingerprint != task["baseline_fingerprint"]:
            raise _changed(baseline)


def attribute_row(task: Task, run: str, item: Task) -> RowAnswer:
    """Compute one row of a table; an error of its own is part of the answer.

    `item` names image, model and place. Rows are computed one after another, each on as many threads
    as the client has: sums are divided among them. Raises `Cancelled` after a stop of `run`.
    """
    from napari_restore.api._attribution import attribute
    from napari_restore.engine import Note, StoreBusy
    from napari_restore.explain import measured

    notes: list[str] = []

    def keep_note(event: Any) -> None:
        if isinstance(event, Note):
            notes.append(event.text.marked)

    with _turn(task, run) as stop:
        while True:
            try:
                with opening:
                    image = cache.image(item["spec"], item["fingerprint"])
                found = attribute(
                    image,
                    _model(task["models"][item["model"]]),
                    item["box"],
                    polygon=item["polygon"],
                    emit=keep_note,
                    stop=stop,
                    **task["options"],
                )
                return RowAnswer(measured(found), notes)
            except StoreBusy as error:
                if stop.wait(BUSY):
                    raise Cancelled("The run was cancelled.") from error
            except Cancelled:
                raise
            except RestoreError as error:
                return RowAnswer(error, notes)


def check_scoring(task: Task) -> None:
    """Raise where this worker does not see models, images or the output folder of an evaluation."""
    scoring: ScoringTask = task["scoring"]
    for method in scoring.methods:
        _model({"spec": method.spec, **method.identity})
    for name, size in task["sizes"].items():
        _check_seen(name)
        if os.path.getsize(name) != size:
            raise _changed(name)
    output = scoring.settings.output
    if output is not None:
        _check_seen(os.fspath(output))
        try:
            with tempfile.TemporaryFile(dir=output):
                pass
        except OSError as error:
            raise BadOutput(
                f"The folder {output} cannot be written: {error.strerror or error}.",
                "Share it with all machines.",
            ) from error


def score_case(task: Task, run: str, item: CaseItem) -> CaseAnswer:
    """Score one case of an evaluation with all methods; raises `Cancelled` after a stop of `run`."""
    from napari_restore.training.score import score_item

    def load(method: MethodTask) -> RestorationModel:
        return _model({"spec": method.spec, **method.identity})

    with _turn(task, run) as stop:
        return score_item(task["scoring"], item, load, task["options"], stop)


@contextmanager
def _turn(task: Task, run: str) -> Iterator[threading.Event]:
    """Wait for the turn of an item of `run`; yields what is set when it is to stop."""
    with turn():
        stop = stop_of(run)
        if stop.is_set():
            raise Cancelled("The run was cancelled.")
        with task["threads"].used():
            yield stop


def _model(described: Task) -> RestorationModel:
    with opening:
        model = cache.model(described["spec"])
    check_same_model(model, described, "client")
    return model


def _check_seen(name: str) -> None:
    if not os.path.exists(name):
        raise InputError(
            f"{name} is not there.", "Put it in a folder that all machines see under the same name."
        )


def _changed(name: str) -> SourceChanged:
    return SourceChanged(f"{name} is another file there.", "Copy the same file to all machines.")
