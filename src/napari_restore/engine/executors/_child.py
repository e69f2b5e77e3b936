"""A child process that runs tasks one after another."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from napari_restore.engine.machine._device import ENVIRONMENT
from napari_restore.errors import ResourceError

PATIENCE = 3.0
"""Seconds a closed child has to end by itself."""
Listener = Callable[[dict[str, Any]], None]


class Worker:
    """A child process that runs plans one after another and keeps what it has loaded.

    Libraries, opened images, models and whole-image statistics stay in it, so that the
    next run begins at once. It has its own OpenMP and allocator settings and a lower
    priority. It is started at its first use, ends with `close` or with this process,
    and one that died is replaced by the next task. Thread safe.
    """

    def __init__(self, module: str) -> None:
        """Run `module` in the child, as ``python -m module``."""
        self._module = module
        self._lock = threading.RLock()
        self._child: subprocess.Popen[str] | None = None
        self._open: dict[int, tuple[subprocess.Popen[str], Listener]] = {}
        self._number = 0
        self._closed = False

    @property
    def process(self) -> subprocess.Popen[str] | None:
        """The child, or None while there is none."""
        return self._child

    def submit(self, task: dict[str, Any], listener: Listener, command: str = "run") -> int:
        """Queue `task`; `listener` is called with its events on another thread. Returns its number.

        The last event is Finished, Stopped, Error, or Ended with the child's exit code.
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
            self.send({"command": command, "task": number, "what": task})
            return number

    def warm(self, task: dict[str, Any] | None = None) -> None:
        """Start the child and let it load libraries and what `task` needs."""
        self.submit(task or {}, lambda event: None, "warm")

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to the child; ignored if it has just ended."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            child = self._child
            if child is not None and child.stdin is not None:
                child.stdin.write(json.dumps(message) + "\n")
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
            child = self._detach()
        if child is not None:
            threading.Thread(target=_wait_or_kill, args=(child,), daemon=True).start()

    def _detach(self) -> subprocess.Popen[str] | None:
        """Ask the child to end; None if there is none."""
        child, self._child = self._child, None
        if child is None or child.poll() is not None:
            return None
        assert child.stdin is not None
        with contextlib.suppress(OSError):
            child.stdin.close()
        return child

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
                    last = event["event"] in ("Finished", "Stopped", "Error", "Warm")
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
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, **ENVIRONMENT, "PYTHONIOENCODING": "utf-8"},
    )


def _wait_or_kill(child: subprocess.Popen[str]) -> None:
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
