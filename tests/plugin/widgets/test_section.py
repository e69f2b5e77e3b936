"""What a part of the panel listens to, does later and asks ends with its owner."""

from __future__ import annotations

from typing import Any

import pytest
from psygnal import Signal
from qtpy.QtCore import QObject, QTimer
from superqt.utils import qdebounced

from napari_restore.plugin.state.state import Connections
from napari_restore.plugin.tasks.task import LatestQuery
from napari_restore.plugin.widgets.section import end_all

pytestmark = pytest.mark.binding


class Source:
    """Lives longer than who listens."""

    changed = Signal(int)


def test_all_that_goes_on_ends_with_its_owner(qtbot: Any) -> None:
    source, owner, seen = Source(), QObject(), list[Any]()
    part = QObject(owner)
    # Kept by its owner alone.
    Connections(part, (source.changed, seen.append))
    later = qdebounced(lambda: seen.append("later"), timeout=1, parent=part)
    query = LatestQuery("No answer", part, lambda key, answer: seen.append(answer))
    source.changed.emit(1)
    assert seen == [1]
    later()
    query.submit("first", lambda: "first")
    end_all(owner)
    source.changed.emit(2)
    assert not any(timer.isActive() for timer in owner.findChildren(QTimer))
    # It waits for the first, which nobody wants any more.
    query.submit("second", lambda: "second")
    qtbot.waitUntil(lambda: len(seen) > 1)
    assert seen == [1, "second"]
