"""Work off the window's thread: one `Task`, and its short forms for queries."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Self

import psygnal
from napari.qt.threading import FunctionWorker, create_worker
from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer
from superqt.utils import qdebounced

from napari_restore.errors import Cancelled, ResourceError, RestoreError, why_no_torch
from napari_restore.plugin.tasks.main_thread import log_failure, on_main_thread, while_alive
from napari_restore.plugin.tasks.notices import show_problem

THREADS = 4
"""One query may take minutes, as that of a large model file; the others pass it."""
BUG = "This is a bug; please report it."

_pool = ThreadPoolExecutor(THREADS, thread_name_prefix="napari-restore-query")
_tasks: dict[int, Task] = {}
"""Tasks under way. Threads keep their numbers: the last reference to a task must be released
in the GUI thread, where Qt objects that go with it may be destroyed."""
_numbers = itertools.count()


class Task:
    """Works once on a thread of its own; what it sends and how it ends arrives in the GUI thread."""

    # napari's window shows a task that has a name, asks before it closes over it, and cancels it.
    # Once its owner is destroyed a task stops, and reports nothing more: closing the window
    # destroys widgets without closing them.

    sent = psygnal.Signal(object)
    """What the work has sent."""
    ended = psygnal.Signal(str, object)
    """Once: "done", "cancelled" or "failed", with the result, None or the `RestoreError`."""

    is_daemon = False
    """Whether Python ends without waiting for it."""
    patience_ms = 0
    """`kill` is called where a cancelled task has not ended by then; 0: never."""

    def __init__(
        self,
        work: Callable[[Task], Any] | None = None,
        *,
        name: str = "",
        failure: str = "The computation failed",
        hint: str = BUG,
    ) -> None:
        """Prepare `work`, or what the class defines; `failure` and `hint` tell of an unexpected error."""
        self.name = name
        self.stop = threading.Event()
        """Set once the work is to stop."""
        self.outcome: tuple[str, Any] = ("cancelled", None)
        """As `ended` gives it, once the work is over."""
        self._work, self._failure, self._hint = work, failure, hint
        self._over = threading.Event()
        self._number = -1
        self._shown: Any = None
        self._owner: QObject | None = None
        self._patience: QTimer | None = None
        self._is_abandoned = False

    # -- on the thread ---------------------------------------------------------------

    def work(self) -> Any:
        """Do the work and return its result; raises `RestoreError`, or `Cancelled` after `stop`."""
        assert self._work is not None
        return self._work(self)

    def send(self, item: Any) -> None:
        """Let the GUI thread `receive` an item."""
        on_main_thread(_receive)(self._number, item)

    def _fail(self, error: BaseException) -> None:
        log_failure(self._failure)
        said = error if isinstance(error, Exception) else repr(error)
        self.outcome = ("failed", RestoreError(f"{self._failure}: {said}.", self._hint))

    # -- in the GUI thread -------------------------------------------------------------

    def start(self, owner: QObject | None = None) -> Self:
        """Begin, and return at once; the task ends with `owner`."""
        self._owner = owner
        self.began = time.monotonic()
        if owner is not None:
            owner.destroyed.connect(self.abandon)
        self._number = next(_numbers)
        _tasks[self._number] = self
        if self.name:
            self._shown = create_worker(_Named(self.name), _worker_class=_ShownWorker)
            self._shown.number = self._number
            self._shown.started.emit()
        self._submit(self._number)
        return self

    def _submit(self, number: int) -> None:
        name = f"napari-restore {self.name}".strip()
        threading.Thread(target=_run, args=(number,), name=name, daemon=self.is_daemon).start()

    def receive(self, item: Any) -> None:
        """Take what the work has sent, unless the task was abandoned."""
        self.sent.emit(item)

    def finish(self) -> None:
        """Put things away before `ended`, also of an abandoned task."""

    def cancel(self) -> None:
        """Stop soon, and report the end."""
        self.stop.set()
        if self.patience_ms and self._patience is None and not self.is_over:
            self._patience = QTimer(singleShot=True)
            self._patience.timeout.connect(self.kill)
            self._patience.start(self.patience_ms)

    def kill(self) -> None:
        """End what does not stop."""

    def abandon(self) -> None:
        """Stop without a report: its owner is gone, or wants something else."""
        self._is_abandoned = True
        self.cancel()

    @property
    def is_over(self) -> bool:
        """Whether the thread has ended its work."""
        return self._over.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the work, without the reports; return whether it is over."""
        return self._over.wait(seconds)

    def value(self) -> Any:
        """Return the result of work that is over, or raise its error."""
        status, outcome = self.outcome
        if status == "done":
            return outcome
        raise Cancelled(f"{self.name or 'The task'} was cancelled.") if outcome is None else outcome

    def _end(self) -> None:
        owner, self._owner = self._owner, None
        # PyQt crashes where garbage with a slot on `destroyed` is collected.
        if owner is not None and isalive(owner):
            owner.destroyed.disconnect(self.abandon)
        patience, self._patience = self._patience, None
        if patience is not None:
            patience.stop()
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.finished.emit()
            # napari's window keeps the worker, and any thread may find both to be garbage.
            shown.signals.deleteLater()
        self.finish()
        if not self._is_abandoned:
            status, outcome = self.outcome
            self.ended.emit(status, None if status == "cancelled" else outcome)


