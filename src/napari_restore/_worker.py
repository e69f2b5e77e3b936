"""The child process of a window: reads a task, runs it, tells events as JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

from napari_restore.errors import Cancelled, RestoreError

if TYPE_CHECKING:
    from napari_restore.engine import Job


def main() -> None:
    """Run the task on the first line of stdin; later lines are commands."""
    # Whatever else prints, in Python or below it, must not end up among the events.
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(AttributeError, OSError):
        os.nice(5)
    task = json.loads(sys.stdin.readline())
    boss = _Boss()
    threading.Thread(target=boss.listen, daemon=True).start()
    try:
        from napari_restore import api

        plan = api.plan_of(task)
        if boss.cancelled:
            _tell(told, {"event": "Stopped", "record": {"status": "cancelled"}})
            return
        job = api.start(plan)
        boss.take(job)
        for event in job:
            _tell(told, event.to_dict())
    except Cancelled:
        pass
    except RestoreError as error:
        data = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        _tell(told, {"event": "Error", **data})
    except Exception as error:
        _tell(told, {"event": "Error", "kind": "RestoreError", "message": repr(error), "hint": ""})
        raise


class _Boss:
    """Hears the parent's commands from the start, before there is a job to obey them."""

    def __init__(self) -> None:
        self.cancelled = False
        self._job: Job | None = None

    def take(self, job: Job) -> None:
        self._job = job
        if self.cancelled:
            job.cancel()

    def listen(self) -> None:
        """Carry out commands until the parent closes the pipe, then stop: it is gone."""
        for line in sys.stdin:
            command = json.loads(line)
            if command["command"] == "cancel":
                self._cancel()
            elif command["command"] == "prioritise" and self._job is not None:
                from napari_restore.engine import Region

                self._job.prioritise(Region(*command["region"]))
        self._cancel()

    def _cancel(self) -> None:
        self.cancelled = True
        if self._job is not None:
            self._job.cancel()


def _tell(stream: TextIO, event: dict[str, Any]) -> None:
    stream.write(json.dumps(event) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
