"""Models of these tests are tried on small tiles: what they cost is asked for by others."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture(autouse=True)
def small_trials(measured_on: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure what a new model costs, and whether tiles change it, on smaller images."""
    measured_on(64, 128, gradients=64)
    monkeypatch.setattr("napari_restore.engine.planning._tile_invariance._SMALLER", (2, 4))
