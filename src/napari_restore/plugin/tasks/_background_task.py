"""Long work on a thread of its own, over which napari asks before it closes its window."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from typing import Any

from napari.qt.threading import FunctionWorker, create_worker
from psygnal import Signal
from qtpy.compat import isalive
from qtpy.QtCore import QObject

from napari_restore.plugin.tasks._main_thread import on_main_thread

_tasks: dict[int, BackgroundTask] = {}
"""Tasks under way. Threads keep their numbers: the last reference to a task must be released
in the GUI thread, where Qt objects that go with it may be destroyed."""
_numbers = itertools.count()


class BackgroundTask:
    """Runs `work` once on a thread of its own; `receive` and `finish` are called in the GUI thread.

    napari's window names the task where it asks before it closes, and may abort it. Once its
    owner is destroyed a task stops, and reports nothing more: closing the window destroys
    widgets without closing them.
    """

    ended = Signal(str, object)
    """Once: "done", "cancelled" or "failed", with the result, None or the error."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._abort = threading.Event()
        self._over = threading.Event()
        self._shown: Any = None
        self._error: Exception | None = None
        self._owner: QObject | None = None
        self._is_abandoned = False
        self._outcome: tuple[str, Any] = ("cancelled", None)

    def work(self) -> Iterable[Any] | None:
        """Do the work, on the thread; an iterator is closed early where the task is aborted."""
        raise NotImplementedError

    def receive(self, item: Any) -> None:
        """Take an item that `work` yielded, unless the task was abandoned."""

    def finish(self) -> None:
        """Put things away before `ended`, also after an error of `work`, which napari shows."""

    def cancel(self) -> None:
        """Stop soon."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Stop without a report: its owner is gone, or wants something else."""
        self._is_abandoned = True
        self.cancel()

    @property
    def abort_requested(self) -> bool:
        """Whether napari has closed its window over the task."""
        return self._abort.is_set()

    @property
    def is_over(self) -> bool:
        """Whether the thread has ended its work."""
        return self._over.is_set()

    def start(self, owner: QObject) -> None:
        """Begin; called in the GUI thread, returns at once."""
        self._owner = owner
        owner.destroyed.connect(self.abandon)
        self._shown = create_worker(_Named(self._name), _worker_class=_ShownWorker)
        self._shown.abort = self._abort
        self._shown.started.emit()
        number = next(_numbers)
        _tasks[number] = self
        name = f"napari-restore {self._name}"
        threading.Thread(target=_run, args=(number,), name=name).start()

    def _receive(self, item: Any) -> None:
        if not self._is_abandoned:
            self.receive(item)

    def _end(self) -> None:
        owner, self._owner = self._owner, None
        # PyQt crashes where garbage with a slot on `destroyed` is collected.
        if owner is not None and isalive(owner):
            owner.destroyed.disconnect(self.abandon)
        shown, self._shown = self._shown, None
        error, self._error = self._error, None
        if error is not None:
            shown.errored.emit(error)
        shown.finished.emit()
        # napari's window keeps the worker, and any thread may find both to be garbage.
        shown.signals.deleteLater()
        self.finish()
        if not self._is_abandoned:
            self.ended.emit(*self._outcome)


class _ShownWorker(FunctionWorker):
    """The worker that napari shows for a task. It does nothing; only the GUI thread touches it.

    A worker that napari runs is run, and reported, on a thread of Qt's, which may be the last
    to release it.
    """

    abort: threading.Event

    def quit(self) -> None:
        """Abort the task."""
        super().quit()
        self.abort.set()


class _Named:
    """Stands for the function of a worker, whose name napari shows."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return self._name

    def __call__(self) -> None: ...


def _run(number: int) -> None:
    task: Any = _tasks[number]
    deliver: Any = on_main_thread(task._receive)
    items: Any = None
    item: Any = None
    try:
        items = task.work()
        for item in () if items is None else items:
            deliver(item)
            if task.abort_requested:
                break
        if hasattr(items, "close"):
            items.close()
    except Exception as error:
        task._error = error
    finally:
        task._over.set()
        # Before the GUI thread releases the task, see `_tasks`; `_end` follows all items.
        task = deliver = items = item = None
        on_main_thread(_end)(number)


def _end(number: int) -> None:
    _tasks.pop(number)._end()
