"""Queries computed on other threads."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from points import patience
from qtpy.QtCore import QObject

from napari_restore.plugin.tasks.task import THREADS, in_background

pytestmark = pytest.mark.binding

QUERIES = 50
STORM = """
import faulthandler, gc, threading, time
faulthandler.enable()
faulthandler.dump_traceback_later(120, exit=True)
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication, QDialog, QPushButton
from napari_restore.plugin.tasks.task import in_background

app = QApplication([])
gc.collect()
gc.freeze()
gc.disable()
submitted, threads, over = 0, set(), threading.Event()

class Receiver(QObject):
    received = 0

    def receive(self, number, answer):
        assert answer == 2 * number
        threads.add(threading.current_thread())
        Receiver.received += 1

def compute(number):
    if number % 7 == 0:
        gc.collect()
    return 2 * number

def submit(receiver):
    global submitted
    in_background(lambda number=submitted: compute(number), receiver.receive, submitted)
    submitted += 1

def collect():
    while not over.is_set():
        gc.collect()
        time.sleep(0.0005)

collectors = [threading.Thread(target=collect) for _ in range(2)]
for collector in collectors:
    collector.start()
stays, rounds = Receiver(), 30
for _ in range(rounds):
    for _ in range(10):
        submit(stays)
    goes = Receiver(stays)
    submit(goes)
    goes.deleteLater()
    dialog = QDialog()
    QPushButton("A", dialog).clicked.connect(dialog.close)
    app.processEvents()
    dialog.deleteLater()
over.set()
for collector in collectors:
    collector.join()
while Receiver.received < submitted - rounds:
    app.processEvents()
assert threads == {threading.main_thread()}, threads
print("received", Receiver.received, flush=True)
"""
EXIT = """
import faulthandler
faulthandler.dump_traceback_later(120, exit=True)
from threading import Event
from qtpy.QtWidgets import QApplication, QDialog
from napari_restore.plugin.tasks.task import in_background

app = QApplication([])
began = Event()

def compute():
    began.set()
    print("computed", sum(range(10_000_000)) > 0, flush=True)

window = QDialog()
window.receive = lambda answer: print("received", flush=True)
in_background(compute, window.receive)
began.wait(30)
"""


class Receiver(QObject):
    """Keeps what it receives."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.received: list[Any] = []

    def receive(self, *reported: Any) -> None:
        self.received.append((*reported, threading.current_thread()))


@pytest.fixture
def receiver(qtbot: Any) -> Receiver:
    return Receiver()


class Gate:
    """Queries that are computed when it opens."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.opened = threading.Event()

    def compute(self) -> str:
        self.begun.release()
        assert self.opened.wait(patience())
        return "computed"


@pytest.fixture
def gate() -> Any:
    made = Gate()
    yield made
    made.opened.set()


def test_a_result_is_computed_elsewhere_and_delivered_here(
    receiver: Receiver, qtbot: Any, settle: Callable[[], None]
):
    in_background(threading.current_thread, receiver.receive, "who", 1)
    assert receiver.received == []
    settle()
    who, number, computed_in, heard_in = receiver.received[0]
    assert (who, number) == ("who", 1)
    assert computed_in.name.startswith("napari-restore-query")
    assert heard_in is threading.main_thread()


def test_a_long_query_does_not_delay_the_next(
    receiver: Receiver, gate: Gate, qtbot: Any, settle: Callable[[], None]
):
    in_background(gate.compute, receiver.receive)
    in_background(lambda: "at once", receiver.receive)
    qtbot.waitUntil(lambda: len(receiver.received) == 1)
    assert receiver.received[0][0] == "at once"
    gate.opened.set()
    settle()
    assert [reported for reported, _ in receiver.received] == ["at once", "computed"]


def test_the_result_for_a_destroyed_object_is_dropped(
    gate: Gate, qtbot: Any, settle: Callable[[], None]
):
    parent = QObject()
    receiver = Receiver(parent)
    in_background(gate.compute, receiver.receive)
    with qtbot.waitSignal(parent.destroyed):
        parent.deleteLater()
    gate.opened.set()
    settle()
    assert receiver.received == []


def test_a_query_does_not_keep_its_receiver(gate: Gate, qtbot: Any, settle: Callable[[], None]):
    """Else the thread that computes might be the last to let go of it."""
    receiver = Receiver()
    gone = weakref.ref(receiver)
    in_background(gate.compute, receiver.receive)
    assert gate.begun.acquire(timeout=patience())
    del receiver
    assert gone() is None
    gate.opened.set()
    settle()


def test_a_result_reaches_a_function_without_other_references(
    gate: Gate, qtbot: Any, settle: Callable[[], None]
):
    received: list[str] = []
    in_background(gate.compute, lambda reported: received.append(reported))
    gc.collect()
    gate.opened.set()
    settle()
    assert received == ["computed"]


def test_an_error_is_raised_here(receiver: Receiver, qtbot: Any, settle: Callable[[], None]):
    def fail() -> None:
        raise KeyError("no such band")

    with qtbot.captureExceptions() as raised:
        in_background(fail, receiver.receive)
        settle()
    assert [kind for kind, _, _ in raised] == [KeyError]
    assert receiver.received == []


def test_code_that_wants_to_exit_ends_neither_window_nor_thread(
    receiver: Receiver, qtbot: Any, settle: Callable[[], None]
):
    with qtbot.captureExceptions() as raised:
        for _ in range(2 * THREADS):
            in_background(sys.exit, receiver.receive)
        settle()
    assert [kind for kind, _, _ in raised] == [RuntimeError] * 2 * THREADS
    in_background(lambda: 4, receiver.receive)
    settle()
    assert receiver.received[0][0] == 4


def test_no_qt_object_is_made_for_a_query(
    receiver: Receiver, gate: Gate, qtbot: Any, settle: Callable[[], None]
):
    def qt_objects() -> list[QObject]:
        # By type: modules that pretend to be another one warn when they are submitted.
        return [one for one in gc.get_objects() if issubclass(type(one), QObject)]

    # The one object that all calls go through.
    in_background(lambda: None, receiver.receive)
    settle()
    before = qt_objects()
    known = {id(one) for one in before}
    for _ in range(QUERIES):
        in_background(gate.compute, receiver.receive)
    assert [one for one in qt_objects() if id(one) not in known] == []
    gate.opened.set()
    settle()
    assert len(receiver.received) == QUERIES + 1


def ended(script: str) -> str:
    run = partial(subprocess.run, capture_output=True, text=True, timeout=patience())
    done = run([sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    return str(done.stdout)


@pytest.mark.nightly
def test_a_storm_of_queries_ends_well():
    assert int(ended(STORM).split()[1]) >= 300


@pytest.mark.nightly
def test_a_program_may_end_while_something_is_computed():
    assert ended(EXIT) == "computed True\n"
