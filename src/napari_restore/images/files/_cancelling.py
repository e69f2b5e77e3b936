"""Cancelling while a file is opened: asked between the steps, in the thread that opens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from napari_restore.errors import Cancelled

_asked: ContextVar[Callable[[], bool] | None] = ContextVar("cancelled", default=None)


@contextlib.contextmanager
def cancellable(cancelled: Callable[[], bool] | None) -> Iterator[None]:
    """`check_cancelled` within asks `cancelled`."""
    token = _asked.set(cancelled)
    try:
        check_cancelled()
        yield
    finally:
        _asked.reset(token)


def check_cancelled() -> None:
    """Raise `Cancelled` if whoever opens the file no longer wants it."""
    cancelled = _asked.get()
    if cancelled is not None and cancelled():
        raise Cancelled("Opening the file was cancelled.")
