"""Background tasks that compute on yet another thread, and report events."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from psygnal import Signal

from napari_restore.errors import RestoreError
from napari_restore.plugin.threads._background_task import BackgroundTask
from napari_restore.plugin.threads._main_thread import log_failure


class StoppableTask(BackgroundTask):
    """Reports what happens; an event stops it."""

    happened = Signal(object)
    """Every event of the engine."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._stop = threading.Event()

    def cancel(self) -> None:
        """Stop soon."""
        self._stop.set()


def messages_of(
    compute: Callable[[Callable[[Any], None]], None],
    stop: threading.Event,
    name: str,
    failure: str,
) -> Iterator[Any]:
    """Yield what `compute` sends, or at last the error.

    It runs on a thread of its own, which ends soon when the iterator is closed early or `stop` is set.
    `failure` is how the sentence on an unexpected error begins.
    """
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run() -> None:
        try:
            compute(messages.put)
        except RestoreError as error:
            messages.put(error)
        except Exception as error:
            log_failure(f"{name} failed")
            messages.put(RestoreError(f"{failure}: {error}", "This is a bug; please report it."))
        messages.put(None)

    threading.Thread(target=run, name=f"napari-restore {name}").start()
    try:
        yield from iter(messages.get, None)
    except GeneratorExit:
        # Not at the end: what was computed may go on using it.
        stop.set()
        raise
