"""Short queries, computed on other threads and delivered in the GUI thread."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from napari_restore.plugin.tasks._main_thread import on_main_thread, while_alive

T = TypeVar("T")
THREADS = 4
"""One query may take minutes, as that of a large model file; the others pass it."""

_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="napari-restore-query")
# The threads know numbers only. They might be the last to release an object, and
# a Qt object that goes with it would be destroyed there.
_queries: dict[int, _Query[Any]] = {}
_numbers = itertools.count()


def in_background(compute: Callable[[], T], on_result: Callable[..., object], *about: Any) -> None:
    """Call `on_result(*about, compute())` in the GUI thread, and `compute` on another.

    Called in the GUI thread. Results come as they are ready, in any order. Where
    `on_result` is a method of a Qt object it is dropped once that is destroyed, and does not
    keep it. What `compute` raises is raised in the GUI thread, where napari shows it.

    Nothing is registered with napari, so that closing the window does not ask about it. Python ends
    when the result is computed, which is then dropped.
    """
    number = next(_numbers)
    _queries[number] = _Query(compute, on_result, about)
    _pool.submit(_work, number, on_main_thread(_deliver))


class _Query(Generic[T]):
    def __init__(
        self, compute: Callable[[], T], on_result: Callable[..., object], about: tuple[Any, ...]
    ) -> None:
        self._compute = compute
        self._about = about
        self._on_result = while_alive(on_result)
        self._result: tuple[T] | None = None
        self._error: BaseException | None = None

    def work(self) -> None:
        try:
            self._result = (self._compute(),)
        except BaseException as error:
            self._error = error

    def deliver(self) -> None:
        if isinstance(self._error, Exception):
            raise self._error
        if self._result is None:
            # Code of others may call sys.exit, which here would close the window.
            raise RuntimeError(f"The computation was ended: {self._error!r}")
        self._on_result(*self._about, *self._result)


def _work(number: int, deliver: Callable[[int], None]) -> None:
    _queries[number].work()
    deliver(number)


def _deliver(number: int) -> None:
    _queries.pop(number).deliver()
