"""Runs a function on a thread of its own: torch's thread count belongs to the calling thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def on_own_thread(body: Callable[[], T], name: str) -> T:
    """Return the result of `body`, whose thread count leaves the caller's as it is; its errors,
    too."""
    found: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(body())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]
