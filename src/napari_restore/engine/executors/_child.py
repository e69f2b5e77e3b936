"""A child process that runs tasks one after another."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from typing import Any

import numpy as np

from napari_restore import errors
from napari_restore._confined import unconfined
from napari_restore.engine.machine.device import ENVIRONMENT
from napari_restore.errors import Cancelled, ResourceError
from napari_restore.images import cache_environment

PATIENCE = 3.0
"""Seconds a closed child has to end by itself."""
LOOK_SECONDS = 0.1
"""How often who waits for an answer looks whether it is still wanted."""
FOLDER = "folder"
"""Key of the private folder through which arrays of a question come."""
ARRAYS = "arrays"
"""Key of the file with all arrays of a message."""
ARRAY, TUPLE, DICT = "array", "tuple", "dict"
"""Keys of the kinds of values in a message, beside the names of classes."""
Types = Mapping[str, Callable[..., Any]]
"""Classes that a message may hold, by name."""
Listener = Callable[[dict[str, Any]], None]


class Worker:
    """A child process that runs plans one after another and keeps what it has loaded; thread safe."""

    # Libraries, opened images, models and whole-image statistics stay in it, so that the next run
    # begins at once. It has its own OpenMP and allocator settings and a lower priority. It is
    # started at its first use, ends with `close` or with this process, and one that died is
    # replaced by the next task.
    def __init__(self, module: str, types: Callable[[], Types]) -> None:
        """Run `module` in the child, as ``python -m module``; `types` returns those of answers."""
        self._module, self._types = module, types
        self._lock = threading.RLock()
        self._child: subprocess.Popen[str] | None = None
        self._open: dict[int, tuple[subprocess.Popen[str], Listener]] = {}
        self._number = 0
        self._closed = False

    @property
    def process(self) -> subprocess.Popen[str] | None:
        """The child, or None while there is none."""
        return self._child

    def submit(
        self,
        function: str,
        question: Mapping[str, Any],
        listener: Listener,
        *,
        beside: bool = False,
    ) -> int:
        """Let the child call ``module:function`` with a question; return the number of the call.

        `listener` is called with its events on another thread; the last one is Finished, Stopped, Error,
        or Ended with the child's exit code. Calls wait for each other, but for those `beside` others.
        """
        with self._lock:
            if self._closed:
                raise ResourceError("The window of this run is closed.", "Open it again.")
            child = self._child
            if child is None or child.poll() is not None:
                child = self._start()
            self._number += 1
            number = self._number
            self._open[number] = (child, listener)
            self.send({"call": function, "task": number, "what": question, "beside": beside})
            return number

    def call(
        self,
        function: str,
        question: Mapping[str, Any],
        emit: Listener = lambda event: None,
        stop: threading.Event | None = None,
        *,
        beside: bool = False,
    ) -> Any:
        """Return what ``module:function`` returns in the child; `emit` is called with events in this thread.

        Arrays come through files in a private folder; an answer holds no classes but those of this worker. Once
        `stop` is set the child stops within a step. Raises the child's error, `Cancelled`, and
        `ResourceError` where the child has ended.
        """
        events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        with TemporaryDirectory(prefix="napari-restore-") as folder:
            task = {**as_json(question, Path(folder)), FOLDER: folder}
            number = self.submit(function, task, events.put, beside=beside)
            asked_to_stop = False
            while True:
                if stop is not None and stop.is_set() and not asked_to_stop:
                    asked_to_stop = True
                    self.cancel(number)
                try:
                    event = events.get(timeout=LOOK_SECONDS)
                except queue.Empty:
                    continue
                event = from_json(event, Path(folder), self._types())
                name = event["event"]
                if name == "Finished":
                    return event["answer"]
                if name == "Stopped" or (name == "Ended" and asked_to_stop):
                    raise Cancelled("Cancelled.", "Run it again.")
                if name in ("Error", "Ended"):
                    raise error_of(event)
                emit(event)

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to the child; ignored if it has just ended."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            child = self._child
            if child is not None and child.stdin is not None:
                child.stdin.write(json.dumps(message, default=os.fspath) + "\n")
                child.stdin.flush()

    def cancel(self, number: int) -> None:
        """Stop a task within a tile, or before it begins."""
        self.send({"command": "cancel", "task": number})

    def prioritise(self, number: int, region: tuple[int, int, int, int]) -> None:
        """Let a task restore the tiles nearest to `region` first."""
        self.send({"command": "prioritise", "task": number, "region": list(region)})

    def kill(self) -> None:
        """End the child at once; what it has finished is kept."""
        child = self._child
        if child is not None:
            child.kill()

    def close(self) -> None:
        """Let the child stop within a tile and end; one that does not is killed."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
        if child is not None and child.poll() is None:
            assert child.stdin is not None
            with contextlib.suppress(OSError):
                child.stdin.close()
            threading.Thread(target=_wait_or_kill, args=(child,), daemon=True).start()

    def _start(self) -> subprocess.Popen[str]:
        child = self._child = start_child(self._module)
        threading.Thread(target=self._listen, args=(child,), name="worker", daemon=True).start()
        return child

    def _listen(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        with child.stdout:
            for line in child.stdout:
                try:
                    event = json.loads(line)
                    number = event.pop("task")
                    last = event["event"] in ("Finished", "Stopped", "Error")
                except (ValueError, TypeError, KeyError, AttributeError):
                    # Not an event: a library that prints past Python.
                    continue
                with self._lock:
                    entry = self._open.pop(number, None) if last else self._open.get(number)
                if entry is not None:
                    entry[1](event)
        code = child.wait()
        with contextlib.suppress(OSError):
            if child.stdin is not None:
                child.stdin.close()
        with self._lock:
            if self._child is child:
                self._child = None
            gone = [number for number, (owner, _) in self._open.items() if owner is child]
            listeners = [self._open.pop(number)[1] for number in gone]
        for listener in listeners:
            listener({"event": "Ended", "code": code})


def start_child(module: str) -> subprocess.Popen[str]:
    """Start ``python -m module`` with pipes to its stdin and from its stdout."""
    with unconfined():
        return subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, **ENVIRONMENT, **cache_environment(), "PYTHONIOENCODING": "utf-8"},
        )


