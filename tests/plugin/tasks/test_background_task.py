"""Tasks over which napari asks before it closes its window."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from qtpy.compat import isalive
from qtpy.QtCore import QObject

from napari_restore.plugin.tasks import _background_task
from napari_restore.plugin.tasks._background_task import BackgroundTask

ROUNDS = 100


class Task(BackgroundTask):
    """Yields numbers until it is closed; keeps what is received, and -1 for its end."""

    def __init__(self, count: int = 3) -> None:
        super().__init__("test")
        self.count = count
        self.received: list[Any] = []
        self.go_on = threading.Event()
        self.closed_in: threading.Thread | None = None

    def work(self) -> Iterator[int]:
        try:
            for number in range(self.count):
                yield number
                if number == 0:
                    assert self.go_on.wait(60)
        finally:
            self.closed_in = threading.current_thread()

    def receive(self, item: int) -> None:
        self.received.append(item)
        assert threading.current_thread() is threading.main_thread()

    def finish(self) -> None:
        self.receive(-1)

    def cancel(self) -> None:
        self.go_on.set()


class Function(BackgroundTask):
    """Work that yields nothing, and may fail."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("test")
        self.error = error
        self.worked_in: threading.Thread | None = None
        self.finished: list[bool] = []

    def work(self) -> None:
        self.worked_in = threading.current_thread()
        if self.error is not None:
            raise self.error

    def finish(self) -> None:
        self.finished.append(self.is_over)


@pytest.fixture
def owner(qtbot: Any) -> QObject:
    return QObject()


def wait_for_all(qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not _background_task._tasks)


def test_items_are_received_in_the_gui_thread_in_order_and_then_the_end(qtbot: Any, owner: QObject):
    task = Task(1000)
    task.go_on.set()
    task.start(owner)
    wait_for_all(qtbot)
    assert task.received == [*range(1000), -1]
    assert task.is_over and not task.abort_requested
    assert task.closed_in is not threading.main_thread()


def test_a_function_may_yield_nothing(qtbot: Any, owner: QObject):
    task = Function()
    task.start(owner)
    wait_for_all(qtbot)
    assert task.finished == [True]
    assert task.worked_in is not threading.main_thread()


def test_an_error_is_raised_in_the_gui_thread_and_ends_the_task(qtbot: Any, owner: QObject):
    task = Function(KeyError("no such file"))
    with qtbot.captureExceptions() as raised:
        task.start(owner)
        wait_for_all(qtbot)
    assert KeyError in [kind for kind, _, _ in raised]
    assert task.finished == [True]


def test_no_thread_releases_the_last_reference(qtbot: Any, owner: QObject):
    released_in: list[threading.Thread] = []
    for _ in range(ROUNDS):
        task = Task(2)
        weakref.finalize(task, lambda: released_in.append(threading.current_thread()))
        task.go_on.set()
        task.start(owner)
        del task
    wait_for_all(qtbot)
    assert released_in == [threading.main_thread()] * ROUNDS


def test_the_end_is_reported_after_everything_else(qtbot: Any, owner: QObject):
    task = Task()
    ends: list[Any] = []
    task.ended.connect(lambda *outcome: ends.append((*outcome, *task.received)))
    task.go_on.set()
    task.start(owner)
    wait_for_all(qtbot)
    assert ends == [("cancelled", None, 0, 1, 2, -1)]


def test_what_a_destroyed_owner_began_stops_and_reports_nothing(qtbot: Any, owner: QObject):
    parent = QObject()
    owner.setParent(parent)
    task = Task()
    ended: list[Any] = []
    task.ended.connect(lambda *outcome: ended.append(outcome))
    task.start(owner)
    qtbot.waitUntil(lambda: task.received == [0])
    parent.deleteLater()
    wait_for_all(qtbot)
    assert not isalive(owner)
    assert task.received == [0, -1] and not ended


@pytest.mark.viewer
def test_napari_names_it_and_aborts_it(make_napari_viewer: Any, qtbot: Any, owner: QObject):
    manager = make_napari_viewer().window._task_status_manager
    task = Task()
    task.start(owner)
    assert manager.get_status() == ["napari-worker: Executing test"]
    qtbot.waitUntil(lambda: task.received == [0])
    manager.cancel_all()
    assert task.abort_requested
    task.go_on.set()
    wait_for_all(qtbot)
    assert task.received == [0, 1, -1]
    assert task.is_over and task.closed_in is not None
    assert not manager.is_busy()


@pytest.mark.viewer
def test_nothing_of_it_is_left_to_a_later_collection(
    make_napari_viewer: Any, qtbot: Any, owner: QObject
):
    """napari's window keeps the worker that stands for it, until any thread finds both."""
    manager = make_napari_viewer().window._task_status_manager
    task = Task()
    task.go_on.set()
    task.start(owner)
    signals = task._shown.signals
    gone = weakref.ref(task)
    del task
    wait_for_all(qtbot)
    qtbot.waitUntil(lambda: not isalive(signals))
    assert gone() is None
    assert len(manager._tasks) == 1 and not manager.is_busy()
    gc.collect()
