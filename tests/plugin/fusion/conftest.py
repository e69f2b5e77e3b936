"""Folders of brackets, and the Fuse tab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.images.brackets.test_groups import shoot
from tests.models.test_mertens import frames

from napari_restore.plugin.runs import _draft


@pytest.fixture(autouse=True)
def true_pixels_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine: a live result then has a layer of its own, no draft."""
    monkeypatch.setattr(_draft, "TRUE_SECONDS", 1e9)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of two brackets of three frames: a0 … a2, b0 … b2, two stops apart."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for scene, start in (("a", 0), ("b", 60)):
        for number, frame in enumerate(frames(150, 170)):
            path = shoot(folder, f"{scene}{number}.jpg", start + number, 2 * number - 2)
            with Image.open(path) as photo:
                exif = photo.getexif()
            pixels = (frame if scene == "a" else frame[::-1]) * 255
            Image.fromarray(pixels.astype(np.uint8)).save(path, exif=exif, quality=95)
    return folder


@pytest.fixture
def tab(panel: Any) -> Any:
    """The Fuse tab of a panel in a window."""
    panel.tabs.choose("Fuse")
    return panel.fusion


@pytest.fixture
def fused(panel: Any, tab: Any, qtbot: Any) -> Callable[..., Any]:
    """A function that makes a change, and waits until the view is fused of aligned frames."""

    def at_rest() -> bool:
        bracket, live = tab.controller.bracket, panel.runs.live
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