def in_background(
    compute: Callable[[], Any],
    on_answer: Callable[..., object],
    *about: Any,
    failure: str = "",
    hint: str = BUG,
) -> None:
    """Call `on_answer(*about, answer)` in the GUI thread; the answer is what `compute` returns elsewhere.

    Called in the GUI thread. Answers come as they are ready, in any order. Where `on_answer` is a
    method of a Qt object it is dropped once that is destroyed, and does not keep it. A `RestoreError`
    is an answer, too; so is any error where `failure` names what failed. Others are raised in
    the GUI thread, where napari shows them.

    Closing the window does not ask about it. Python ends when the answer is computed, which is
    then dropped.
    """
    query = _Query(lambda _: compute(), failure=failure, hint=hint)
    query.on_answer = partial(while_alive(on_answer), *about)
    query.start()


class _Query(Task):
    on_answer: Callable[[Any], object]
    _error: BaseException | None = None

    def _submit(self, number: int) -> None:
        _pool.submit(_run, number)

    def _fail(self, error: BaseException) -> None:
        if self._failure:
            super()._fail(error)
        else:
            self._error = error

    def finish(self) -> None:
        if isinstance(self._error, Exception):
            raise self._error
        if self._error is not None:
            raise RuntimeError(f"The computation was ended: {self._error!r}")
        self.on_answer(self.outcome[1])


class _ShownWorker(FunctionWorker):
    """The worker that napari shows for a task. It does nothing; only the GUI thread touches it."""

    # A worker that napari runs is run, and reported, on a thread of Qt's, which may be the last to
    # release it.

    number: int

    def quit(self) -> None:
        super().quit()
        if self.number in _tasks:
            _tasks[self.number].cancel()


