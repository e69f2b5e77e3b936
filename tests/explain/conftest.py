"""Models of these tests are tried on small tiles: what they cost is asked for by others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def costs_are_known(known_costs: None) -> None:
    """Nothing of a model is measured in these tests but where they are marked so."""


@pytest.fixture(autouse=True)
def small_trials(measured_on: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure what a new model costs, and whether tiles change it, on smaller images."""
    measured_on(64, 128, gradients=64)


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """A function that saves the figure of an attribution and gives it as matplotlib has it."""
    kind = pytest.importorskip("matplotlib.figure").Figure
    from napari_restore.explain import draw

    figures: list[Any] = []
    save = kind.savefig

    def keep(figure: Any, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    def drawn(found: Any) -> Any:
        monkeypatch.setattr(kind, "savefig", keep)
        draw(found, tmp_path / "drawn.png")
        return figures[-1]

    return drawn
