"""Folders of brackets, and the Fuse tab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.images.brackets.photos import two_brackets


@pytest.fixture(autouse=True)
def true_pixels_at_once(draft_seconds: Callable[..., None]) -> None:
    """However busy the machine: a live result then has a layer of its own, no draft."""
    draft_seconds(true=1e9)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two brackets of three frames: a0 … a2, b0 … b2, two stops apart."""
    return two_brackets(tmp_path)


@pytest.fixture
def tab(panel: Any) -> Any:
    """The Fuse tab of a panel in a window."""
    panel.tabs.choose("Fuse")
    return panel.fusion


@pytest.fixture
def fused(panel: Any, tab: Any, qtbot: Any) -> Callable[..., Any]:
    """A function that makes a change, and waits until the view is fused of aligned frames."""

    def at_rest() -> bool:
        bracket, live = tab.controller.chosen.bracket, panel.runs.live
        is_aligned = bracket is not None and not bracket.is_rough
        return is_aligned and not tab.controller.is_busy and not live.is_busy

    def after(change: Callable[[], object]) -> Any:
        live = panel.runs.live
        before = None if live.variant is None else live.variant.shown.result.plan.key

        def shows_another() -> bool:
            now = live.variant
            return now is not None and now.shown.result.plan.key != before

        change()
        qtbot.waitUntil(lambda: at_rest() and shows_another())
        return panel.state.current

    return after
