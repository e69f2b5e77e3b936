"""Garbage is collected in the window's thread only."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from napari_restore.plugin import WindowGarbage

pytestmark = pytest.mark.binding


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def garbage(qapp: Any) -> Iterator[WindowGarbage]:
    before = gc.isenabled()
    made = WindowGarbage()
    yield made
    made.end()
    assert gc.isenabled()
    if not before:
        gc.disable()


def test_no_other_thread_collects(garbage: WindowGarbage):
    collected_in = []
    gc.callbacks.append(
        watch := lambda phase, info: collected_in.append(threading.current_thread())
    )
    try:
        thread = threading.Thread(target=lambda: [Knot() for _ in range(200_000)])
        thread.start()
        thread.join()
        assert collected_in == []
        garbage.collect()
        assert set(collected_in) == {threading.main_thread()}
    finally:
        gc.callbacks.remove(watch)


@pytest.mark.slow
def test_what_becomes_garbage_goes_by_itself(garbage: WindowGarbage, qtbot: Any):
    found = weakref.ref(Knot())
    assert found() is not None

    def work() -> bool:
        # As a window that is used: enough new objects for a collection to be due.
        [Knot() for _ in range(2000)]
        return found() is None

    qtbot.waitUntil(work)


def test_no_thread_collects_while_these_tests_run():
    """Windows would be destroyed wherever it happens (conftest)."""
    assert not gc.isenabled()
