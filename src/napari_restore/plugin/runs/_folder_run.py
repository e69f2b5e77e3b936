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

from napari_restore.plugin.threads._background_task import BackgroundTask

PATIENCE_MS = 3000
"""A command that has not stopped by then is ended; finished tiles are kept."""


class FolderRun(BackgroundTask):
    """Runs `napari-restore` with `arguments`; its signals are emitted in the GUI thread.

    `ended` gives what the command prints with --json.
    """

    image_started = Signal(str, int, int)
    """Name, number and count of the images."""
    progressed = Signal(int, int)
    """Steps done and steps of the present image."""

    def __init__(self, arguments: Sequence[str], before: Callable[[], object]) -> None:
        """Prepare the command; `before` is called on the thread before the process starts."""
        super().__init__("restoration of a folder")
        self._before = before
        self._command = [sys.executable, "-m", "napari_restore", *arguments]
        self._command += ["--json", "--progress", "json"]
        self._child: subprocess.Popen[str] | None = None
        self._cancelled = False
        self._output = _failure("The command could not be started.")
        """What the command has printed, once it has ended."""
        self._patience = QTimer()
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self._kill)

    def cancel(self) -> None:
        """Stop as Ctrl-C does; what is finished is kept."""
        self._cancelled = True
        # Windows has no Ctrl-C for one process that has no console.
        if self._child is not None and os.name != "nt":
            self._child.send_signal(signal.SIGINT)
        elif self._child is not None:
            self._child.kill()
        self._patience.start(PATIENCE_MS)

    def abandon(self) -> None:
        """End at once without a report."""
        super().abandon()
        self._kill()

    def _kill(self) -> None:
        self._cancelled = True
        if self._child is not None:
            self._child.kill()

    # -- on the thread of the task --------------------------------------------------

    def work(self) -> Iterator[dict[str, Any]]:
        """Yield the events of the command."""
        lines: list[str] = []
        self._before()
        # A pipe nobody reads while stderr is open would fill up.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            self._child = child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
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
                        lines.append(line.strip())
                    else:
                        yield event
                child.wait()
            finally:
                # The iterator was closed early.
                child.kill()
                child.wait()
                child.stderr.close()
            output.seek(0)
            self._output = _parsed(output.read(), lines)

    # -- in the GUI thread ---------------------------------------------------------

    def receive(self, item: dict[str, Any]) -> None:
        """Report an event of the command."""
        if item["event"] == "ImageStarted":
            self.image_started.emit(item["name"], item["number"], item["images"])
        elif item["event"] == "Progress":
            self.progressed.emit(item["done"], item["total"])

    def finish(self) -> None:
        """Find how the command ended."""
        self._patience.stop()
        failed = "error" in self._output
        status = "cancelled" if self._cancelled else "failed" if failed else "done"
        self._outcome = (status, self._output)


def _event(line: str) -> dict[str, Any] | None:
    """Return the event in a line of stderr; None for text."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _parsed(text: str, lines: list[str]) -> dict[str, Any]:
    try:
        output: dict[str, Any] = json.loads(text)
    except ValueError:
        return _failure("\n".join(lines[-3:]) or "The command ended unexpectedly.")
    return output


def _failure(message: str) -> dict[str, Any]:
    """Return an error as the command prints it with --json."""
    return {"error": {"message": message, "hint": ""}}
