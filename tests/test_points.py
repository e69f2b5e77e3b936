"""A point holds what a test asked for, in this process and in others, and costs nothing in use."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from napari_restore._points import reached

CODE = """
from napari_restore._points import reached
for name in ("one", "other", "one"):
    reached(name)
    print(name, flush=True)
"""


def test_no_point_holds_in_use() -> None:
    reached("one")


def test_a_process_is_held_until_it_is_let_go_or_killed(points: Any) -> None:
    command = [sys.executable, "-c", CODE]
    for is_killed in (False, True):
        points.hold("one", after=1)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert points.wait("one") == child.pid
            assert child.stdout is not None
            assert [child.stdout.readline() for _ in range(2)][-1] == "other\n"
            child.kill() if is_killed else points.go("one")
            assert child.stdout.read() == ("" if is_killed else "one\n")


def test_each_thread_of_this_process_is_held(points: Any) -> None:
    points.hold("here")
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(reached, "here") for _ in range(2)]
        points.wait("here", 2)
        assert not any(each.done() for each in waiting)
        points.go("here")
    reached("here")
    assert len(points.held("here")) == 3


def test_what_is_not_reached_is_told(points: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("points.PATIENCE", 0.0)
    points.hold("passed", "never", after=1)
    reached("passed")
    with pytest.raises(pytest.fail.Exception, match=r"'never' is not reached; .*'passed'"):
        points.wait("never")


def test_who_holds_and_is_gone_holds_nothing(points: Any) -> None:
    points.hold("one")
    points.close()
    reached("one")
