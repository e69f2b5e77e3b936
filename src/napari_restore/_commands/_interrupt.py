"""Ctrl-C: the first one stops a run in good order."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from napari_restore.errors import Cancelled


class Interrupt:
    """Within this context SIGINT cancels `job`, or raises `Cancelled` where there is none.

    A second SIGINT raises `KeyboardInterrupt`, for whoever will not wait.
    Outside the main thread, where signals cannot be caught, it does nothing.
    """

    def __init__(self) -> None:
        self.job: Any = None
        """The running job, or None between jobs."""
        self.requested = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.job = None
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def check(self, *_: object) -> None:
        """Raise `Cancelled` after a SIGINT; also fits as a callback of long work."""
        if self.requested:
            raise Cancelled("Stopped.", "The same command goes on from the tiles that are done.")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if self.job is None:
            self.check()
        else:
            # Not from here: the main thread may hold the very lock `cancel` takes.
            threading.Thread(target=self.job.cancel, daemon=True).start()
