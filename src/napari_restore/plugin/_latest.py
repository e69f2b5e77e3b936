"""Answers that take a while: only the newest question counts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_restore.errors import RestoreError
from napari_restore.plugin._background import in_background

Compute = Callable[[], Any]


class Latest(QObject):
    """Computes on another thread, one question at a time."""

    answered = Signal(object, object)
    """The question, and its answer or `RestoreError`."""

    def __init__(self, failure: str, parent: QObject | None = None) -> None:
        """`failure` says what failed where the cause is a bug: ``"The mask cannot be made"``."""
        super().__init__(parent)
        self._failure = failure
        self._wanted: tuple[Hashable, Compute] | None = None
        self._busy: Hashable | None = None

    def ask(self, question: Hashable, compute: Compute) -> None:
        """Answer soon, unless another question comes first; equal questions are answered once."""
        if self._wanted is not None and self._wanted[0] == question:
            return
        self._wanted = (question, compute)
        if self._busy is None:
            self._start()

    def forget(self) -> None:
        """Nothing is wanted any more."""
        self._wanted = None

    def _start(self) -> None:
        assert self._wanted is not None
        self._busy, compute = self._wanted
        in_background(partial(_answer, compute, self._failure), self._on_answer)

    def _on_answer(self, answer: Any) -> None:
        question, self._busy = self._busy, None
        if self._wanted is None:
            return
        if self._wanted[0] == question:
            self._wanted = None
            self.answered.emit(question, answer)
        else:
            self._start()


def _answer(compute: Compute, failure: str) -> Any:
    try:
        return compute()
    except RestoreError as error:
        return error
    except Exception as error:
        logging.getLogger(__name__).exception(failure)
        return RestoreError(f"{failure}: {error}.", "This is a bug; please report it.")
