"""The Attribution tab over a hazy picture, and questions to wait for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def tab(panel: Any, tmp_path: Path) -> Any:
    """The tab over a hazy picture of 300 × 400 pixels, asked of dcp."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:300, :400]
    scene = 0.3 + 0.2 * np.sin(x / 9)[..., None] * [1, 0.5, 0.2] + 0.1 * np.cos(y / 7)[..., None]
    hazy = 0.6 * scene + 0.4 * 0.9 + 0.02 * rng.standard_normal((300, 400, 3))
    path = tmp_path / "town.png"
    Image.fromarray(np.round(255 * np.clip(hazy, 0, 1)).astype(np.uint8)).save(path)
    panel.viewer.open(str(path), plugin="napari-restore")
    panel.models.choose("dcp")
    panel.tabs.choose("Attribution")
    return panel.attribution


@pytest.fixture
def finished_attribution(tab: Any, qtbot: Any) -> Any:
    """A function that presses Run and waits for the end: gives the outcome."""

    def run(status: str = "done") -> Any:
        reported: list[Any] = []
        tab.ended.connect(lambda *outcome: reported.append(outcome))
        tab.bar.button.click()
        qtbot.waitUntil(lambda: bool(reported))
        assert reported[0][0] == status, reported
        return reported[0][1]

    return run
