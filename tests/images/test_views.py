"""A view of a view is the same image in another process, whatever the order of the calls."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import napari_restore as nr
from napari_restore.errors import BadParameter

VIEWS: dict[str, Callable[[Any], Any]] = {
    "bands": lambda image: image.with_bands([2, 0][: image.bands - 1]),
    "roles": lambda image: image.with_roles("nir=1"),
    "level": lambda image: image.level_view(1),
    "half": lambda image: image.resampled(Fraction(1, 2)),
    "phases": lambda image: image.resampled(Fraction(1, 2), phases=True),
    "twice": lambda image: image.resampled(Fraction(2)),
    "placed": lambda image: image.placed([1, 0, 5, 0, 1, 7, 0, 0, 1], image.shape[:2]),
    "sensor": lambda image: image.with_sensor("naip"),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiled file with overviews."""
    path = tmp_path_factory.mktemp("views") / "a.tif"
    values = np.random.default_rng(0).integers(0, 255, (3, 640, 600), dtype=np.uint8)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "height": 640, "width": 600}
    with rasterio.open(path, "w", tiled=True, photometric="RGB", **profile) as file:
        file.write(values)
        file.build_overviews([2, 4])
    return path


@pytest.mark.parametrize(("one", "other"), list(itertools.product(VIEWS, VIEWS)))
def test_two_views(one: str, other: str, path: Path) -> None:
    try:
        image = VIEWS[other](VIEWS[one](nr.open_image(path)))
    except BadParameter:
        # Refused here, and so nowhere else.
        pytest.skip("no such view")
    again = pickle.loads(pickle.dumps(image))
    assert again.shape == image.shape and again.roles == image.roles
    assert again.fingerprint == image.fingerprint and len(again.frames) == len(image.frames)
    box = (0, 0, *image.shape[:2])
    assert np.array_equal(again.read(box), image.read(box))
