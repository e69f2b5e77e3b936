"""The newest query counts, and an error names what failed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from napari_restore.errors import BadRegion
from napari_restore.plugin.tasks.task import LatestQuery

pytestmark = pytest.mark.binding


def result_of(failure: str, qtbot: Any, compute: Any) -> Any:
    answered: list[Any] = []
    query = LatestQuery(failure, None, lambda *answer: answered.append(answer))
    query.submit(1, compute)
    qtbot.waitUntil(lambda: bool(answered))
    ((_, answer),) = answered
    return answer


def test_what_failed_is_named(qtbot: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no finite value")

    error = result_of("The area cannot be found", qtbot, fail)
    expected = "The area cannot be found: no finite value. This is a bug; please report it."
    assert str(error) == expected
    assert "no finite value" in caplog.text


def test_without_torch_the_sentence_says_where_it_may_be(
    qtbot: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    error = result_of("No plan", qtbot, lambda: importlib.import_module("torch"))
    assert str(error) == (
        "torch cannot be imported: it is not installed. Install it again in the environment of napari."
    )
    assert not caplog.text
    # A module that we lack by mistake is a bug, as ever.
    other = result_of("No plan", qtbot, lambda: importlib.import_module("no_such_module"))
    assert "This is a bug" in str(other) and "no_such_module" in caplog.text


def test_a_torch_that_fails_on_import_is_no_bug_of_ours(
    qtbot: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError(126, 'no c10.dll')\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torch"]:
            patch.delitem(sys.modules, name)
        error = result_of("No plan", qtbot, lambda: importlib.import_module("torch"))
    assert str(error).startswith("torch cannot be imported: [Errno 126] no c10.dll. Install")
    assert not caplog.text


def test_an_error_of_the_user_is_passed_on(qtbot: Any) -> None:
    def refuse() -> None:
        raise BadRegion("Nothing is drawn.", "Draw an area.")

    error = result_of("The area cannot be found", qtbot, refuse)
    assert isinstance(error, BadRegion) and str(error) == "Nothing is drawn. Draw an area."


def test_of_queries_that_wait_the_newest_is_next(qtbot: Any) -> None:
    asked: list[int] = []
    answered: list[Any] = []
    query = LatestQuery("No answer", None, lambda *answer: answered.append(answer))
    for number in range(4):
        query.submit(number, lambda number=number: asked.append(number) or -number)
    qtbot.waitUntil(lambda: bool(answered))
    # The first was begun at once, and is not what is wanted any more.
    assert asked == [0, 3] and answered == [(3, -3)]


def test_what_is_dragged_is_followed(qtbot: Any) -> None:
    answered: list[Any] = []
    query = LatestQuery("No answer", None, lambda *answer: answered.append(answer), follows=True)
    for number in range(4):
        query.submit(number, lambda number=number: -number)
    qtbot.waitUntil(lambda: len(answered) == 2)
    assert answered == [(0, 0), (3, -3)]
    query.submit(4, lambda: 4)
    query.discard()
    query.submit(5, lambda: 5)
    qtbot.waitUntil(lambda: len(answered) == 3)
    assert answered[2] == (5, 5)
