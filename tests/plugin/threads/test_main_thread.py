"""Calls made from other threads."""

from __future__ import annotations

import threading
from typing import Any

from napari_restore.plugin.threads._main_thread import on_main_thread

CALLS = 2000


def test_all_calls_are_made_in_the_window_s_thread_and_in_order(qtbot: Any):
    heard: dict[int, list[int]] = {k: [] for k in range(4)}
    threads = set()

    def hear(who: int, what: int) -> None:
        threads.add(threading.current_thread())
        heard[who].append(what)

    call = on_main_thread(hear)

    def tell(who: int) -> None:
        for what in range(CALLS):
            call(who, what)

    tellers = [threading.Thread(target=tell, args=(who,)) for who in heard]
    for teller in tellers:
        teller.start()
    qtbot.waitUntil(lambda: all(len(x) == CALLS for x in heard.values()))
    for teller in tellers:
        teller.join()
    assert threads == {threading.main_thread()}
    assert all(x == list(range(CALLS)) for x in heard.values())


def test_a_call_from_the_window_s_own_thread_comes_soon(qtbot: Any):
    heard: list[str] = []
    on_main_thread(heard.append)("now")
    assert heard == []
    qtbot.waitUntil(lambda: heard == ["now"])
