"""The steps of a run, a draft and the true pixels, as jobs of a child process or a cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import Finished, TileDone
from napari_restore.errors import RestoreError
from napari_restore.plugin.tasks._main_thread import log_failure

if TYPE_CHECKING:
    from napari_restore.engine import Cluster, Job, Plan, Worker


@dataclass(frozen=True)
class RunStep:
    """One job of a run: a draft, or the true pixels."""

    plan: Plan
    is_draft: bool
    scale: int = 1
    """Level-0 pixels along a side of one of the plan's image."""
    cluster: Cluster | None = None
    """Whose workers compute it; None: the child process does."""
    view: Region | None = None
    """The pixels on the screen, which workers compute first."""

    @property
    def covers(self) -> Region:
        """Its targets in level-0 pixels."""
        y0, x0, y1, x1 = (edge * self.scale for edge in self.plan.region)
        return Region(y0, x0, y1, x1)


class RunSequence:
    """Runs steps one after another, the draft first; `cancel` stops it from any thread."""

    def __init__(self, worker: Worker | None) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.job: Job | None = None
        """The job under way."""

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Stop within a tile; what is finished is kept."""
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

    def run(self, steps: Iterable[RunStep]) -> Iterator[tuple[RunStep, Any] | RestoreError]:
        """Yield what the window shows of each step, on a thread that may wait.

        For each step: its `Plan`; a `Result` without a record with its first finished tile;
        every `Event` of its job; the whole `Result`. The error that ends the run is yielded
        last; a cancelled run ends early and without one.
        """
        try:
            for step in steps:
                if self.is_cancelled:
                    return
                yield step, step.plan
                with self._lock:
                    if self._stop.is_set():
                        return
                    if step.cluster is None:
                        job = nr.start(step.plan, process=self._worker or True)
                    else:
                        job = nr.start(step.plan, cluster=step.cluster)
                        if step.view is not None:
                            job.prioritise(step.view)
                    self.job = job
                yield from self._events(step, job)
        except RestoreError as error:
            if not self.is_cancelled:
                yield error
        except Exception as error:
            log_failure("run failed")
            yield RestoreError(f"The run failed: {error}", "This is a bug; please report it.")

    def _events(self, step: RunStep, job: Job) -> Iterator[tuple[RunStep, Any]]:
        # Loads torch, which the panel does not wait for.
        from napari_restore.engine import Result

        is_open = is_over = False
        try:
            for event in job:
                if isinstance(event, TileDone) and not is_open:
                    # With its first tile the store is sure to exist.
                    is_open = True
                    yield step, Result.of_run(step.plan, {})
                yield step, event
                if isinstance(event, Finished):
                    yield step, Result.of_run(step.plan, event.record)
            is_over = True
        except RestoreError:
            is_over = True
            # Without its draft a result only comes later.
            if not step.is_draft:
                raise
        finally:
            # The iterator was closed early: nobody waits for the rest.
            if not is_over:
                job.cancel()
            with self._lock:
                self.job = None
