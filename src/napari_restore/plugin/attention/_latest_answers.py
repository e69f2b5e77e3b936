"""Answers to a query that is dragged: each is shown, none is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_restore.errors import RestoreError
from napari_restore.plugin.tasks._background import in_background
from napari_restore.plugin.tasks._main_thread import log_failure


class LatestAnswers(QObject):
    """Computes one answer at a time on another thread; then the newest question is next.

    Unlike `LatestQuery` every answer is given, also when a newer question waits: what is dragged
    is followed.
    """

    answered = Signal(object, object)
    """The key of a question, and its answer or a `RestoreError`."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._next: tuple[Any, Callable[[], Any]] | None = None
        self._is_busy = False
        self._generation = 0

    def ask(self, key: Any, compute: Callable[[], Any]) -> None:
        """Compute soon; a question that still waits is replaced."""
        self._next = (key, compute)
        if not self._is_busy:
            self._start()

    def discard(self) -> None:
        """Drop the question that waits and the answer that is being computed."""
        self._next = None
        self._generation += 1

    def _start(self) -> None:
        assert self._next is not None
        (key, compute), self._next = self._next, None
        self._is_busy = True
        in_background(lambda: _answer_to(compute), self._on_answer, self._generation, key)

    def _on_answer(self, generation: int, key: Any, answer: Any) -> None:
        self._is_busy = False
        if self._next is not None:
            self._start()
        if generation == self._generation:
            self.answered.emit(key, answer)


def _answer_to(compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except RestoreError as error:
        return error
    except Exception as error:
        log_failure("attention failed")
        return RestoreError(f"The attention failed: {error}.", "This is a bug; please report it.")