def error_of(event: Mapping[str, Any]) -> errors.RestoreError:
    """Return the error that an event Error or Ended stands for."""
    if event["event"] == "Error":
        kind: Any = getattr(errors, event["kind"], errors.RestoreError)
        error: errors.RestoreError = kind(event["message"], event["hint"])
        return error
    return ResourceError(
        f"The process that ran the model ended unexpectedly (code {event['code']}).",
        "It may have run out of memory: lower the budget and run again; what is finished is kept.",
    )


def as_json(message: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a question, event or answer as JSON: its arrays are written to one file in `folder`."""
    # Dataclasses, named tuples and tuples stay what they are: a record is the same in both
    # processes.
    found: dict[str, Any] = {}

    def taken(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            name = str(len(found))
            found[name] = value
            return {ARRAY: name}
        names = getattr(value, "_fields", None)
        if is_dataclass(value):
            names = [each.name for each in fields(value)]
        if names is not None:
            return {type(value).__name__: {name: taken(getattr(value, name)) for name in names}}
        if isinstance(value, Mapping):
            return {DICT: {key: taken(each) for key, each in value.items()}}
        if isinstance(value, tuple):
            return {TUPLE: [taken(each) for each in value]}
        return [taken(each) for each in value] if isinstance(value, list) else value

    data = {key: taken(each) for key, each in message.items()}
    if found:
        full = f"No space left on the disk of {folder.parent}."
        with errors.disk_full_as(full, "Free space, then run it again."):
            handle, name = mkstemp(".npz", dir=folder)
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **found)
        data[ARRAYS] = os.path.basename(name)
    return data


def from_json(data: Mapping[str, Any], folder: Path, types: Types) -> dict[str, Any]:
    """Return what `as_json` was given, with classes of `types`, and remove the file of its arrays."""
    found: dict[str, Any] = {}
    if ARRAYS in data:
        path = folder / data[ARRAYS]
        with np.load(path) as arrays:
            found = dict(arrays)
        path.unlink()

    def given(value: Any) -> Any:
        if isinstance(value, list):
            return [given(each) for each in value]
        if not isinstance(value, dict):
            return value
        ((kind, what),) = value.items()
        if kind == ARRAY:
            return found[what]
        if kind == TUPLE:
            return tuple(map(given, what))
        parts = {name: given(each) for name, each in what.items()}
        return parts if kind == DICT else types[kind](**parts)

    return {key: given(each) for key, each in data.items() if key != ARRAYS}


def _wait_or_kill(child: subprocess.Popen[str]) -> None:
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
