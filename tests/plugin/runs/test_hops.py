"""From a click on Run to a layer: the calls of ours on the way, as docs/extending/tab.md lists them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_restore import api
from napari_restore.engine import ChildExecutor
from napari_restore.plugin.layers.layer_order import insert_above
from napari_restore.plugin.tasks.task import Task

pytestmark = pytest.mark.viewer
PACKAGE = Path(api.__file__).parents[1]
PAGE = Path(__file__).parents[3] / "docs" / "extending" / "tab.md"


def own_calls() -> list[str]:
    """Return ``file function`` of every call of ours that leads to the caller, the first first."""
    frame, found = sys._getframe(1), []
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            found.append(f"{path.relative_to(PACKAGE).as_posix()} {frame.f_code.co_name}")
        frame = frame.f_back
    return found[::-1]


def recorded(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[list[str]]:
    """Record the calls that lead to each call of a method, and its own."""
    stacks: list[list[str]] = []
    original = getattr(owner, name)
    code = original.__code__
    own = f"{Path(code.co_filename).relative_to(PACKAGE).as_posix()} {code.co_name}"

    def record(*arguments: Any, **options: Any) -> Any:
        stacks.append([*own_calls(), own])
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, record)
    return stacks


@pytest.mark.slow
def test_a_click_on_run_reaches_a_layer_in_eleven_calls(
    panel: Any, sample: Path, finished_run: Any, monkeypatch: pytest.MonkeyPatch
):
    panel.viewer.open(sample, plugin="napari-restore")
    panel.models.choose("identity")
    clicked = recorded(monkeypatch, Task, "start")
    begun = recorded(monkeypatch, ChildExecutor, "__init__")
    stacks: list[list[str]] = []
    panel.viewer.layers.events.inserted.connect(lambda: stacks.append(own_calls()))
    finished_run()
    # In the GUI thread, on the thread of the run, and in the GUI thread again.
    hops = [*clicked[0], *begun[0], *stacks[0]]
    assert hops[-1] == f"plugin/layers/{Path(insert_above.__code__.co_filename).name} insert_above"
    assert len([hop for hop in hops if hop.startswith("plugin/")]) <= 9, hops
    assert len(hops) <= 11, hops
    listed = re.findall(r"^\| \d+ \| `(\S+)` `(\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [f"{file} {name}" for file, name in listed] == hops
