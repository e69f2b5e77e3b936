"""Holds the program at its points: what a test does to it then comes neither too early nor too late."""

from __future__ import annotations

import contextlib
import os
import socketserver
import threading

import psutil
import pytest

PATIENCE = 30.0
"""Seconds after which what a test waits for is taken to be lost, where nothing else wants the processors."""


def patience() -> float:
    """Return `PATIENCE`, and as much more as processes of this machine share its processors."""
    return PATIENCE * max(1.0, psutil.getloadavg()[0] / (os.cpu_count() or 1))


class Points:
    """The points of `napari_restore._points` that a test holds, here and in processes started later."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch, self._changed = patch, threading.Condition()
        self._after: dict[str, int] = {}
        """Names of the points, and how often each is passed before it is held."""
        self._open: set[str] = set()
        """Those that are held no more."""
        self._reached: list[tuple[str, int]] = []
        """Name and process of each time that a point was reached."""
        points = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                # A process that was killed takes no answer.
                with contextlib.suppress(OSError):
                    name, process = self.rfile.readline().decode().rsplit(maxsplit=1)
                    points._hold(name, int(process))
                    self.wfile.write(b".")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def hold(self, *names: str, after: int = 0) -> None:
        """Hold each thread that reaches one of these points from now on, after so many that may pass."""
        with self._changed:
            self._after.update({name: self._times(name) + after for name in names})
            self._open.difference_update(names)
        port = self._server.server_address[1]
        self._patch.setenv("NAPARI_RESTORE_POINTS", f"{','.join(self._after)}@{port}")

    def held(self, name: str) -> list[int]:
        """Return the processes that were held at a point since `hold`, one for each time."""
        with self._changed:
            found = [process for each, process in self._reached if each == name]
            return found[self._after[name] :]

    def wait(self, name: str, times: int = 1) -> int:
        """Wait until threads were held at a point so often; return the process of the last one."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.held(name)) >= times, patience()):
                # Else a process that is held would not end with the test.
                self.go(*self._after)
                pytest.fail(f"{name!r} is not reached; reached were {self._reached}")
            return self.held(name)[times - 1]

    def go(self, *names: str) -> None:
        """Let all go on that are held at these points, and those that reach them later."""
        with self._changed:
            self._open.update(names)
            self._changed.notify_all()

    def close(self) -> None:
        """Let everything go on."""
        self.go(*self._after)
        self._server.shutdown()
        self._server.server_close()

    def _hold(self, name: str, process: int) -> None:
        with self._changed:
            number = self._times(name)
            self._reached.append((name, process))
            self._changed.notify_all()
            self._changed.wait_for(lambda: number < self._after[name] or name in self._open)

    def _times(self, name: str) -> int:
        return sum(each == name for each, _ in self._reached)
