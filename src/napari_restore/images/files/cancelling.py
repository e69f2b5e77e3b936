"""Cancellation of opening a file, checked between the steps in the opening thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from napari_restore.errors import Cancelled

_callbacks: ContextVar[Callable[[], bool] | None] = ContextVar("cancelled", default=None)


@contextlib.contextmanager
def cancellable(cancelled: Callable[[], bool] | None) -> Iterator[None]:
    """Let `check_cancelled` inside the block call `cancelled`."""
    token = _callbacks.set(cancelled)
    try:
        check_cancelled()
        yield
    finally:
        _callbacks.reset(token)


def check_cancelled() -> None:
    """Raise `Cancelled` if the caller has cancelled."""
    cancelled = _callbacks.get()
    if cancelled is not None and cancelled():
        raise Cancelled("Opening the file was cancelled.")
