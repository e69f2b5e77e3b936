"""Fixtures of the tests of HINT."""

from __future__ import annotations

import pytest

from napari_restore.engine.planning.decided import TileInvariance


@pytest.fixture
def quick_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans that try a model on small images."""
    planning = "napari_restore.engine.planning"
    monkeypatch.setattr(f"{planning}._planning.tile_invariance", lambda *_: TileInvariance.FULL)
    monkeypatch.setattr(f"{planning}.costs.SIDES", (16, 32))
    monkeypatch.setattr(f"{planning}.costs.STEP", 64)
    monkeypatch.setattr(f"{planning}.probe._LEAST_SIDE", 64)
    monkeypatch.setattr("napari_restore.engine.gradients.cost.SIDE", 64)
