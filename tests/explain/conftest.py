"""Models of these tests are tried on small tiles: what they cost is asked for by others."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def small_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure what a new model costs, and whether tiles change it, on smaller images."""
    monkeypatch.setattr("napari_restore.engine.planning._costs.SIDES", (64, 128))
    monkeypatch.setattr("napari_restore.engine.planning._tile_invariance._SMALLER", (2, 4))
    monkeypatch.setattr("napari_restore.engine.gradients._cost.SIDE", 64)
