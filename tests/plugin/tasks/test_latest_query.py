"""The newest query counts, and an error names what failed."""

from __future__ import annotations

from typing import Any

import pytest

from napari_restore.errors import BadRegion
from napari_restore.plugin.tasks._latest_query import LatestQuery


def result_of(query: LatestQuery, qtbot: Any, compute: Any) -> Any:
    with qtbot.waitSignal(query.finished) as finished:
        query.submit(1, compute)
    return finished.args[1]


def test_what_failed_is_named(qtbot: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("no finite value")

    error = result_of(LatestQuery("The area cannot be found"), qtbot, fail)
    expected = "The area cannot be found: no finite value. This is a bug; please report it."
    assert str(error) == expected
    assert "no finite value" in caplog.text


def test_an_error_of_the_user_is_passed_on(qtbot: Any) -> None:
    def refuse() -> None:
        raise BadRegion("Nothing is drawn.", "Draw an area.")

    error = result_of(LatestQuery("The area cannot be found"), qtbot, refuse)
    assert isinstance(error, BadRegion) and str(error) == "Nothing is drawn. Draw an area."
