"""Evaluations on a cluster: what its workers call, and the client's part."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from napari_restore.extension import (
    BadOutput,
    Event,
    ItemRun,
    Remote,
    RestorationModel,
    Threads,
    cluster_worker,
    connected,
)
from napari_restore_lab.score import Case, CaseAnswer, CaseItem, MethodTask, ScoringTask, score_item

Task = dict[str, Any]
CASES = "images"


def scored_on(
    cluster: Any,
    options: Mapping[str, Any],
    emit: Callable[[Event], None],
    stop: threading.Event | None,
) -> Callable[[ScoringTask, Iterator[CaseItem], Sequence[Case]], Iterator[tuple[int, CaseAnswer]]]:
    """Return what lets the workers of a cluster score cases; `options` are those of `plan`."""

    def spread(
        scoring: ScoringTask, items: Iterator[CaseItem], cases: Sequence[Case]
    ) -> Iterator[tuple[int, CaseAnswer]]:
        remote = Remote(check_scoring, score_case)
        with connected(cluster) as connection:
            memory = options.get("memory") or connection.default_memory()
            task = {
                "scoring": scoring,
                "options": {**options, "memory": memory},
                "threads": Threads.of_process(),
            }
            run = ItemRun(connection, remote, task, CASES, emit, stop or threading.Event())
            # What is missing here, too, is the failure of its case.
            paths = {os.path.abspath(path) for case in cases for path in case.paths}
            sizes = {path: os.path.getsize(path) for path in paths if os.path.exists(path)}
            run.check({**task, "sizes": sizes})
            yield from run.results(((item.number, item) for item in items), len(cases))

    return spread


def check_scoring(task: Task) -> None:
    """Raise where this worker does not see models, images or the output folder of an evaluation."""
    scoring: ScoringTask = task["scoring"]
    for method in scoring.methods:
        cluster_worker.model_of({"spec": method.spec, **method.identity})
    for name, size in task["sizes"].items():
        cluster_worker.check_seen(name)
        if os.path.getsize(name) != size:
            raise cluster_worker.changed(name)
    output = scoring.settings.output
    if output is not None:
        cluster_worker.check_seen(os.fspath(output))
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

    def load(method: MethodTask) -> RestorationModel:
        return cluster_worker.model_of({"spec": method.spec, **method.identity})

    with cluster_worker.turn_of(task, run) as stop:
        return score_item(task["scoring"], item, load, task["options"], stop)
