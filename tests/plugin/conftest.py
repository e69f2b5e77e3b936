"""A restored image in every depth without running the engine, and a leak check for windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import Region

LIMIT_MS = 60_000


@pytest.fixture
def colours() -> np.ndarray:
    """(1300, 1700, 3) uint8 whose every pixel tells its place."""
    y, x = np.mgrid[:1300, :1700]
    return np.dstack([y % 251, x % 241, (y + x) % 239]).astype(np.uint8) + 1


@pytest.fixture
def planned() -> Any:
    """A function that plans the unchanged image of an array or path over a region."""

    def plan(source: Any, region: Region | None = None, **options: Any) -> Any:
        return nr.plan(source, "identity", region=region, pyramid=True, device="cpu", **options)

    return plan


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def slicing(request: pytest.FixtureRequest, panel: Any) -> Iterator[bool]:
    """Whether napari cuts layers on another thread: both."""
    from napari.settings import get_settings

    get_settings().experimental.async_ = request.param
    yield request.param
    get_settings().experimental.async_ = False


@pytest.fixture
def finished_run(panel: Any, qtbot: Any) -> Callable[..., Any]:
    """A function that clicks Run and waits for the end: gives the result, or why there is none."""

    def run(status: str = "done") -> Any:
        told: list[Any] = []
        panel.ended.connect(lambda *outcome: told.append(outcome))
        panel.bar.button.click()
        qtbot.waitUntil(lambda: bool(told), timeout=LIMIT_MS)
        assert told[0][0] == status, told
        assert panel.bar.button.text() == "Run"
        return panel.state.current if status == "done" else told[0][1]

    return run


@pytest.fixture
def panel(make_napari_viewer_proxy: Any) -> Iterator[Any]:
    """The Restore panel docked in a real window; gone with all it holds afterwards."""
    viewer = make_napari_viewer_proxy()
    _, widget = viewer.window.add_plugin_dock_widget("napari-restore", "Restore")
    yield widget
    if widget.running is not None:
        widget.running.abandon()
