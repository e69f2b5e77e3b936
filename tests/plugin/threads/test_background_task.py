"""Work over which napari asks before it closes its window."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from qtpy.compat import isalive

from napari_restore.plugin.threads import _background_task
from napari_restore.plugin.threads._background_task import WatchedWork

ROUNDS = 100


class Task:
    """Gives numbers until it is closed; keeps what is heard."""

    def __init__(self, count: int = 3) -> None:
        self.count = count
        self.heard: list[Any] = []
        self.work = WatchedWork("test")
        self.go_on = threading.Event()
        self.closed_in: threading.Thread | None = None

    def start(self) -> None:
        self.work.start(self.steps, self.end, self.hear)

    def steps(self) -> Iterator[int]:
        try:
            for number in range(self.count):
                yield number
                if number == 0:
                    assert self.go_on.wait(60)
        finally:
            self.closed_in = threading.current_thread()

    def hear(self, told: int) -> None:
        self.heard.append(told)
        assert threading.current_thread() is threading.main_thread()

    def end(self) -> None:
        self.hear(-1)


def settle(qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not _background_task._going)


def test_what_it_gives_is_heard_here_in_order_and_then_its_end(qtbot: Any):
    task = Task(1000)
    task.go_on.set()
    task.start()
    settle(qtbot)
    assert task.heard == [*range(1000), -1]
    assert task.work.is_over and not task.work.is_unwanted
    assert task.closed_in is not threading.main_thread()


def test_a_function_may_give_nothing(qtbot: Any):
    done: list[threading.Thread] = []
    ended: list[bool] = []
    work = WatchedWork("test")
    work.start(lambda: done.append(threading.current_thread()), lambda: ended.append(work.is_over))
    settle(qtbot)
    assert ended == [True]
    assert done[0] is not threading.main_thread()


def test_an_error_is_raised_here_and_the_end_told(qtbot: Any):
    ended: list[bool] = []

    def fail() -> None:
        raise KeyError("no such file")

    with qtbot.captureExceptions() as raised:
        WatchedWork("test").start(fail, lambda: ended.append(True))
        settle(qtbot)
    assert KeyError in [kind for kind, _, _ in raised]
    assert ended == [True]


def test_no_thread_is_the_last_to_hold_it(qtbot: Any):
    gone_in: list[threading.Thread] = []
    for _ in range(ROUNDS):
        task = Task(2)
        weakref.finalize(task, lambda: gone_in.append(threading.current_thread()))
        task.go_on.set()
        task.start()
        del task
    settle(qtbot)
    assert gone_in == [threading.main_thread()] * ROUNDS


@pytest.mark.viewer
def test_napari_names_it_and_ends_it(make_napari_viewer: Any, qtbot: Any):
    manager = make_napari_viewer().window._task_status_manager
    task = Task()
    task.start()
    assert manager.get_status() == ["napari-worker: Executing test"]
    qtbot.waitUntil(lambda: task.heard == [0])
    manager.cancel_all()
    assert task.work.is_unwanted
    task.go_on.set()
    settle(qtbot)
    assert task.heard == [0, 1, -1]
    assert task.work.is_over and task.closed_in is not None
    assert not manager.is_busy()


@pytest.mark.viewer
def test_nothing_of_it_is_left_to_a_later_collection(make_napari_viewer: Any, qtbot: Any):
    """napari's window keeps the worker that stands for it, until any thread finds both."""
    manager = make_napari_viewer().window._task_status_manager
    task = Task()
    task.go_on.set()
    task.start()
    signals = task.work._shown.signals
    gone = weakref.ref(task)
    del task
    settle(qtbot)
    qtbot.waitUntil(lambda: not isalive(signals))
    assert gone() is None
    assert len(manager._tasks) == 1 and not manager.is_busy()
    gc.collect()
