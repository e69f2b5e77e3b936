"""The child process of a window: runs tasks one by one and writes events as JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from napari_restore.api._task_cache import TaskCache
from napari_restore.errors import Cancelled, RestoreError, SourceChanged

Message = dict[str, Any]
Send = Callable[[Message], None]
Others = Mapping[str, tuple[Callable[[], Any], Callable[[Message, Any, Send], Message]]]
"""Command → what makes the object whose `cancel` ends it, and what runs a task with that."""
NICE = 10
"""Niceness: a tenth of the window's share of a busy processor, so that it stays responsive."""


def main(others: Others | None = None) -> None:
    """Run the commands on stdin, one JSON object per line, until it is closed.

    `others` are commands beside "run" and "warm".
    """
    others = others or {}
    # Output of libraries, also of C code, must not mix with the events.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(AttributeError, OSError):
        os.nice(NICE)
    commands, cache = _CommandReader(), TaskCache()
    threading.Thread(target=commands.read, daemon=True).start()
    while (message := commands.tasks.get()) is not None:
        send = _EventWriter(events, message["task"])
        try:
            if message["command"] == "warm":
                _warm(message["what"], cache)
                send({"event": "Warm"})
            elif not commands.begin(message["task"]):
                send({"event": "Stopped", "record": {"status": "cancelled"}})
            elif message["command"] in others:
                make, run = others[message["command"]]
                stop = make()
                commands.attach(stop)
                send({"event": "Finished", **run(message["what"], stop, send)})
            else:
                _run(message["what"], cache, commands, send)
        except RestoreError as error:
            data = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
            send({"event": "Error", **data})
        except Exception as error:
            send({"event": "Error", "kind": "RestoreError", "message": repr(error), "hint": ""})
            sys.excepthook(*sys.exc_info())
        finally:
            commands.end()


def _run(task: Message, cache: TaskCache, commands: _CommandReader, send: _EventWriter) -> None:
    from napari_restore.engine import Job
    from napari_restore.models import changed_part

    plan = cache.plan(task)
    part = changed_part(plan.model, task)
    if part is not None:
        raise SourceChanged(
            f"The {part} of {plan.model.card.id} changed just now.", "Run it again."
        )
    job = Job(plan, keep=True, wait=True)
    commands.attach(job)
    # The parent has the `Stopped` event already.
    with contextlib.suppress(Cancelled):
        for event in job:
            send(event.to_dict())


def _warm(task: Message, cache: TaskCache) -> None:
    """Load the libraries and what `task` needs; errors are reported when it is run."""
    from napari_restore.engine import warm_up

    if task:
        with contextlib.suppress(RestoreError):
            warm_up(cache.plan(task))


class _CommandReader:
    """Reads the parent's commands on a thread, before and while a job runs."""

    def __init__(self) -> None:
        self.tasks: queue.Queue[Message | None] = queue.Queue()
        self._lock = threading.Lock()
        self._cancelled: set[int] = set()
        self._is_closed = False
        self._task = 0
        self._job: Any = None

    def begin(self, task: int) -> bool:
        """Begin a task; return False if it was cancelled already."""
        with self._lock:
            self._task = task
            return not (self._is_closed or task in self._cancelled)

    def attach(self, job: Any) -> None:
        """Send commands on the present task to `job` from now on."""
        with self._lock:
            self._job = job
            if self._is_closed or self._task in self._cancelled:
                job.cancel()

    def end(self) -> None:
        """End the present task."""
        with self._lock:
            self._cancelled.discard(self._task)
            self._task, self._job = 0, None

    def read(self) -> None:
        """Read commands until the parent closes the pipe or exits; then cancel the job."""
        try:
            for line in sys.stdin:
                # A parent that exits while writing leaves an incomplete line.
                with contextlib.suppress(ValueError):
                    self._dispatch(json.loads(line))
        finally:
            with self._lock:
                self._is_closed = True
                if self._job is not None:
                    self._job.cancel()
            self.tasks.put(None)

    def _dispatch(self, message: Message) -> None:
        command, task = message["command"], message["task"]
        if command == "cancel":
            self._cancel(task)
        elif command == "prioritise":
            from napari_restore.engine import Region

            with self._lock:
                job = self._job if task == self._task else None
            if job is not None:
                job.prioritise(Region(*message["region"]))
        else:
            self.tasks.put(message)

    def _cancel(self, task: int) -> None:
        with self._lock:
            self._cancelled.add(task)
            if self._job is not None and task == self._task:
                self._job.cancel()


class _EventWriter:
    """Writes the events of one task to the parent."""

    def __init__(self, stream: TextIO, task: int) -> None:
        self._stream = stream
        self._task = task

    def __call__(self, event: Message) -> None:
        # Messages keep their options, for the window to name.
        event = {name: getattr(value, "marked", value) for name, value in event.items()}
        # The parent has exited; `read` ends this process.
        with contextlib.suppress(BrokenPipeError):
            self._stream.write(json.dumps({**event, "task": self._task}) + "\n")
            self._stream.flush()


if __name__ == "__main__":
    main()