class _Named:
    """Stands for the function of a worker, whose name napari shows."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __str__(self) -> str:
        return self._name

    def __call__(self) -> None: ...


def _run(number: int) -> None:
    task: Task | None = _tasks[number]
    assert task is not None
    try:
        task.outcome = ("done", task.work())
    except RestoreError as error:
        # Its traceback would keep the task, until any thread finds both to be garbage.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        task.outcome = ("cancelled" if isinstance(error, Cancelled) else "failed", error)
    except BaseException as error:
        if (why := why_no_torch(error)) is not None:
            hint = "Install it again in the environment of napari."
            task.outcome = ("failed", ResourceError(f"torch cannot be imported: {why}.", hint))
        else:
            # Also what wants to end Python, which here would close the window.
            task._fail(error)
    task._over.set()
    # Before the GUI thread releases the task, see `_tasks`; `_end` follows all that was sent.
    task = None
    on_main_thread(_end)(number)


def _receive(number: int, item: Any) -> None:
    task = _tasks.get(number)
    # Threads of the work may outlive it.
    if task is not None and not task._is_abandoned:
        task.receive(item)


def _end(number: int) -> None:
    _tasks.pop(number)._end()


Compute = Callable[[], Any]


class LatestQuery(QObject):
    """Computes on another thread, one query at a time; the newest replaces those that wait."""

    # Unless it `follows`, an answer is given only where no newer query waits. What is dragged is
    # followed: each answer is given.
    def __init__(
        self,
        failure: str,
        parent: QObject | None,
        then: Callable[[Any, Any], object],
        *,
        follows: bool = False,
    ) -> None:
        """Begin without a query; `failure` is the sentence that an unexpected error begins with.

        `then` takes the key of a query, and its answer or a `RestoreError`.
        """
        super().__init__(parent)
        self._then = while_alive(then)
        self._failure, self._follows = failure, follows
        self._newest: tuple[Hashable, Compute] | None = None
        """The last query, until it is answered."""
        self._is_busy = False
        self._discarded = 0

    def submit(self, key: Hashable, compute: Compute) -> None:
        """Compute soon, unless another query comes first; equal keys are computed once."""
        if self._newest is not None and self._newest[0] == key:
            return
        self._newest = (key, compute)
        if not self._is_busy:
            self._start()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked that will be answered."""
        return self._newest is None

    def discard(self) -> None:
        """Drop the query that waits and the answer that is being computed."""
        self._newest = None
        self._discarded += 1

    def _start(self) -> None:
        assert self._newest is not None
        self._is_busy = True
        key, compute = self._newest
        in_background(compute, self._on_answer, self._discarded, key, failure=self._failure)

    def _on_answer(self, discarded: int, key: Hashable, answer: Any) -> None:
        self._is_busy = False
        is_newest = self._newest is not None and self._newest[0] == key
        if is_newest:
            self._newest = None
        elif self._newest is not None:
            self._start()
        if is_newest or (self._follows and discarded == self._discarded):
            self._then(key, answer)


class DebouncedQuery(LatestQuery):
    """Calls `compute` on another thread and `on_result` with its result in the GUI thread.

    Of requests that come within `debounce_ms` of each other, or while the thread is busy,
    only the newest counts. Errors are shown as napari notifications, unless `on_failure` takes them.
    """

    def __init__(
        self,
        compute: Callable[..., Any],
        on_result: Callable[[Any], object],
        debounce_ms: int,
        failure: str = "The computation failed",
        parent: QObject | None = None,
        on_failure: Callable[[RestoreError], object] = show_problem,
    ) -> None:
        super().__init__(failure, parent, self._on_finished)
        self._compute, self._on_result, self._on_failure = compute, on_result, on_failure
        self._pending: Compute | None = None
        # One per object: a decorated method would share one timer among all.
        self._debounced = qdebounced(self._submit, timeout=debounce_ms, parent=self)

    def request(self, *arguments: Any) -> None:
        """Request `compute(*arguments)` once no other request follows."""
        self._pending = partial(self._compute, *arguments)
        self._debounced()

    def request_now(self, *arguments: Any) -> None:
        """Request `compute(*arguments)` at once."""
        self.request(*arguments)
        self._debounced.cancel()
        self._submit()

    def discard(self) -> None:
        """Stop the timer and drop the result that is being computed."""
        self._debounced.cancel()
        self._pending = None
        super().discard()

    def _submit(self) -> None:
        compute, self._pending = self._pending, None
        if compute is not None:
            self.submit(object(), compute)

    def _on_finished(self, _: object, result: Any) -> None:
        if isinstance(result, RestoreError):
            self._on_failure(result)
        else:
            self._on_result(result)
