"""Whole runs of the engine."""

from __future__ import annotations

from typing import Any

import pytest

import napari_restore as nr

from ._whole import model


@pytest.fixture(autouse=True)
def costs_are_known(known_costs: None) -> None:
    """Nothing of a model is measured in these tests but where they are marked so."""


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Restores an image in a folder of its own, so that no run finds another's tiles."""

    def run(image: Any, **options: Any) -> Any:
        scratch = tmp_path_factory.mktemp("scratch")
        return nr.restore(image, model(), tile=128, scratch=scratch, **options)

    return run
