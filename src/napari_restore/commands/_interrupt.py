"""Ctrl-C handling: the first SIGINT cancels a run cleanly."""

from __future__ import annotations

import _thread
import signal
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self, TypeVar

from napari_restore._heap import collect_as_usual
from napari_restore._points import reached
from napari_restore.commands._failures import STOPPED
from napari_restore.errors import Cancelled

PATIENCE = 0.3
"""Seconds to wait for a cancelled job; then its thread is abandoned: finished tiles are safe in their
store."""
CLUSTER_PATIENCE = 20.0
"""The same for workers of a cluster, which are to be left free."""

J = TypeVar("J")


class Interrupt:
    """Within this context SIGINT cancels `job`, or raises `Cancelled` where there is none.

    A second SIGINT raises `KeyboardInterrupt`. Outside of the main thread, where signals cannot be
    handled, it does nothing. `patience` is the time in seconds to wait for a cancelled job.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self.requested = False
        self._patience = patience
        self._job: Any = None
        self._ended = threading.Event()
        self._previous: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def cancel(self) -> None:
        """Cancel `job`, or the next one; callable from any thread."""
        self.requested = True
        job = self._job
        if job is not None:
            job.cancel()

    def watch(self, job: Any) -> None:
        """Let SIGINT call `job.cancel()` from now on: the long part of a command begins."""
        collect_as_usual()
        self._ended.clear()
        self._job = job
        if self.requested:  # between the start of the job and this line
            job.cancel()

    def leave(self) -> None:
        """Detach the job, which has ended."""
        self._job = None
        self._ended.set()

    @contextmanager
    def watching(self, job: J) -> Iterator[J]:
        """Let SIGINT call `job.cancel()` within the block."""
        self.watch(job)
        try:
            yield job
        finally:
            self.leave()

    def check(self) -> None:
        """Raise `Cancelled` after a SIGINT; to be called between steps."""
        if self.requested:
            raise Cancelled(*STOPPED)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if self._job is None:
            if not _in_thread_start(frame):
                self.check()
            # Otherwise `watch` or the next `check` stops: an exception would leave the new thread
            # unregistered, which prints a traceback.
            return
        # On another thread: the main thread may have locked what `cancel` locks.
        threading.Thread(target=self._cancel, args=(self._job,), daemon=True).start()

    def _cancel(self, job: Any) -> None:
        job.cancel()
        reached("cancel requested")
        if self._ended.wait(self._patience):
            return
        main = threading.main_thread().ident
        if hasattr(signal, "pthread_kill") and main is not None:
            # Also wakes a main thread that waits for a lock.
            signal.pthread_kill(main, signal.SIGINT)
        else:
            _thread.interrupt_main(signal.SIGINT)


def treat_sigterm_as_ctrl_c() -> None:
    """Let SIGTERM, as of a batch system, end this process as Ctrl-C does, which says what is kept."""

    def end(number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # ignored in the background
            raise KeyboardInterrupt
        handler(number, frame)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, end)


def interrupt_of(options: Namespace) -> Interrupt:
    """Return the handler for a command with the options of a run."""
    return Interrupt(PATIENCE if options.cluster is None else CLUSTER_PATIENCE)


def _in_thread_start(frame: FrameType | None) -> bool:
    """Return whether `frame` or a caller of it is `threading.Thread.start`."""
    while frame is not None:
        if frame.f_code is threading.Thread.start.__code__:
            return True
        frame = frame.f_back
    return False
