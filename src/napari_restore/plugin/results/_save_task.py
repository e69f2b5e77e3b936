"""A result being written to a file, by the panel or by the File menu."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_restore import api
from napari_restore._format import size_of
from napari_restore.errors import Cancelled, RestoreError
from napari_restore.plugin.threads._background_task import BackgroundTask
from napari_restore.plugin.threads._main_thread import on_main_thread

if TYPE_CHECKING:
    from qtpy.QtCore import QObject

    from napari_restore.engine import Result

SECONDS_BETWEEN_REPORTS = 0.1

Report = Callable[[int, int], None]


def save(
    result: Result,
    path: Path,
    options: Mapping[str, Any],
    progress: Report | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Write what `result` shows, verified, then renamed.

    Raises `BadOutput`, `Cancelled`, `DiskFull`.

    The dialog of the name asks about replacing a file; the source is never replaced.
    """
    api.check_output(path, result.like, overwrite=True, region=result.region, **options)
    written = result.save(path, overwrite=True, progress=progress, cancelled=cancelled, **options)
    output = result.record.get("output")
    if output is not None:
        output["options"] = dict(options)
    return written


class SaveTask(BackgroundTask):
    """A result being saved; napari asks before it closes its window over it.

    Signals are emitted in the GUI thread.
    """

    progressed = Signal(int, int, object)
    """Rows done, rows in all, seconds left or None."""

    def __init__(self, result: Result, path: Path, options: Mapping[str, Any]) -> None:
        super().__init__(f"export to {path.name}")
        self.result = result
        self.path = path
        self.size = 0
        """Bytes of what was written, once it was."""
        self._options = dict(options)
        self._cancelled = threading.Event()
        self._began = self._reported = 0.0
        self._report = on_main_thread(self._on_progress)

    def start(self, owner: QObject) -> None:
        """Begin; returns at once."""
        self._began = time.monotonic()
        super().start(owner)

    def cancel(self) -> None:
        """Stop between two blocks; nothing is left behind."""
        self._cancelled.set()

    # -- on the thread of the task ---------------------------------------------------

    def work(self) -> None:
        """Write the file."""
        try:
            written = save(self.result, self.path, self._options, self._on_rows, self._is_cancelled)
            # Here: a zarr may have a hundred thousand files.
            self.size = size_of(written)
            self._outcome = ("done", written)
        except Cancelled:
            pass
        except RestoreError as error:
            self._outcome = ("failed", error)
        except Exception as error:
            self._outcome = (
                "failed",
                RestoreError(f"{self.path.name} was not written: {error}", "Try another format."),
            )

    def _is_cancelled(self) -> bool:
        return self._cancelled.is_set() or self.abort_requested

    def _on_rows(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self._reported < SECONDS_BETWEEN_REPORTS:
            return
        self._reported = now
        left = (now - self._began) / done * (total - done) if done else None
        self._report(done, total, left)

    # -- in the GUI thread -----------------------------------------------------------

    def _on_progress(self, done: int, total: int, seconds_left: float | None) -> None:
        if not self._is_abandoned:
            self.progressed.emit(done, total, seconds_left)
