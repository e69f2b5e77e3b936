"""One run as the window knows it: started, watched, cancelled."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from napari.qt.threading import create_worker
from napari.utils import cancelable_progress
from psygnal import Signal
from qtpy.QtCore import QTimer

import napari_restore as nr
from napari_restore.engine import Event, Finished, Progress
from napari_restore.errors import RestoreError

if TYPE_CHECKING:
    from napari_restore.engine import Job, Plan
    from napari_restore.plugin._state import Request

PATIENCE_MS = 1500
"""A cancelled child that is still loading libraries hears nothing: then it is ended."""


class Run:
    """A request on its way. All signals are emitted in the GUI thread.

    Planning, the job and its events live on a worker of napari's, so that the
    window asks before it closes over a run, and stops it.
    """

    planned = Signal(object)
    """The `Plan`, before the first event."""
    happened = Signal(object)
    """Every `Event` of the job."""
    ended = Signal(str, object)
    """Once: "done", "cancelled" or "failed", with the record, None or the error."""

    def __init__(self, request: Request, title: str) -> None:
        self.request = request
        self.job: Job | None = None
        self._outcome: tuple[str, Any] = ("cancelled", None)
        self._cancelled = threading.Event()
        self._dock = _DockProgress(self, title)
        self._worker = create_worker(self._pump)
        self._worker.yielded.connect(self._on_told)
        self._worker.finished.connect(self._on_finished)

    def start(self) -> None:
        """Begin; returns at once."""
        self._worker.start()

    def cancel(self) -> None:
        """Stop within a tile; what is finished is kept."""
        if self._cancelled.is_set():
            return
        self._cancelled.set()
        if self.job is not None:
            self.job.cancel()
            QTimer.singleShot(PATIENCE_MS, self.stop)

    def stop(self) -> None:
        """End at once: the window closes, or the source is gone."""
        self._cancelled.set()
        if self.job is not None:
            _end(self.job)

    # -- on the worker's thread --------------------------------------------------

    def _pump(self) -> Iterator[Plan | Event | RestoreError]:
        job = None
        try:
            plan = self.request.plan()
            yield plan
            if self._cancelled.is_set():
                return
            job = self.job = nr.start(plan, process=True)
            if self._cancelled.is_set():
                _end(job)
            yield from job
            job = None
        except RestoreError as error:
            job = None
            if not self._cancelled.is_set():
                yield error
        except Exception as error:
            # superqt's generator worker swallows a RuntimeError, and torch raises many.
            logging.getLogger(__name__).exception("run failed")
            yield RestoreError(f"The run failed: {error}", "This is a bug; please report it.")
        finally:
            # napari quits a worker by dropping its generator.
            if job is not None:
                _end(job)

    # -- on the GUI thread -------------------------------------------------------

    def _on_told(self, told: Any) -> None:
        if isinstance(told, RestoreError):
            self._outcome = ("failed", told)
            return
        if isinstance(told, Event):
            if isinstance(told, Finished):
                self._outcome = ("done", told.record)
            self._dock.tell(told)
            self.happened.emit(told)
        else:
            self.planned.emit(told)

    def _on_finished(self) -> None:
        self._dock.close()
        self.ended.emit(*self._outcome)


def _end(job: Job) -> None:
    """End the child process where there is one; a thread stops at its next tile."""
    kill = getattr(job, "kill", job.cancel)
    kill()


class _DockProgress(cancelable_progress):
    """The run in napari's activity dock, with a Cancel that works."""

    def __init__(self, run: Run, title: str) -> None:
        super().__init__(total=0, desc=title)
        self._run = run

    def cancel(self) -> None:
        super().cancel()
        self._run.cancel()

    def tell(self, event: Event) -> None:
        if isinstance(event, Progress):
            if event.total != self.total:
                self.reset(event.total)
            self.update(event.done - self.n)
