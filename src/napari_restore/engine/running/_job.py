"""A running plan: iterate over its events, cancel it, get its result."""

from __future__ import annotations

import queue
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
    the run is raised there. `result` waits for the end. With `keep`, what the model computes from
    the whole image stays in memory for the next run. With `wait`, it waits while another run writes
    the same result instead of failing.
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
        self._events: queue.Queue[Event | BaseException] = queue.Queue()
        self._outcome: Event | BaseException | None = None
        self._latest: Event | BaseException | None = None
        """The latest event, whether or not the iterator has yielded it yet."""

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
        outcome = self._outcome or self._latest
        if isinstance(outcome, Finished):
            return "done"
        if isinstance(outcome, Stopped):
            return "cancelled"
        return "failed" if isinstance(outcome, BaseException) else "running"

    def __iter__(self) -> Iterator[Event]:
        while self._outcome is None:
            event = self._events.get()
            if isinstance(event, (Finished, Stopped, BaseException)):
                self._outcome = event
                # For other threads that wait for the end.
                self._events.put(event)
            if isinstance(event, BaseException):
                raise event
            yield event

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
        for _ in self:
            pass
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        if isinstance(self._outcome, Stopped):
            raise errors.Cancelled(
                "The run was cancelled; finished tiles are kept.",
                "The same command goes on from there.",
            )
        assert isinstance(self._outcome, Finished)
        return Result.of_run(self.plan, self._outcome.record)

    def _put(self, event: Event | BaseException) -> None:
        self._latest = event
        self._events.put(event)
