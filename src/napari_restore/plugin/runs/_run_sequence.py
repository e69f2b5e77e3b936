"""Carries out the runs of one live_request one after another, on a thread that may wait."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import napari_restore as nr
from napari_restore.engine import Finished, Result, TileDone
from napari_restore.errors import RestoreError

if TYPE_CHECKING:
    from napari_restore.engine import Job, Worker
    from napari_restore.plugin.runs._draft import RunStep


class RunSequence:
    """The steps of a request, the coarse one first, as jobs of a worker.

    `pump` yields for each step its plan, then its pixels (a `Result` without a record)
    when its first tile is finished, its events, and at its end the whole `Result`.
    """

    def __init__(self, worker: Worker | None) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.job: Job | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Stop within a tile; what is finished is kept. From any thread."""
        with self._lock:
            self._stop.set()
            if self.job is not None:
                self.job.cancel()

    def kill(self) -> None:
        """End at once, the child process with it, where the job is stuck."""
        with self._lock:
            self._stop.set()
            job = self.job
        if job is not None:
            getattr(job, "kill", job.cancel)()

    def pump(self, steps: Iterable[RunStep]) -> Iterator[tuple[RunStep, Any]]:
        """Run step after step; end early and silently when cancelled."""
        for step in steps:
            if self._stop.is_set():
                return
            yield step, step.plan
            job = self._begin(step)
            if job is None:
                return
            try:
                yield from self._events(step, job)
                job = None
            except RestoreError:
                job = None
                # Without its draft a result only comes later.
                if not step.is_draft:
                    raise
            finally:
                # Unwanted work is closed.
                if job is not None:
                    job.cancel()
                with self._lock:
                    self.job = None

    def _begin(self, step: RunStep) -> Job | None:
        with self._lock:
            if self._stop.is_set():
                return None
            self.job = nr.start(step.plan, process=self._worker or True)
            return self.job

    def _events(self, step: RunStep, job: Job) -> Iterator[tuple[RunStep, Any]]:
        opened = False
        for event in job:
            if isinstance(event, TileDone) and not opened:
                # With its first tile the store is sure to exist.
                opened = True
                yield step, Result.of_run(step.plan, {})
            yield step, event
            if isinstance(event, Finished):
                yield step, Result.of_run(step.plan, event.record)
