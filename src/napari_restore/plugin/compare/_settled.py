"""Work on another thread once the user has come to rest."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

from superqt.utils import qdebounced

from napari_restore.errors import RestoreError
from napari_restore.plugin._latest import Latest
from napari_restore.plugin._notices import show_problem


class Settled:
    """Calls `work` on a thread and `receive` with what it gives, in the window's thread.

    Of orders that come within `settle_ms` of each other, or while the thread is busy,
    only the newest counts.
    """

    def __init__(
        self, work: Callable[..., Any], receive: Callable[[Any], object], settle_ms: int
    ) -> None:
        self._work = work
        self._receive = receive
        self._numbers = itertools.count()
        self._order: Callable[[], Any] | None = None
        self._latest = Latest("Comparing failed")
        self._latest.answered.connect(self._on_answer)
        # Held per object: a decorated method would share one timer among all.
        self._settle = qdebounced(self._start, timeout=settle_ms)

    def ask(self, *arguments: Any) -> None:
        """Order `work(*arguments)` soon."""
        self._order = partial(self._work, *arguments)
        self._settle()

    def ask_now(self, *arguments: Any) -> None:
        """Order `work(*arguments)` at once."""
        self._settle.cancel()
        self._order = partial(self._work, *arguments)
        self._start()

    def close(self) -> None:
        """Stop the timer; an answer on its way is dropped."""
        self._settle.cancel()
        self._order = None
        self._latest.forget()

    def _start(self) -> None:
        order, self._order = self._order, None
        if order is not None:
            self._latest.ask(next(self._numbers), order)

    def _on_answer(self, question: int, answer: Any) -> None:
        if isinstance(answer, RestoreError):
            show_problem(answer)
        else:
            self._receive(answer)
