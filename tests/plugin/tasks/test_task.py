"""Tasks, over which napari asks before it closes its window where they have a name."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from points import patience
from qtpy.compat import isalive
from qtpy.QtCore import QObject

from napari_restore.errors import BadRegion, Cancelled
from napari_restore.plugin.tasks.task import Task

pytestmark = pytest.mark.binding

ROUNDS = 100


class Numbers(Task):
    """Sends numbers until it is stopped; keeps what is received, and -1 for its end."""

    def __init__(self, count: int = 3) -> None:
        super().__init__(name="test")
        self.count = count
        self.received: list[Any] = []
        self.go_on = threading.Event()
        self.worked_in: threading.Thread | None = None

    def work(self) -> int:
        self.worked_in = threading.current_thread()
        for number in range(self.count):
            self.send(number)
            if number == 0:
                assert self.go_on.wait(patience())
            if self.stop.is_set():
                raise Cancelled("Stopped.")
        return self.count

    def receive(self, item: int) -> None:
        self.received.append(item)
        assert threading.current_thread() is threading.main_thread()

    def finish(self) -> None:
        self.received.append(-1)

    def cancel(self) -> None:
        super().cancel()
        self.go_on.set()


@pytest.fixture
def owner(qtbot: Any) -> QObject:
    return QObject()


def ends_of(task: Task) -> list[Any]:
    ends: list[Any] = []
    task.ended.connect(lambda *outcome: ends.append(outcome))
    return ends


def test_items_are_received_in_the_gui_thread_in_order_and_then_the_end(
    qtbot: Any, owner: QObject, settle: Callable[[], None]
):
    task = Numbers(1000)
    ends: list[Any] = []
    task.ended.connect(lambda *outcome: ends.append((*outcome, *task.received)))
    task.go_on.set()
    task.start(owner)
    settle()
    assert ends == [("done", 1000, *range(1000), -1)]
    assert task.is_over and task.value() == 1000
    assert task.worked_in is not threading.main_thread()


def test_an_error_of_the_user_is_the_end(qtbot: Any, owner: QObject, settle: Callable[[], None]):
    def refuse(task: Task) -> None:
        raise BadRegion("Nothing is drawn.", "Draw an area.")

    task = Task(refuse)
    ends = ends_of(task)
    task.start(owner)
    settle()
    ((status, error),) = ends
    assert status == "failed" and str(error) == "Nothing is drawn. Draw an area."
    with pytest.raises(BadRegion):
        task.value()


@pytest.mark.parametrize("error", [KeyError("no such file"), SystemExit(1)])
def test_any_other_error_is_named_and_logged(
    qtbot: Any,
    owner: QObject,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    settle: Callable[[], None],
):
    def fail(task: Task) -> None:
        raise error

    task = Task(fail, failure="The run failed", hint="Run it again.")
    ends = ends_of(task)
    task.start(owner)
    settle()
    said = error if isinstance(error, Exception) else repr(error)
    assert [(status, str(found)) for status, found in ends] == [
        ("failed", f"The run failed: {said}. Run it again.")
    ]
    assert "The run failed" in caplog.text


def test_no_thread_releases_the_last_reference(
    qtbot: Any, owner: QObject, settle: Callable[[], None]
):
    released_in: list[threading.Thread] = []
    for _ in range(ROUNDS):
        task = Numbers(2)
        weakref.finalize(task, lambda: released_in.append(threading.current_thread()))
        task.go_on.set()
        task.start(owner)
        del task
    settle()
    assert released_in == [threading.main_thread()] * ROUNDS


def test_a_cancelled_task_says_so(qtbot: Any, owner: QObject, settle: Callable[[], None]):
    task = Numbers()
    ends = ends_of(task)
    task.start(owner)
    qtbot.waitUntil(lambda: task.received == [0])
    task.cancel()
    settle()
    assert ends == [("cancelled", None)] and task.received == [0, -1]


def test_what_does_not_stop_is_killed(qtbot: Any, owner: QObject, settle: Callable[[], None]):
    killed = threading.Event()

    class Stuck(Task):
        patience_ms = 1

        def work(self) -> None:
            assert killed.wait(patience())

        def kill(self) -> None:
            killed.set()

    task = Stuck().start(owner)
    task.cancel()
    settle()
    assert killed.is_set()


def test_what_a_destroyed_owner_began_stops_and_reports_nothing(
    qtbot: Any, owner: QObject, settle: Callable[[], None]
):
    parent = QObject()
    owner.setParent(parent)
    task = Numbers()
    ends = ends_of(task)
    task.start(owner)
    qtbot.waitUntil(lambda: task.received == [0])
    parent.deleteLater()
    settle()
    assert not isalive(owner)
    assert task.received == [0, -1] and not ends


@pytest.mark.viewer
@pytest.mark.slow
def test_napari_names_it_and_cancels_it(
    make_napari_viewer: Any, qtbot: Any, owner: QObject, settle: Callable[[], None]
):
    manager = make_napari_viewer().window._task_status_manager
    task = Numbers()
    task.start(owner)
    Task(lambda task: None).start(owner)
    assert manager.get_status() == ["napari-worker: Executing test"]
    qtbot.waitUntil(lambda: task.received == [0])
    manager.cancel_all()
    settle()
    assert task.received == [0, -1]
    assert task.is_over and task.outcome[0] == "cancelled"
    assert not manager.is_busy()


@pytest.mark.viewer
@pytest.mark.slow
def test_nothing_of_it_is_left_to_a_later_collection(
    make_napari_viewer: Any, qtbot: Any, owner: QObject, settle: Callable[[], None]
):
    """napari's window keeps the worker that stands for it, until any thread finds both."""
    manager = make_napari_viewer().window._task_status_manager
    task = Numbers()
    task.go_on.set()
    task.start(owner)
    signals = task._shown.signals
    gone = weakref.ref(task)
    del task
    settle()
    qtbot.waitUntil(lambda: not isalive(signals))
    assert gone() is None
    assert len(manager._tasks) == 1 and not manager.is_busy()
    gc.collect()
