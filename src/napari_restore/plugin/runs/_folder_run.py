"""A folder restored by the command itself, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_restore.plugin.threads._background_task import WatchedWork

PATIENCE_MS = 3000
"""A command that has not stopped by then is ended; finished tiles are kept."""


class FolderRun:
    """Runs `napari-restore WORDS` and passes its reports on. All signals come in the GUI thread.

    napari asks before it closes its window over it, and ends it.
    """

    image_started = Signal(str, int, int)
    """Name, number and count of the images."""
    progressed = Signal(int, int)
    """Steps done and steps of the present image."""
    ended = Signal(str, object)
    """ "done", "cancelled" or "failed", and the command's answer as it gives it with --json."""

    def __init__(self, words: Sequence[str], before: Callable[[], object]) -> None:
        """`before` is called on another thread before the process is started."""
        self._before = before
        self._words = [sys.executable, "-m", "napari_restore", *words]
        self._words += ["--json", "--progress", "json"]
        self._child: subprocess.Popen[str] | None = None
        self._cancelled = False
        # Until the command has answered.
        self._answer = _failure("The command could not be started.")
        self._work = WatchedWork("restoration of a folder")
        self._patience = QTimer()
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self.stop)

    def start(self) -> None:
        """Begin; returns at once."""
        self._work.start(self._pump, self._on_finished, self._on_event)

    def cancel(self) -> None:
        """Stop as Ctrl-C does; what is finished is kept."""
        self._cancelled = True
        # Windows has no Ctrl-C for one process that has no console.
        if self._child is not None and os.name != "nt":
            self._child.send_signal(signal.SIGINT)
        elif self._child is not None:
            self._child.kill()
        self._patience.start(PATIENCE_MS)

    def stop(self) -> None:
        """End at once."""
        self._cancelled = True
        if self._child is not None:
            self._child.kill()

    # -- on the thread of the work --------------------------------------------------

    def _pump(self) -> Iterator[dict[str, Any]]:
        said: list[str] = []
        self._before()
        # A pipe nobody reads while stderr is open would fill up.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
            self._child = child = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            )
            assert child.stderr is not None
            if self._cancelled:
                child.kill()
            try:
                for line in child.stderr:
                    event = _event(line)
                    if event is None:
                        said.append(line.strip())
                    else:
                        yield event
                child.wait()
            finally:
                # Unwanted work is closed.
                child.kill()
                child.wait()
                child.stderr.close()
            answer.seek(0)
            self._answer = _answer(answer.read(), said)

    # -- on the GUI thread -------------------------------------------------------

    def _on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "ImageStarted":
            self.image_started.emit(event["name"], event["number"], event["images"])
        elif event["event"] == "Progress":
            self.progressed.emit(event["done"], event["total"])

    def _on_finished(self) -> None:
        self._patience.stop()
        failed = "error" in self._answer
        status = "cancelled" if self._cancelled else "failed" if failed else "done"
        self.ended.emit(status, self._answer)


def _event(line: str) -> dict[str, Any] | None:
    """The event in a line of stderr; None for words."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _answer(text: str, said: list[str]) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError:
        return _failure("\n".join(said[-3:]) or "The command ended unexpectedly.")
    return answer


def _failure(message: str) -> dict[str, Any]:
    """As the command reports one with --json."""
    return {"error": {"message": message, "hint": ""}}
