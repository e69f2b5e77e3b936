"""What maps measure, against plain formulas."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from napari_restore import Region
from napari_restore.explain.attribution.measures import (
    contribution_area,
    diffusion_index,
    rings,
    spread,
)


def mass(seed: int = 0, shape: tuple[int, int] = (32, 32)) -> np.ndarray[Any, Any]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    hill = np.exp(-((y - 12) ** 2 / 30 + (x - 20) ** 2 / 90 + (y - 12) * (x - 20) / 80))
    return hill + 0.05 * np.random.default_rng(seed).random(shape)


def test_the_diffusion_index_is_the_direct_formula() -> None:
    values = np.sort((mass() / mass().max() + 1e-7).ravel())
    n = len(values)
    apart = np.abs(values[:, None] - values).sum()
    gini = apart / (2 * n * values.sum())
    assert diffusion_index(mass()) == pytest.approx(100 * (1 - gini), rel=1e-6)


def test_the_diffusion_index_of_the_extremes() -> None:
    assert diffusion_index(np.ones((20, 20))) == pytest.approx(100)
    one = np.zeros((100, 100))
    one[3, 4] = 2
    assert diffusion_index(one) == pytest.approx(0, abs=0.2)
    assert diffusion_index(np.zeros((5, 5))) is None


def test_the_area_is_the_pixels_below_the_share() -> None:
    values = np.array([[50.0, 30.0], [15.0, 5.0]])
    # 50 + 30 = 80 lies below 95; with 15 it is reached.
    assert spread(values)[1] == 2
    assert spread(np.array([[50.0, 30.0], [14.0, 6.0]]))[1] == 3
    assert spread(np.zeros((3, 3))) == (None, 0)


def test_rings_are_counted_by_the_larger_distance() -> None:
    region, box = Region(100, 200, 140, 260), Region(115, 225, 120, 235)
    values = np.random.default_rng(0).random(region.shape)
    found = rings(values, region, box, (0, 3, 10))
    expected = dict.fromkeys(found, 0.0)
    for y, row in enumerate(values, region.y0):
        for x, value in enumerate(row, region.x0):
            distance = max(box.y0 - y, y - box.y1 + 1, box.x0 - x, x - box.x1 + 1, 0)
            name = "box" if not distance else "0-3" if distance <= 3 else "3-10"
            expected["10-" if distance > 10 else name] += value / values.sum()
    assert found == pytest.approx(expected)
    assert sum(found.values()) == pytest.approx(1)
    assert rings(values, region, box, (0, 10))["10-"] == pytest.approx(expected["10-"])


def test_the_area_of_contribution_is_the_reference_density() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = mass()
    y, x = np.mgrid[:32, :32]
    places = np.stack([y.ravel(), x.ravel()])
    density = stats.gaussian_kde(places, weights=values.ravel())(places).reshape(32, 32)
    found = contribution_area(values)
    assert np.abs(found - density / density.max()).max() < 0.01


def test_the_area_of_one_pixel_and_of_nothing() -> None:
    one = np.zeros((9, 9))
    one[4, 5] = 1
    assert np.argmax(contribution_area(one)) == 4 * 9 + 5
    assert not contribution_area(np.zeros((4, 4))).any()


@pytest.mark.slow
def test_the_index_does_not_depend_on_threads_of_the_library() -> None:
    """A worker of a cluster may have another number of them."""
    code = (
        "import numpy as np; from napari_restore.explain.attribution.measures import diffusion_index;"
        "print(repr(diffusion_index(np.random.default_rng(0).random((900, 1300)) ** 8)))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OPENBLAS_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in (1, 2)
    }
    assert len(found) == 1
