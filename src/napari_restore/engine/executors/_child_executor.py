"""A plan that runs in a child process."""

from __future__ import annotations

from typing import Any

from napari_restore.engine._region import Region
from napari_restore.engine.executors._child import Worker, error_of
from napari_restore.engine.machine.budget import process_memory
from napari_restore.engine.running.events import Event, Finished, Stopped, event_from_dict
from napari_restore.engine.running.executor import Executor, Make, Put


class ChildExecutor(Executor):
    """Lets a child process run a plan, so that the window stays responsive; `own`: it ends with the run."""

    # `task` names image and model as ``module:function``, which runs it, opens them, and holds the
    # serialised plan; events come back as they happen. A crash of the child or its running out of
    # memory ends only the run, whose finished tiles are kept.
    def __init__(
        self, function: str, task: dict[str, Any], worker: Worker, *, own: bool = False
    ) -> None:
        self._function, self._task, self._owns_worker = function, task, own
        self.worker = worker

    def start(self, put: Put, make: Make) -> None:
        """Give the plan to the child, which keeps what it computes, and waits for other runs."""
        self._put = put
        # The memory of this process counts beside what the child measures of itself.
        self._own_memory = process_memory(children=False)
        self._number = self.worker.submit(self._function, self._task, self._on_message)

    def cancel(self) -> None:
        self.worker.cancel(self._number)

    def prioritise(self, region: Region) -> None:
        self.worker.prioritise(self._number, region)

    def _on_message(self, data: dict[str, Any]) -> None:
        name = data["event"]
        if name in ("Error", "Ended"):
            self._end(error_of(data))
        else:
            event = event_from_dict(data)
            if not isinstance(event, (Finished, Stopped)):
                self._put(event)
                return
            # The record counts all processes: the child's and this one.
            for figure in ("idle_ram_bytes", "peak_ram_bytes"):
                if figure in event.record.get("measured", {}):
                    event.record["measured"][figure] += self._own_memory
            self._end(event)

    def _end(self, outcome: Event | BaseException) -> None:
        if self._owns_worker:
            self.worker.close()
        self._put(outcome)
