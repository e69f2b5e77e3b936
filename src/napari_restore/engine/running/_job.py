"""A running plan: iterate over its events, cancel it, get its result."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

from napari_restore import errors
from napari_restore.engine._region import Region
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.results.result import Result
from napari_restore.engine.running.events import Event, Finished, Stopped
from napari_restore.engine.running.executor import Executor


class Job:
    """A plan that an executor runs: by default on threads of this process.

    Iterating gives the events as they happen and ends after `Finished` or `Stopped`; an error of
    the run is raised there. Every iterator gives all of them. `result` waits for the end. With `keep`,
    what the model computes from the whole image stays in memory for the next run. With `wait`, it waits
    while another run of this process writes the same result instead of failing.
    """

    def __init__(
        self,
        plan: Plan,
        executor: Executor | None = None,
        *,
        keep: bool = False,
        wait: bool = False,
    ) -> None:
        self.plan = plan
        if executor is None:
            from napari_restore.engine.running.threads import ThreadExecutor

            executor = ThreadExecutor()
        self.executor = executor
        self._events: list[Event | BaseException] = []
        self._changed = threading.Condition()

        def make() -> Callable[[], object]:
            # Loads torch, which a window's process may do without.
            from napari_restore.engine.running.run import Run

            return Run(plan, self._put, keep=keep, wait=wait, executor=self.executor).run

        self.executor.start(self._put, make)

    def __repr__(self) -> str:
        plan = self.plan
        named = f"{plan.model.card.id!r} on {plan.image.name!r}"
        return f"<Job {named}: {self.status}, {plan.layout.tiles} tile{'s' if plan.layout.tiles != 1 else ''}>"

    @property
    def status(self) -> str:
        """``"running"``, ``"done"``, ``"cancelled"`` or ``"failed"``."""
        outcome = self._outcome
        if isinstance(outcome, Finished):
            return "done"
        if isinstance(outcome, Stopped):
            return "cancelled"
        return "failed" if isinstance(outcome, BaseException) else "running"

    @property
    def _outcome(self) -> Event | BaseException | None:
        """The last event of a run that is over; None before."""
        last = self._events[-1] if self._events else None
        return last if isinstance(last, (Finished, Stopped, BaseException)) else None

    def __iter__(self) -> Iterator[Event]:
        for number in itertools.count():
            with self._changed:
                self._changed.wait_for(lambda: len(self._events) > number)  # noqa: B023
            event = self._events[number]
            if isinstance(event, BaseException):
                raise event
            yield event
            if isinstance(event, (Finished, Stopped)):
                return

    def cancel(self) -> None:
        """Stop within a tile; finished tiles are kept."""
        self.executor.cancel()

    def prioritise(self, region: Region) -> None:
        """Restore the tiles nearest to the middle of a box first.

        Parameters
        ----------
        region
            In pixels of the image.
        """
        self.executor.prioritise(region.scale(self.plan.image.resampling))

    def result(self) -> Result:
        """Wait for the end; raise `Cancelled` after a cancel, else the error of the run.

        Returns
        -------
        Result
            The restored pixels and the record.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._outcome is not None)
        outcome = self._outcome
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, Stopped):
            raise errors.Cancelled(
                "The run was cancelled; finished tiles are kept.",
                "The same command goes on from there.",
            )
        assert isinstance(outcome, Finished)
        return Result.of_run(self.plan, outcome.record)

    def _put(self, event: Event | BaseException) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()
