"""One run as the window knows it: started, watched, cancelled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from napari.utils import cancelable_progress
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_restore.engine import Event, Finished, Progress, Result
from napari_restore.errors import RestoreError
from napari_restore.plugin.runs._draft import RunStep
from napari_restore.plugin.runs._run_sequence import RunSequence
from napari_restore.plugin.threads._background_task import WatchedWork

if TYPE_CHECKING:
    from napari_restore.engine import Job, Worker
    from napari_restore.plugin._request import Request

PATIENCE_MS = 6000
"""The process of a job that has not stopped by then is ended."""
DOCK_SECONDS = 1.0
DOCK_EVERY_SECONDS = 1.0
"""Each step there runs Qt's events again, drawing among them, from within the step."""
RunSteps = Callable[["Request"], Iterable["RunStep"]]


class Run:
    """A request on its way. All signals are emitted in the GUI thread.

    Planning, the jobs and their events live on another thread; napari asks before it
    closes its window over a run, and stops it. `steps` says what is run, by default the
    request itself; `worker` is the child process it runs in.
    """

    planned = Signal(object)
    """The `RunStep` with its plan, before its first event."""
    opened = Signal(object, object)
    """`RunStep` and `Result` from which its pixels can be read while they are made."""
    happened = Signal(object, object)
    """`RunStep` and every `Event` of its job."""
    completed = Signal(object, object)
    """`RunStep` and its whole `Result`."""
    ended = Signal(str, object)
    """Once: "done", "cancelled" or "failed", with the record, None or the error."""

    def __init__(
        self,
        request: Request,
        title: str,
        steps: RunSteps | None = None,
        worker: Worker | None = None,
    ) -> None:
        self.request = request
        self._sequence = RunSequence(worker)
        self._outcome: tuple[str, Any] = ("cancelled", None)
        self._patience = QTimer()
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self._sequence.kill)
        self._title = title
        self._began = time.monotonic()
        self._dock: _DockProgress | None = None
        self._telling = self._has_ended = self._is_silent = False
        self._steps = steps or (lambda request: [RunStep(request.plan(), False)])
        self._work = WatchedWork("restoration")

    @property
    def job(self) -> Job | None:
        """The job under way."""
        return self._sequence.job

    def start(self) -> None:
        """Begin; returns at once."""
        self._work.start(self._pump, self._on_finished, self._on_message)

    def cancel(self) -> None:
        """Stop within a tile; what is finished is kept."""
        self._sequence.cancel()
        if not self._has_ended and not self._patience.isActive():
            self._patience.start(PATIENCE_MS)

    def stop(self) -> None:
        """End for good without further reports: the window closes."""
        self._sequence.cancel()
        self._is_silent = True

    # -- on the thread of the work -----------------------------------------------

    def _pump(self) -> Iterator[tuple[RunStep, Any] | RestoreError]:
        try:
            yield from self._sequence.pump(self._steps(self.request))
        except RestoreError as error:
            if not self._sequence.is_cancelled:
                yield error
        except Exception as error:
            logging.getLogger(__name__).exception("run failed")
            yield RestoreError(f"The run failed: {error}", "This is a bug; please report it.")

    # -- on the GUI thread -------------------------------------------------------

    def _on_message(self, message: Any) -> None:
        if self._is_silent:
            # napari's dock may be gone, and layers with it.
            return
        if isinstance(message, RestoreError):
            self._outcome = ("failed", message)
            return
        step, what = message
        if isinstance(what, Event):
            if isinstance(what, Finished) and not step.is_draft:
                self._outcome = ("done", what.record)
            self.happened.emit(step, what)
            if not step.is_draft:
                # Last: napari's bar runs Qt's events, those after this one among them.
                self._report_to_dock(what)
        elif isinstance(what, Result):
            (self.completed if what.record else self.opened).emit(step, what)
        else:
            self.planned.emit(step)

    def _report_to_dock(self, event: Event) -> None:
        """Show the run in napari's dock too, if it lasts: the bar takes longer than a tile."""
        # Making and moving the bar runs Qt's events, which may lead here again.
        if self._telling or time.monotonic() - self._began < DOCK_SECONDS:
            return
        self._telling = True
        try:
            if self._dock is None:
                self._dock = _DockProgress(self, self._title)
            self._dock.report(event)
        finally:
            self._telling = False
        if self._has_ended:
            self._dock.close()

    def _on_finished(self) -> None:
        self._patience.stop()
        self._has_ended = True
        if self._dock is not None and not self._telling:
            self._dock.close()
        self.ended.emit(*self._outcome)


class _DockProgress(cancelable_progress):
    """The run in napari's activity dock, with a Cancel that works."""

    def __init__(self, run: Run, title: str) -> None:
        super().__init__(total=0, desc=title)
        self._run: Run | None = run
        self._told = 0.0

    def cancel(self) -> None:
        super().cancel()
        if self._run is not None:
            self._run.cancel()

    def close(self) -> None:
        super().close()
        # napari's dock keeps its bars as long as the window lives.
        self._run = None

    def report(self, event: Event) -> None:
        if not isinstance(event, Progress):
            return
        now = time.monotonic()
        if event.total == self.total and now - self._told < DOCK_EVERY_SECONDS:
            return
        # Before the step: events that it runs may lead here again.
        self._told = now
        if event.total != self.total:
            self.reset(event.total)
        self.update(event.done - self.n)
