"""Gradients that are not finite: the map is finite where that of captum is, and says where not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from tests.explain._models import Pointwise, wrapped
from torch import Tensor

import napari_restore as nr
from napari_restore import Region
from napari_restore.api import draw_attribution
from napari_restore.explain import attribute
from napari_restore.explain.attribution.quadrature import clenshaw_curtis, fejer

BOX = Region(8, 8, 20, 24)
BLACK = np.s_[10:13, 9:14]


def pixels() -> np.ndarray[Any, Any]:
    values = np.random.default_rng(0).uniform(0.1, 0.9, (32, 36, 3)).astype(np.float32)
    values[BLACK] = 0
    return values


def near(x: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool2d(x, 3, 1, 1)


FUNCTIONS = {
    "root": lambda x: near(x.sqrt()),
    "gamma": lambda x: near(x ** (1 / 2.2)),
    "norm": lambda x: near(x) * x.square().sum(1, keepdim=True).sqrt(),
    "quotient": lambda x: near(x) + 0.1 * x[:, :1] / x.sum(1, keepdim=True),
}


def ask(name: str, **options: Any) -> Any:
    options = {"device": "cpu", "method": "ig", "objective": "sum", "baseline": "zero", **options}
    return attribute(nr.open_image(pixels()), wrapped(Pointwise(FUNCTIONS[name])), BOX, **options)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_map_is_finite_where_that_of_captum_is(name: str) -> None:
    captum = pytest.importorskip("captum.attr")
    x = torch.from_numpy(pixels()).permute(2, 0, 1)[None]

    def objective(images: Tensor) -> Tensor:
        return FUNCTIONS[name](images)[(..., *BOX.slices)].sum((1, 2, 3))

    made = captum.IntegratedGradients(objective).attribute(x, n_steps=8, internal_batch_size=1)
    expected = made[0].permute(1, 2, 0).detach().numpy()
    found = ask(name, steps=8)
    expected = expected[found.region.slices]
    known = np.isfinite(expected)
    assert np.isfinite(found.map[known]).all() and not known.all()
    np.testing.assert_allclose(found.map[known], expected[known], atol=1e-5)
    entry = found.record["attribution"]
    assert entry["not_finite"] == np.sum(~np.isfinite(found.map))
    assert entry["completeness"]["sum"] == pytest.approx(np.nansum(found.map), rel=1e-5)
    json.dumps(entry, allow_nan=False)
    assert f"{entry['not_finite']} of" in found.record["notes"][0]
    assert 'baseline="blur"' in found.record["notes"][0]


@pytest.mark.parametrize("name", ["root", "gamma"])
@pytest.mark.parametrize("baseline", ["zero", "blur"])
def test_nested_rules_leave_out_ends_that_are_not_finite(name: str, baseline: str) -> None:
    found = ask(name, baseline=baseline)
    entry = found.record["attribution"]
    assert entry["rule"] == "fejer" and entry["completeness"]["relative_gap"] < 0.03
    # Where image and baseline are black, the gradient has no value anywhere on the path.
    lost = 45 if baseline == "zero" else 0
    assert np.sum(~np.isfinite(found.map)) == lost == entry.get("not_finite", 0)
    # Measures are of the rest.
    assert 0 < entry["diffusion_index"] < 100
    assert sum(entry["rings"].values()) == pytest.approx(1)


@pytest.mark.slow  # it draws
def test_a_target_that_is_not_finite_is_named(tmp_path) -> None:
    found = ask("quotient", steps=8)
    entry = found.record["attribution"]
    assert entry["completeness"]["difference"] is None
    assert entry["completeness"]["relative_gap"] is None
    notes = found.record["notes"][0]
    assert "D is not finite where the path begins" in notes
    assert "D is not finite for the image itself" in notes
    draw_attribution(found, tmp_path / "figure.png")
    found.save(tmp_path / "map.tif")
    assert np.isnan(nr.open_image(tmp_path / "map.tif").read((0, 0, 32, 36))).any()


@pytest.mark.parametrize("count", [7, 15])
def test_fejer_is_exact_for_polynomials_and_nested(count: int) -> None:
    rule = fejer(count)
    assert np.array_equal(rule.nodes, clenshaw_curtis(count + 2).nodes[1:-1])
    for power in range(count):
        assert rule.weights @ rule.nodes**power == pytest.approx(1 / (power + 1), abs=1e-12)
    assert np.isin(rule.nodes, fejer(2 * count + 1).nodes).all()
