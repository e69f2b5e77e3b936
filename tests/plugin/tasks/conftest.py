"""Tasks that have ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from napari_restore.plugin.tasks import task


@pytest.fixture
def settle(qtbot: Any) -> Callable[[], None]:
    """A function that waits until nothing is submitted any more."""
    return lambda: qtbot.waitUntil(lambda: not task._tasks)
