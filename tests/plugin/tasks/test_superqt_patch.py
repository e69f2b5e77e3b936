"""Calls that napari's threads hand to the window."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import qtpy
from qtpy.QtCore import QObject, QThread
from superqt.utils import ensure_main_thread, ensure_object_thread

pytestmark = pytest.mark.binding

STORM = """
import faulthandler, threading, time
faulthandler.enable()
faulthandler.dump_traceback_later(60, exit=True)
from qtpy.QtWidgets import QApplication, QLabel, QSlider, QVBoxLayout, QWidget
from superqt.utils import ensure_main_thread
from napari_restore.plugin.tasks.main_thread import patch_superqt

app = QApplication([])
patch_superqt()
received, reported, ends = 0, 0, time.monotonic() + 1

@ensure_main_thread
def receive(event):
    global received
    received += 1

def send():
    global reported
    while time.monotonic() < ends:
        receive(object())
        reported += 1
        time.sleep(0.0005)

senders = [threading.Thread(target=send) for _ in range(3)]
for sender in senders:
    sender.start()
while any(sender.is_alive() for sender in senders):
    window = QWidget()
    layout = QVBoxLayout(window)
    for _ in range(10):
        slider = QSlider()
        slider.valueChanged.connect(slider.setValue)
        layout.addWidget(slider)
        layout.addWidget(QLabel("A"))
    app.processEvents()
    window.deleteLater()
app.processEvents()
assert received >= reported, (received, reported)
print("received", received)
"""


@pytest.mark.nightly
@pytest.mark.skipif(qtpy.API_NAME != "PySide6", reason="only PySide6 is mended")
def test_a_storm_of_calls_ends_well():
    ended = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert int(ended.stdout.split()[1]) > 100


def test_a_call_is_made_in_the_gui_thread_and_returns_its_result(qtbot: Any):
    @ensure_main_thread
    def where() -> threading.Thread:
        return threading.current_thread()

    @ensure_main_thread(await_return=True, timeout=10_000)
    def double(number: int) -> int:
        return 2 * number

    assert where().result() is threading.main_thread()
    assert double(4) == 8
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(where)
        awaited = pool.submit(double, number=5)
        qtbot.waitUntil(lambda: asked.done() and awaited.done())
        qtbot.waitUntil(asked.result().done)
    assert asked.result().result() is threading.main_thread()
    assert awaited.result() == 10


def test_a_call_for_another_thread_is_made_there(qtbot: Any):
    class Worker(QObject):
        @ensure_object_thread
        def where(self) -> QThread:
            return QThread.currentThread()

    thread = QThread()
    worker = Worker()
    worker.moveToThread(thread)
    thread.start()
    try:
        future = worker.where()
        assert future.result(10) is thread
    finally:
        thread.quit()
        assert thread.wait(10_000)
