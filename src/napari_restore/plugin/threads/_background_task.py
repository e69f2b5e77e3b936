"""Work over which napari asks before it closes its window, on a thread of its own."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from typing import Any

from napari.qt.threading import FunctionWorker, create_worker

from napari_restore.plugin.threads._main_thread import on_main_thread

Work = Callable[[], Iterable[Any] | None]
Heard = Callable[[Any], object]

# As in `_background`: the threads know numbers only.
_going: dict[int, WatchedWork] = {}
_numbers = itertools.count()


class WatchedWork:
    """Done once. napari's window names it when it asks, and may want it to end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._unwanted = threading.Event()
        self._over = threading.Event()
        self._parts: tuple[Work, Callable[[], object], Heard | None] | None = None
        self._shown: Any = None
        self._error: Exception | None = None

    @property
    def is_unwanted(self) -> bool:
        """Whether napari has closed its window over it."""
        return self._unwanted.is_set()

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is done any more."""
        return self._over.is_set()

    def start(self, work: Work, ended: Callable[[], object], listener: Heard | None = None) -> None:
        """Begin; to be called in the GUI thread, where `listener` and `ended` are called too.

        `listener` gets what `work` gives, where that is a generator; one that is unwanted is
        closed. `ended` comes last, also after an error of `work`, which napari shows.
        """
        self._parts = work, ended, listener
        self._shown = create_worker(_Named(self._name), _worker_class=_Shown)
        self._shown.unwanted = self._unwanted
        self._shown.started.emit()
        number = next(_numbers)
        _going[number] = self
        arguments = number, on_main_thread(_on_item), on_main_thread(_end)
        threading.Thread(target=_run, args=arguments, name=f"napari-restore {self._name}").start()

    def _run(self, number: int, on_item: Callable[[int, Any], None]) -> None:
        assert self._parts is not None
        try:
            steps = self._parts[0]()
            for item in () if steps is None else steps:
                on_item(number, item)
                if self._unwanted.is_set():
                    break
            close = getattr(steps, "close", None)
            if close is not None:
                close()
        except Exception as error:
            self._error = error
        finally:
            self._over.set()

    def _on_item(self, item: Any) -> None:
        assert self._parts is not None
        listener = self._parts[2]
        if listener is not None:
            listener(item)

    def _end(self) -> None:
        assert self._parts is not None
        (_, ended, _), self._parts = self._parts, None
        shown, self._shown = self._shown, None
        if self._error is not None:
            shown.errored.emit(self._error)
        shown.finished.emit()
        # napari's window keeps the worker, and any thread may find both to be garbage.
        shown.signals.deleteLater()
        ended()


class _Shown(FunctionWorker):
    """What napari knows of the work. It does nothing, and the GUI thread alone touches it.

    What napari would make is run, and reported, on a thread of Qt's, which may be the last
    to let go of it.
    """

    unwanted: threading.Event

    def quit(self) -> None:
        super().quit()
        self.unwanted.set()


class _Named:
    """In the place of the function, of which napari shows the name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return self._name

    def __call__(self) -> None: ...


def _run(number: int, on_item: Callable[[int, Any], None], end: Callable[[int], None]) -> None:
    try:
        _going[number]._run(number, on_item)
    finally:
        end(number)


def _on_item(number: int, item: Any) -> None:
    _going[number]._on_item(item)


def _end(number: int) -> None:
    _going.pop(number)._end()
