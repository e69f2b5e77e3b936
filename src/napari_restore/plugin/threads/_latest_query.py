"""Queries computed on another thread, of which only the newest counts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, Signal
from superqt.utils import qdebounced

from napari_restore.errors import RestoreError
from napari_restore.plugin._notices import show_problem
from napari_restore.plugin.threads._background import in_background
from napari_restore.plugin.threads._main_thread import log_failure

Compute = Callable[[], Any]


class LatestQuery(QObject):
    """Computes on another thread, one query at a time; the newest replaces those that wait."""

    finished = Signal(object, object)
    """The key of a query, and its result or a `RestoreError`."""

    def __init__(self, failure: str, parent: QObject | None = None) -> None:
        """Begin without a query; `failure` is the sentence that an unexpected error begins with."""
        super().__init__(parent)
        self._failure = failure
        self._pending: tuple[Hashable, Compute] | None = None
        self._busy: Hashable | None = None

    def submit(self, key: Hashable, compute: Compute) -> None:
        """Compute soon, unless another query comes first; equal keys are computed once."""
        if self._pending is not None and self._pending[0] == key:
            return
        self._pending = (key, compute)
        if self._busy is None:
            self._start()

    def discard(self) -> None:
        """Drop the query that waits and the result that is being computed."""
        self._pending = None

    def _start(self) -> None:
        assert self._pending is not None
        self._busy, compute = self._pending
        in_background(partial(_result_or_error, compute, self._failure), self._on_result)

    def _on_result(self, result: Any) -> None:
        key, self._busy = self._busy, None
        if self._pending is None:
            return
        if self._pending[0] == key:
            self._pending = None
            self.finished.emit(key, result)
        else:
            self._start()


class DebouncedQuery:
    """Calls `compute` on another thread and `on_result` with its result in the GUI thread.

    Of requests that come within `debounce_ms` of each other, or while the thread is busy,
    only the newest counts. Errors are shown as napari notifications.
    """

    def __init__(
        self,
        compute: Callable[..., Any],
        on_result: Callable[[Any], object],
        debounce_ms: int,
        failure: str = "The computation failed",
        parent: QObject | None = None,
    ) -> None:
        self._compute = compute
        self._on_result = on_result
        self._numbers = itertools.count()
        self._pending: Compute | None = None
        self._query = LatestQuery(failure, parent)
        self._query.finished.connect(self._on_finished)
        # One per object: a decorated method would share one timer among all.
        self._debounced = qdebounced(self._start, timeout=debounce_ms, parent=parent)

    def request(self, *arguments: Any) -> None:
        """Request `compute(*arguments)` once no other request follows."""
        self._pending = partial(self._compute, *arguments)
        self._debounced()

    def request_now(self, *arguments: Any) -> None:
        """Request `compute(*arguments)` at once."""
        self._debounced.cancel()
        self._pending = partial(self._compute, *arguments)
        self._start()

    def discard(self) -> None:
        """Stop the timer and drop the result that is being computed."""
        self._debounced.cancel()
        self._pending = None
        self._query.discard()

    def _start(self) -> None:
        compute, self._pending = self._pending, None
        if compute is not None:
            self._query.submit(next(self._numbers), compute)

    def _on_finished(self, _: int, result: Any) -> None:
        if isinstance(result, RestoreError):
            show_problem(result)
        else:
            self._on_result(result)


def _result_or_error(compute: Compute, failure: str) -> Any:
    try:
        return compute()
    except RestoreError as error:
        return error
    except Exception as error:
        log_failure(failure)
        return RestoreError(f"{failure}: {error}.", "This is a bug; please report it.")
