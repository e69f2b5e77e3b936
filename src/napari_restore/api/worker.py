"""The child process of a window: runs tasks one by one and writes events as JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from napari_restore import engine, models
from napari_restore._points import reached
from napari_restore.api._answers import (
    NOT_QUEUED,
    Answers,
    Message,
    Send as Send,
    Stop,
    message_types,
)
from napari_restore.api._task_cache import TaskCache
from napari_restore.engine import as_json, from_json
from napari_restore.errors import Cancelled, RestoreError, SourceChanged

Others = Mapping[str, tuple[Callable[[], Any], Callable[[Message, Any, Send], Message]]]
"""Command → what makes the object whose `cancel` ends it, and what runs a task with that."""
NICE = 5
"""Niceness: a third of the window's share of a busy processor. A tenth starved it beside other programs."""


def main(others: Others | None = None) -> None:
    """Run the commands on stdin, one JSON object per line, until it is closed.

    `others` are commands beside "run", "warm" and those of `Answers`.
    """
    # Output of libraries, also of C code, must not mix with the events.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(AttributeError, OSError):
        os.nice(NICE)
    commands, cache, writing = _CommandReader(), TaskCache(), threading.Lock()
    answers = {name: (Stop, answer) for name, answer in Answers(cache).commands.items()}
    others = {**answers, **(others or {})}

    def answer(message: Message) -> None:
        _answer(message, others, cache, commands, _EventWriter(events, writing, message))

    threading.Thread(target=commands.read, args=(answer,), daemon=True).start()
    while (message := commands.tasks.get()) is not None:
        answer(message)


def _answer(
    message: Message, others: Others, cache: TaskCache, commands: _CommandReader, send: _EventWriter
) -> None:
    """Run one task to its last event."""
    number, command, task = message["task"], message["command"], message["what"]
    reached(f"{command} begins")
    try:
        if command == "warm":
            _warm(task, cache)
            send({"event": "Warm"})
        elif not commands.begin(number):
            send({"event": "Stopped", "record": {"status": "cancelled"}})
        elif command in others:
            make, run = others[command]
            stop = make()
            commands.attach(number, stop)
            if send.folder is not None:
                task = from_json(task, send.folder, message_types())
            send({"event": "Finished", **run(task, stop, send)})
        else:
            _run(task, cache, partial(commands.attach, number), send)
    except RestoreError as error:
        data = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        send({"event": "Error", **data})
    except Exception as error:
        send({"event": "Error", "kind": "RestoreError", "message": repr(error), "hint": ""})
        sys.excepthook(*sys.exc_info())
    finally:
        commands.end(number)


def _run(task: Message, cache: TaskCache, attach: Callable[[Any], None], send: Send) -> None:
    plan = cache.plan(task)
    part = models.changed_part(plan.model, task)
    if part is not None:
        raise SourceChanged(
            f"The {part} of {plan.model.card.id} changed just now.", "Run it again."
        )
    job = engine.Job(plan, keep=True, wait=True)
    attach(job)
    # The parent has the `Stopped` event already.
    with contextlib.suppress(Cancelled):
        for event in job:
            send(event.to_dict())


def _warm(task: Message, cache: TaskCache) -> None:
    """Load the libraries and what `task` needs; errors are reported when it is run."""
    if task:
        with contextlib.suppress(RestoreError):
            engine.warm_up(cache.plan(task))


class _CommandReader:
    """Reads the parent's commands on a thread, before and while tasks run."""

    def __init__(self) -> None:
        self.tasks: queue.Queue[Message | None] = queue.Queue()
        self._lock = threading.Lock()
        self._cancelled: set[int] = set()
        self._is_closed = False
        self._jobs: dict[int, Any] = {}
        """What the tasks under way are to be cancelled by."""

    def begin(self, task: int) -> bool:
        """Begin a task; return False if it was cancelled already."""
        with self._lock:
            return not (self._is_closed or task in self._cancelled)

    def attach(self, task: int, job: Any) -> None:
        """Send commands on a task to `job` from now on."""
        with self._lock:
            self._jobs[task] = job
            if self._is_closed or task in self._cancelled:
                job.cancel()

    def end(self, task: int) -> None:
        """End a task."""
        with self._lock:
            self._cancelled.discard(task)
            self._jobs.pop(task, None)

    def read(self, answer: Callable[[Message], None]) -> None:
        """Read commands until the parent closes the pipe or exits; then cancel all jobs.

        What is not queued is given to `answer`, on a thread of its own.
        """
        try:
            for line in sys.stdin:
                # A parent that exits while writing leaves an incomplete line.
                with contextlib.suppress(ValueError):
                    self._dispatch(json.loads(line), answer)
        finally:
            with self._lock:
                self._is_closed = True
                for job in self._jobs.values():
                    job.cancel()
            self.tasks.put(None)

    def _dispatch(self, message: Message, answer: Callable[[Message], None]) -> None:
        command, task = message["command"], message["task"]
        if command == "cancel":
            with self._lock:
                self._cancelled.add(task)
                if task in self._jobs:
                    self._jobs[task].cancel()
            reached("cancel requested")
        elif command == "prioritise":
            with self._lock:
                job = self._jobs.get(task)
            if job is not None:
                job.prioritise(engine.Region(*message["region"]))
        elif command in NOT_QUEUED:
            threading.Thread(target=answer, args=(message,)).start()
        else:
            self.tasks.put(message)


class _EventWriter:
    """Writes the events of one task to the parent."""

    def __init__(self, stream: TextIO, lock: threading.Lock, message: Message) -> None:
        self._stream, self._lock = stream, lock
        self._task = message["task"]
        folder = message["what"].get("folder")
        self.folder = None if folder is None else Path(folder)
        """Through which arrays come, of those who wait for an answer."""

    def __call__(self, event: Message) -> None:
        # Messages keep their options, for the window to name.
        event = {name: getattr(value, "marked", value) for name, value in event.items()}
        if self.folder is not None:
            event = as_json(event, self.folder)
        # The parent has exited; `read` ends this process.
        with contextlib.suppress(BrokenPipeError), self._lock:
            self._stream.write(json.dumps({**event, "task": self._task}) + "\n")
            self._stream.flush()
        reached(f"{event['event']} sent")


if __name__ == "__main__":
    main()
