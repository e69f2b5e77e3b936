"""Cases of an evaluation that the workers of a cluster score."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from napari_restore.api._cluster import connected

if TYPE_CHECKING:
    from napari_restore.engine import Event
    from napari_restore.training.score import Case, CaseAnswer, CaseItem, ScoringTask

PHASE = "images"


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
        from napari_restore.api import cluster_items
        from napari_restore.engine import ItemRun, Remote, Threads

        remote = Remote(cluster_items.check_scoring, cluster_items.score_case)
        with connected(cluster) as connection:
            memory = options.get("memory") or connection.default_memory()
            task = {
                "scoring": scoring,
                "options": {**options, "memory": memory},
                "threads": Threads.of_process(),
            }
            run = ItemRun(connection, remote, task, PHASE, emit, stop or threading.Event())
            # What is missing here, too, is the failure of its case.
            paths = {os.path.abspath(path) for case in cases for path in case.paths}
            sizes = {path: os.path.getsize(path) for path in paths if os.path.exists(path)}
            run.check({**task, "sizes": sizes})
            yield from run.results(((item.number, item) for item in items), len(cases))

    return spread
