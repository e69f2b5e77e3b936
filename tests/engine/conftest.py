"""Whole runs of the engine."""

from __future__ import annotations

from collections.abc import Callable
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


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Does what `run` does for all tests of a module, which only read the result."""
    from known_costs import use_formulas

    def run(image: Any, **options: Any) -> Any:
        scratch = tmp_path_factory.mktemp("scratch")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NAPARI_RESTORE_CACHE", str(tmp_path_factory.mktemp("cache")))
            use_formulas(patch)
            return nr.restore(image, model(), tile=128, scratch=scratch, **options)

    return run
