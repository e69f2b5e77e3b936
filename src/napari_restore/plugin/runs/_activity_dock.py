"""A run in napari's activity dock, with a Cancel that works."""

from __future__ import annotations

import time
from collections.abc import Callable

from napari.utils import cancelable_progress

from napari_restore.engine import Event, Progress

DOCK_SECONDS = 1.0
"""Runs that last longer are shown: making napari's bar takes longer than a tile."""
SECONDS_BETWEEN_STEPS = 1.0
"""Each step of napari's bar runs Qt's events, drawing among them, from within the step."""


class ActivityDock:
    """Shows the progress of one run in napari's activity dock, if it lasts."""

    def __init__(self, title: str, cancel: Callable[[], object]) -> None:
        self._title, self._cancel = title, cancel
        self._began = time.monotonic()
        self._bar: _ProgressBar | None = None
        self._is_reporting = self._is_closed = False

    def report(self, event: Event) -> None:
        """Show an event of the run."""
        # Making and moving the bar runs Qt's events, which may lead here again.
        if self._is_reporting or time.monotonic() - self._began < DOCK_SECONDS:
            return
        self._is_reporting = True
        try:
            if self._bar is None:
                self._bar = _ProgressBar(self._title, self._cancel)
            self._bar.report(event)
        finally:
            self._is_reporting = False
        if self._is_closed:
            self._bar.close()

    def close(self) -> None:
        """Remove the bar: the run has ended."""
        self._is_closed = True
        if self._bar is not None and not self._is_reporting:
            self._bar.close()


class _ProgressBar(cancelable_progress):
    def __init__(self, title: str, cancel: Callable[[], object]) -> None:
        super().__init__(total=0, desc=title)
        self._cancel: Callable[[], object] | None = cancel
        self._stepped = 0.0

    def cancel(self) -> None:
        super().cancel()
        if self._cancel is not None:
            self._cancel()

    def close(self) -> None:
        super().close()
        # napari's dock keeps its bars as long as the window lives.
        self._cancel = None

    def report(self, event: Event) -> None:
        if not isinstance(event, Progress):
            return
        now = time.monotonic()
        if event.total == self.total and now - self._stepped < SECONDS_BETWEEN_STEPS:
            return
        # Before the step: events that it runs may lead here again.
        self._stepped = now
        if event.total != self.total:
            self.reset(event.total)
        self.update(event.done - self.n)
