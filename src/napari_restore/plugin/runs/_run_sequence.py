"""The steps of a run, a draft and the true pixels, as jobs of a child process or a cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import Finished, Note, Stopped, TileDone
from napari_restore.errors import Cancelled, RestoreError
from napari_restore.plugin.tasks.task import Task

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


class RunSequence(Task):
    """Runs steps one after another, the draft first; what is finished is kept.

    Sends what the window shows of each step, with the step: its `Plan`; a `Result` without a record
    with its first finished tile; every `Event` of its job; the whole `Result`. `ended` gives the
    record of the last step.
    """

    def __init__(self, steps: Iterable[RunStep], worker: Worker, name: str = "") -> None:
        """Prepare `steps`, which are planned on the thread."""
        super().__init__(name=name, failure="The run failed")
        self._steps, self._worker = steps, worker
        self._lock = threading.Lock()
        self.job: Job | None = None
        """The job under way."""

    def cancel(self) -> None:
        with self._lock:
            super().cancel()
            if self.job is not None:
                self.job.cancel()

    def kill(self) -> None:
        """End the child process of a job that is stuck."""
        self._worker.kill()

    def work(self) -> dict[str, Any]:
        """Run the steps; returns the record of the last of them."""
        record: dict[str, Any] = {}
        try:
            for step in self._steps:
                self.send((step, step.plan))
                with self._lock:
                    if self.stop.is_set():
                        break
                    if step.cluster is None:
                        job = nr.start(step.plan, process=self._worker)
                    else:
                        job = nr.start(step.plan, cluster=step.cluster)
                        if step.view is not None:
                            job.prioritise(step.view)
                    self.job = job
                record = self._follow(step, job)
            else:
                return record
        except RestoreError:
            if not self.stop.is_set():
                raise
        finally:
            # They may know this task.
            self._steps = ()
        raise Cancelled("The run was cancelled.")

    def _follow(self, step: RunStep, job: Job) -> dict[str, Any]:
        """Send the events of a job; returns the record of a whole result, else an empty one."""
        # Loads torch, which the panel does not wait for.
        from napari_restore.engine import Result

        is_open = False
        record: dict[str, Any] = {}
        notes: list[str] = []
        try:
            for event in job:
                if isinstance(event, TileDone) and not is_open:
                    # With its first tile the store is sure to exist.
                    is_open = True
                    self.send((step, Result.of_run(step.plan, {})))
                self.send((step, event))
                if isinstance(event, Stopped):
                    raise Cancelled("The run was cancelled.")
                if isinstance(event, Note):
                    notes.append(event.text)
                if isinstance(event, Finished):
                    # As the command writes it.
                    record = {**event.record, "notes": notes}
                    self.send((step, Result.of_run(step.plan, record)))
        except RestoreError:
            # Without its draft a result only comes later.
            if not step.is_draft:
                raise
        finally:
            with self._lock:
                self.job = None
        return record
