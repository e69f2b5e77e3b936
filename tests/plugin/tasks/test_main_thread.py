"""Calls made from other threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from napari_restore.plugin.tasks.main_thread import on_main_thread

pytestmark = pytest.mark.binding

CALLS = 2000


def test_all_calls_are_made_in_the_window_s_thread_and_in_order(qtbot: Any):
    received: dict[int, list[int]] = {k: [] for k in range(4)}
    threads = set()

    def receive(who: int, what: int) -> None:
        threads.add(threading.current_thread())
        received[who].append(what)

    call = on_main_thread(receive)

    def send(who: int) -> None:
        for what in range(CALLS):
            call(who, what)

    senders = [threading.Thread(target=send, args=(who,)) for who in received]
    for sender in senders:
        sender.start()
    qtbot.waitUntil(lambda: all(len(x) == CALLS for x in received.values()))
    for sender in senders:
        sender.join()
    assert threads == {threading.main_thread()}
    assert all(x == list(range(CALLS)) for x in received.values())


def test_a_call_from_the_window_s_own_thread_comes_soon(qtbot: Any):
    received: list[str] = []
    on_main_thread(received.append)("now")
    assert received == []
    qtbot.waitUntil(lambda: received == ["now"])
