"""Functions run on a new thread: torch's thread count belongs to the calling thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def on_new_thread(body: Callable[[], T], name: str, stop: threading.Event | None = None) -> T:
    """Run `body` on a new thread and return its result; its errors are raised here.

    Where the wait is interrupted (Ctrl-C), `stop` is set and `body` ends before that is raised.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(body())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    try:
        thread.join()
    except BaseException:
        if stop is not None:
            stop.set()
        thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]
