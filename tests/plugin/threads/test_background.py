"""Answers computed on other threads."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from functools import partial
from typing import Any

import pytest
from qtpy.QtCore import QObject

from napari_restore.plugin.threads import _background
from napari_restore.plugin.threads._background import THREADS, in_background

QUESTIONS = 50
STORM = """
import faulthandler, gc, threading, time
faulthandler.enable()
faulthandler.dump_traceback_later(60, exit=True)
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication, QDialog, QPushButton
from napari_restore.plugin.threads._background import in_background

app = QApplication([])
gc.collect()
gc.freeze()
gc.disable()
asked, kept, threads, ends = 0, [], set(), time.monotonic() + 2

class Asker(QObject):
    heard = 0

    def hear(self, number, answer):
        assert answer == 2 * number
        threads.add(threading.current_thread())
        Asker.heard += 1

def compute(number):
    if number % 7 == 0:
        gc.collect()
    return 2 * number

def ask(asker):
    global asked
    in_background(lambda number=asked: compute(number), asker.hear, asked)
    asked += 1

def collect():
    while time.monotonic() < ends:
        gc.collect()
        time.sleep(0.0005)

collectors = [threading.Thread(target=collect) for _ in range(2)]
for collector in collectors:
    collector.start()
stays, dropped = Asker(), 0
while time.monotonic() < ends:
    for _ in range(10):
        ask(stays)
    goes = Asker(stays)
    ask(goes)
    goes.deleteLater()
    dropped += 1
    dialog = QDialog()
    QPushButton("A", dialog).clicked.connect(dialog.close)
    app.processEvents()
    dialog.deleteLater()
for collector in collectors:
    collector.join()
while Asker.heard < asked - dropped:
    app.processEvents()
assert threads == {threading.main_thread()}, threads
print("heard", Asker.heard, flush=True)
"""
EXIT = """
import faulthandler
faulthandler.dump_traceback_later(60, exit=True)
from threading import Event
from qtpy.QtWidgets import QApplication, QDialog
from napari_restore.plugin.threads._background import in_background

app = QApplication([])
began = Event()

def compute():
    began.set()
    print("computed", sum(range(10_000_000)) > 0, flush=True)

window = QDialog()
window.hear = lambda answer: print("heard", flush=True)
in_background(compute, window.hear)
began.wait(30)
"""


class Asker(QObject):
    """Keeps what it hears."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.heard: list[Any] = []

    def hear(self, *told: Any) -> None:
        self.heard.append((*told, threading.current_thread()))


@pytest.fixture
def asker(qtbot: Any) -> Asker:
    return Asker()


class Gate:
    """Questions that nobody answers before it opens."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.opened = threading.Event()

    def compute(self) -> str:
        self.begun.release()
        assert self.opened.wait(60)
        return "computed"


@pytest.fixture
def gate() -> Any:
    made = Gate()
    yield made
    made.opened.set()


def settle(qtbot: Any) -> None:
    """Until nothing is asked any more."""
    qtbot.waitUntil(lambda: not _background._questions)


def test_an_answer_is_computed_elsewhere_and_heard_here(asker: Asker, qtbot: Any):
    in_background(threading.current_thread, asker.hear, "who", 1)
    assert asker.heard == []
    settle(qtbot)
    who, number, computed_in, heard_in = asker.heard[0]
    assert (who, number) == ("who", 1)
    assert computed_in.name.startswith("napari-restore-answer")
    assert heard_in is threading.main_thread()


def test_a_long_question_does_not_hold_up_the_next(asker: Asker, gate: Gate, qtbot: Any):
    in_background(gate.compute, asker.hear)
    in_background(lambda: "at once", asker.hear)
    qtbot.waitUntil(lambda: len(asker.heard) == 1)
    assert asker.heard[0][0] == "at once"
    gate.opened.set()
    settle(qtbot)
    assert [told for told, _ in asker.heard] == ["at once", "computed"]


def test_the_answer_for_a_destroyed_object_is_dropped(gate: Gate, qtbot: Any):
    parent = QObject()
    asker = Asker(parent)
    in_background(gate.compute, asker.hear)
    with qtbot.waitSignal(parent.destroyed):
        parent.deleteLater()
    gate.opened.set()
    settle(qtbot)
    assert asker.heard == []


def test_a_question_does_not_keep_who_asks(gate: Gate, qtbot: Any):
    """Else the thread that computes might be the last to let go of it."""
    asker = Asker()
    gone = weakref.ref(asker)
    in_background(gate.compute, asker.hear)
    assert gate.begun.acquire(timeout=300)
    del asker
    assert gone() is None
    gate.opened.set()
    settle(qtbot)


def test_an_answer_reaches_a_function_that_nobody_else_holds(gate: Gate, qtbot: Any):
    heard: list[str] = []
    in_background(gate.compute, lambda told: heard.append(told))
    gc.collect()
    gate.opened.set()
    settle(qtbot)
    assert heard == ["computed"]


def test_an_error_is_raised_here(asker: Asker, qtbot: Any):
    def fail() -> None:
        raise KeyError("no such band")

    with qtbot.captureExceptions() as raised:
        in_background(fail, asker.hear)
        settle(qtbot)
    assert [kind for kind, _, _ in raised] == [KeyError]
    assert asker.heard == []


def test_code_that_wants_to_exit_ends_neither_window_nor_thread(asker: Asker, qtbot: Any):
    with qtbot.captureExceptions() as raised:
        for _ in range(2 * THREADS):
            in_background(sys.exit, asker.hear)
        settle(qtbot)
    assert [kind for kind, _, _ in raised] == [RuntimeError] * 2 * THREADS
    in_background(lambda: 4, asker.hear)
    settle(qtbot)
    assert asker.heard[0][0] == 4


def test_no_qt_object_is_made_for_a_question(asker: Asker, gate: Gate, qtbot: Any):
    def qt_objects() -> list[QObject]:
        # By type: modules that pretend to be another one warn when they are asked.
        return [one for one in gc.get_objects() if issubclass(type(one), QObject)]

    # The one object that all calls go through.
    in_background(lambda: None, asker.hear)
    settle(qtbot)
    before = qt_objects()
    known = {id(one) for one in before}
    for _ in range(QUESTIONS):
        in_background(gate.compute, asker.hear)
    assert [one for one in qt_objects() if id(one) not in known] == []
    gate.opened.set()
    settle(qtbot)
    assert len(asker.heard) == QUESTIONS + 1


def ended(script: str) -> str:
    run = partial(subprocess.run, capture_output=True, text=True, timeout=300)
    done = run([sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr == ""
    return str(done.stdout)


def test_a_storm_of_questions_ends_well():
    assert int(ended(STORM).split()[1]) > 100


def test_a_program_may_end_while_something_is_computed():
    assert ended(EXIT) == "computed True\n"
