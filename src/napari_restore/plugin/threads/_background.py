"""Answers that take a while, computed on other threads and delivered in the GUI thread."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import MethodType
from typing import Any, Generic, TypeVar
from weakref import WeakMethod

from qtpy.compat import isalive
from qtpy.QtCore import QObject

from napari_restore.plugin.threads._main_thread import on_main_thread

T = TypeVar("T")
THREADS = 4
"""A question may take minutes, as a model file of others does: the rest go round it."""

_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="napari-restore-answer")
# The threads know numbers only. They might be the last to release an object, and
# a Qt object that goes with it would be destroyed there.
_questions: dict[int, _Question[Any]] = {}
_numbers = itertools.count()


def in_background(compute: Callable[[], T], answered: Callable[..., object], *about: Any) -> None:
    """Call `answered(*about, compute())` in the GUI thread, and `compute` on another.

    Called in the GUI thread. Answers come as they are ready, in any order. Where
    `answered` is a method of a Qt object it is dropped once that is destroyed, and does not
    keep it. What `compute` raises is raised in the GUI thread, where napari shows it.

    Nothing is registered with napari: closing the window need not ask about it. Python ends
    when the answer is computed; it is then dropped.
    """
    number = next(_numbers)
    _questions[number] = _Question(compute, answered, about)
    _pool.submit(_work, number, on_main_thread(_deliver))


class _Question(Generic[T]):
    def __init__(
        self, compute: Callable[[], T], answered: Callable[..., object], about: tuple[Any, ...]
    ) -> None:
        self._compute = compute
        self._about = about
        self._callback: Callable[[], Callable[..., object] | None] = lambda: answered
        if isinstance(answered, MethodType) and isinstance(answered.__self__, QObject):
            self._callback = WeakMethod(answered)
        self._answer: tuple[T] | None = None
        self._error: BaseException | None = None

    def work(self) -> None:
        try:
            self._answer = (self._compute(),)
        except BaseException as error:
            self._error = error

    def deliver(self) -> None:
        if isinstance(self._error, Exception):
            raise self._error
        if self._answer is None:
            # Code of others may call sys.exit, which here would close the window.
            raise RuntimeError(f"The computation was ended: {self._error!r}")
        answered = self._callback()
        owner = getattr(answered, "__self__", None)
        if answered is not None and (not isinstance(owner, QObject) or isalive(owner)):
            answered(*self._about, *self._answer)


def _work(number: int, deliver: Callable[[int], None]) -> None:
    _questions[number].work()
    deliver(number)


def _deliver(number: int) -> None:
    _questions.pop(number).deliver()
