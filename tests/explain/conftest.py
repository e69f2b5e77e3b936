"""Models of these tests are tried on small tiles: what they cost is asked for by others."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture(autouse=True)
def costs_are_known(known_costs: None) -> None:
    """Nothing of a model is measured in these tests but where they are marked so."""


@pytest.fixture(autouse=True)
def small_trials(measured_on: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure what a new model costs, and whether tiles change it, on smaller images."""
    measured_on(64, 128, gradients=64)
