"""Child processes of windows, forked from one that has loaded its libraries already.

To start Python and import torch costs seconds, and most window tests need a child process. These
run the same loop on the same pipes. How the program starts its own is tested in
tests/engine/test_process_job.py.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from typing import TextIO

import pytest

from napari_restore.engine.machine.device import ENVIRONMENT

PRELOADED = [
    "psutil",
    "pydantic.type_adapter",
    "rasterio",
    "torch",
    "zarr",
    "napari_restore.api.worker",
    "napari_restore.commands.worker",
    "napari_restore.engine.planning._planning",
    "napari_restore.engine.running._job",
    "napari_restore.images.readers._gdal",
    "napari_restore.models._load",
    "napari_restore.models.classical.dcp",
]


def fork_server() -> ForkServerContext:
    """Start the process that children are forked from."""
    from multiprocessing.forkserver import ensure_running

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        # Read when libraries load.
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        ensure_running()
    return context


class ForkedWorker:
    """What `Worker` uses of a `subprocess.Popen`."""

    def __init__(self, context: ForkServerContext) -> None:
        stdin, to_child = context.Pipe(duplex=False)
        from_child, stdout = context.Pipe(duplex=False)
        arguments = (stdin, stdout, os.getcwd(), {**os.environ, **ENVIRONMENT})
        self._process = context.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.stdin: TextIO = os.fdopen(os.dup(to_child.fileno()), "w", encoding="utf-8")
        self.stdout: TextIO = os.fdopen(os.dup(from_child.fileno()), encoding="utf-8")
        for end in (stdin, to_child, from_child, stdout):
            end.close()
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, or None while the child lives."""
        # Only the first who asks can read it.
        with self._lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the child's end and return its exit code; negative for a signal."""
        wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("worker", timeout or 0)
        return code

    def kill(self) -> None:
        """End the child at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


def _run(stdin: Connection, stdout: Connection, folder: str, environment: dict[str, str]) -> None:
    from napari_restore.api import worker

    # Beside other programs a test would wait for a process that stands back.
    worker.NICE = 0
    os.dup2(stdout.fileno(), 1)
    # multiprocessing has closed the one that was there.
    sys.stdin = os.fdopen(stdin.fileno(), encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    worker.main()
