"""A running plan: iterate over its events, cancel it, take its result."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from napari_restore import errors
from napari_restore.engine._budget import process_memory
from napari_restore.engine._device import ENVIRONMENT
from napari_restore.engine._events import Event, Finished, Stopped, event_from_dict
from napari_restore.engine._plan import Plan
from napari_restore.engine._region import Region
from napari_restore.engine._result import Result
from napari_restore.engine._run import LocalRun


class Job:
    """A plan running on a thread of this process.

    Iterating gives the events as they happen and ends after `Finished` or
    `Stopped`; an error of the run is raised there. `result` waits for the end.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._events: queue.Queue[Event | BaseException] = queue.Queue()
        self._outcome: Event | BaseException | None = None
        self._start()

    def __iter__(self) -> Iterator[Event]:
        while self._outcome is None:
            event = self._events.get()
            if isinstance(event, (Finished, Stopped, BaseException)):
                self._outcome = event
                # Whoever else waits for the end.
                self._events.put(event)
            if isinstance(event, BaseException):
                raise event
            yield event

    def cancel(self) -> None:
        """Stop within a tile; finished tiles are kept."""
        self._stop.set()

    def prioritise(self, region: Region) -> None:
        """Restore the tiles nearest to the middle of `region` first."""
        if self._run.schedule is not None:
            self._run.schedule.prioritise(region)

    def result(self) -> Result:
        """Wait for the end; raises `Cancelled` after a cancel, else what went wrong."""
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

    def _start(self) -> None:
        self._stop = threading.Event()
        self._run = LocalRun(self.plan, self._events.put, self._stop)

        def body() -> None:
            try:
                self._run.run()
            except errors.Cancelled:
                # `Stopped` has told it.
                pass
            except BaseException as error:
                self._events.put(error)

        threading.Thread(target=body, name="job", daemon=True).start()


class ProcessJob(Job):
    """A plan running in a child process, so that a window keeps its own one free.

    `task` is what `WORKER` needs to make the plan again; events come back as
    lines of JSON. The child has its own OpenMP and allocator settings, runs at
    lower priority, and a crash or a full memory in it costs only the run.
    """

    WORKER = "napari_restore._worker"

    def __init__(self, plan: Plan, task: dict[str, Any]) -> None:
        self._task = task
        super().__init__(plan)

    def cancel(self) -> None:
        self._send({"command": "cancel"})

    def prioritise(self, region: Region) -> None:
        self._send({"command": "prioritise", "region": list(region)})

    def kill(self) -> None:
        """End the child at once; finished tiles are kept all the same."""
        self._child.kill()

    def _start(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", self.WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **ENVIRONMENT, "PYTHONIOENCODING": "utf-8"},
        )
        self._send(self._task)
        threading.Thread(target=self._listen, name="job", daemon=True).start()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        # A child that has just ended no longer listens.
        with contextlib.suppress(OSError, ValueError):
            self._child.stdin.write(json.dumps(message) + "\n")
            self._child.stdin.flush()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        assert self._child.stdin is not None
        own, ended = process_memory(children=False), False
        for line in self._child.stdout:
            try:
                data = json.loads(line)
                name = data["event"]
            except (ValueError, TypeError, KeyError):
                # Not ours: a library that prints past Python.
                continue
            if name == "Error":
                kind = getattr(errors, data["kind"], errors.RestoreError)
                self._events.put(kind(data["message"], data["hint"]))
                ended = True
            else:
                event = event_from_dict(data)
                if isinstance(event, (Finished, Stopped)):
                    ended = True
                    # The record counts all processes: the child's and this one.
                    for figure in ("idle_ram_bytes", "peak_ram_bytes"):
                        if figure in event.record.get("measured", {}):
                            event.record["measured"][figure] += own
                self._events.put(event)
        code = self._child.wait()
        self._child.stdout.close()
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        if not ended:
            self._events.put(
                errors.ResourceError(
                    f"The process that ran the model ended unexpectedly (code {code}).",
                    "It may have run out of memory: lower the budget and run again; "
                    "finished tiles are kept.",
                )
            )
