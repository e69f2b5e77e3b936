from __future__ import annotations

import signal
import threading

import pytest

from napari_restore.commands import Interrupt, _interrupt
from napari_restore.errors import Cancelled


class FakeJob:
    """Ends when it is cancelled, or never."""

    def __init__(self, *, obeys: bool = True) -> None:
        self.cancelled = threading.Event()
        self._obeys = obeys

    def cancel(self) -> None:
        self.cancelled.set()

    def wait(self) -> None:
        (self.cancelled if self._obeys else threading.Event()).wait(20)


def test_without_a_job_it_cancels_at_once():
    with pytest.raises(Cancelled), Interrupt():
        signal.raise_signal(signal.SIGINT)


def test_a_job_is_cancelled_and_ends_in_its_own_way():
    job = FakeJob()
    with Interrupt() as interrupt:
        interrupt.watch(job)
        signal.raise_signal(signal.SIGINT)
        job.wait()
        interrupt.leave()
        with pytest.raises(Cancelled):
            interrupt.check()
    assert job.cancelled.is_set()


def test_a_job_that_does_not_end_is_left_alone(monkeypatch):
    monkeypatch.setattr(_interrupt, "PATIENCE", 0.01)
    job = FakeJob(obeys=False)
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        interrupt.watch(job)
        signal.raise_signal(signal.SIGINT)
        job.wait()
    assert job.cancelled.is_set()


def test_the_second_one_does_not_wait():
    with pytest.raises(KeyboardInterrupt), Interrupt() as interrupt:
        interrupt.watch(FakeJob())
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    interrupt.leave()


def test_a_job_that_starts_after_the_signal_is_cancelled():
    job = FakeJob()
    with Interrupt() as interrupt:
        interrupt.requested = True
        interrupt.watch(job)
    assert job.cancelled.is_set()


def test_without_a_signal_nothing_happens():
    with Interrupt() as interrupt:
        interrupt.check()


def test_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Cancelled), Interrupt():
        assert signal.getsignal(signal.SIGINT) != before
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_another_thread_may_use_it():
    seen = []

    def body() -> None:
        with Interrupt() as interrupt:
            interrupt.check()
        seen.append("done")

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == ["done"]


def test_a_signal_while_a_thread_starts_stops_at_the_next_check(monkeypatch):
    # Python 3.13 calls it so.
    name = "_start_joinable_thread"
    name = name if hasattr(threading, name) else "_start_new_thread"
    real, ran = getattr(threading, name), []

    def interrupted(*arguments, **options):
        number = real(*arguments, **options)
        # As if the signal came before `Thread.start` goes on.
        signal.raise_signal(signal.SIGINT)
        return number

    with Interrupt() as interrupt:
        with monkeypatch.context() as patch:
            patch.setattr(threading, name, interrupted)
            thread = threading.Thread(target=ran.append, args=(1,))
            thread.start()
        thread.join(30)
        assert ran == [1]
        with pytest.raises(Cancelled):
            interrupt.check()
