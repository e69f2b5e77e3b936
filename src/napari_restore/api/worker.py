"""The child process of a window: does what its parent calls and writes events as JSON lines."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TextIO, TypeVar

from napari_restore import engine
from napari_restore._points import reached
from napari_restore.api._answers import Message, Stop, message_types
from napari_restore.engine import as_json, from_json
from napari_restore.errors import RestoreError

NICE = 5
"""Niceness: a third of the window's share of a busy processor. A tenth starved it beside other programs."""
J = TypeVar("J")


def main() -> None:
    """Make the calls on stdin, one JSON object per line, until it is closed."""
    # Output of libraries, also of C code, must not mix with the events.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with contextlib.suppress(AttributeError, OSError):
        os.nice(NICE)
    calls = _CallReader(events)
    threading.Thread(target=calls.read, daemon=True).start()
    while (call := calls.waiting.get()) is not None:
        calls.make(call)


class Call(Stop):
    """A call of the parent: set once it is cancelled, and what sends its events."""

    def __init__(self, message: Message, stream: TextIO, writing: threading.Lock) -> None:
        super().__init__()
        self.function, self.number = message["call"], message["task"]
        self.job: Any = None
        """What is cancelled with it, and hurried."""
        self._question, self._stream, self._writing = message["what"], stream, writing
        folder = self._question.get("folder")
        self._folder = None if folder is None else Path(folder)
        """Through which arrays come, of those who wait for an answer."""

    def attached(self, job: J) -> J:
        """Return `job`, which is cancelled and hurried with the call from now on."""
        self.job = job
        if self.is_set():
            job.cancel()  # type: ignore[attr-defined]
        return job

    def cancel(self) -> None:
        super().cancel()
        if self.job is not None:
            self.job.cancel()

    def make(self) -> None:
        """Call the function, and send what it returns as the last event, or its error."""
        reached(f"{self.function.rpartition(':')[2]} begins")
        if self.is_set():
            self.send({"event": "Stopped", "record": {"status": "cancelled"}})
            return
        try:
            question = self._question
            if self._folder is not None:
                question = from_json(question, self._folder, message_types())
            answer = resolve_name(self.function)(question, self, self.send)
            # A run has sent its last event itself.
            if not isinstance(self.job, engine.Job):
                self.send({"event": "Finished", "answer": answer})
        except RestoreError as error:
            data = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
            self.send({"event": "Error", **data})
        except Exception as error:
            self.send(
                {"event": "Error", "kind": "RestoreError", "message": repr(error), "hint": ""}
            )
            sys.excepthook(*sys.exc_info())

    def send(self, event: Message) -> None:
        """Write an event to the parent."""
        # Messages keep their options, for the window to name.
        event = {name: getattr(value, "marked", value) for name, value in event.items()}
        if self._folder is not None:
            event = as_json(event, self._folder)
        # The parent has exited; `read` ends this process.
        with contextlib.suppress(BrokenPipeError), self._writing:
            self._stream.write(json.dumps({**event, "task": self.number}) + "\n")
            self._stream.flush()
        reached(f"{event['event']} sent")


class _CallReader:
    """Reads the parent's calls on a thread, before and while others are made."""

    def __init__(self, events: TextIO) -> None:
        self.waiting: queue.Queue[Call | None] = queue.Queue()
        self._events, self._writing = events, threading.Lock()
        self._open: dict[int, Call] = {}
        """Those that have not ended, by their numbers."""

    def make(self, call: Call) -> None:
        """Make a call, and forget it."""
        call.make()
        del self._open[call.number]

    def read(self) -> None:
        """Read until the parent closes the pipe or exits; then cancel all calls."""
        try:
            for line in sys.stdin:
                # A parent that exits while writing leaves an incomplete line.
                with contextlib.suppress(ValueError):
                    self._dispatch(json.loads(line))
        finally:
            for call in [*self._open.values()]:
                call.cancel()
            self.waiting.put(None)

    def _dispatch(self, message: Message) -> None:
        if "call" in message:
            call = Call(message, self._events, self._writing)
            self._open[call.number] = call
            if message["beside"]:
                threading.Thread(target=self.make, args=(call,)).start()
            else:
                self.waiting.put(call)
        elif (open_call := self._open.get(message["task"])) is not None:
            if message["command"] == "cancel":
                open_call.cancel()
                reached("cancel requested")
            elif open_call.job is not None:
                open_call.job.prioritise(engine.Region(*message["region"]))


if __name__ == "__main__":
    main()
