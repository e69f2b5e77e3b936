"""Waiting for the workers of a cluster, and for what they compute."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from napari_restore.engine.executors._connection import Cluster
from napari_restore.engine.running._events import Phase
from napari_restore.engine.running._run import Emit

POLL = 0.2
"""Seconds after which a run looks for a cancel, new workers and lost ones."""


class Waiting:
    """The waits of a run that gives work to `cluster`; none outlasts `POLL`."""

    def __init__(self, cluster: Cluster, emit: Emit, stop: threading.Event) -> None:
        self._cluster, self._emit, self._stop = cluster, emit, stop
        self._is_waiting = False

    def workers(self, phase: str) -> int:
        """Return the number of workers.

        Announces when there are none, and with `phase`, the work in progress, when some are back.
        """
        count = self._cluster.worker_count()
        if (count == 0) != self._is_waiting:
            self._is_waiting = count == 0
            self._emit(Phase("Waiting for workers" if self._is_waiting else phase))
        return count

    def ended(self, running: Mapping[Any, Any]) -> list[Any]:
        """Return those of the futures `running` that have ended."""
        if not running:
            # No workers at the moment: some may come.
            self._stop.wait(POLL)
            return []
        return self._cluster.ended(running, POLL)
