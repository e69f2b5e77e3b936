"""Gradients of staged models in passes, against those of the whole graph."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine._staged_model import ToyStaged
from tests.explain._models import scene

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import make_plan
from napari_restore.engine.gradients.gradient_source import GradientSource
from napari_restore.engine.gradients.swept import SweptGradients, gradients_of
from napari_restore.errors import BadParameter
from napari_restore.explain import attribute
from napari_restore.explain.attribution.objectives import derivative, objective_of
from napari_restore.models import RestorationModel, Routing, card_of, load, randomise
from napari_restore.models.inf_dehaze.config import SMALL
from napari_restore.models.inf_dehaze.network import InfDehaze


def small(context: int) -> InfDehaze:
    """The small network with changes that are not small, sorted attention in its bottleneck."""
    card = replace(card_of("inf-dehaze-small"), values={}, needs_context=True, placed=True)
    made = InfDehaze(card, replace(SMALL, exact_below=64), context=context)
    randomise(made, 0)
    assert made.head is not None
    made.head.knots.weight.data *= 30
    if made.atmosphere is not None:
        made.atmosphere.load_state_dict(load("atmosphere").state_dict())
    return made.eval().requires_grad_(False)


def toy() -> ToyStaged:
    return ToyStaged()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "size", "box"),
    [
        (toy, (300, 400), Region(120, 100, 150, 140)),
        pytest.param(
            *(lambda: small(0), (270, 520), Region(200, 200, 240, 300)), marks=pytest.mark.slow
        ),
        (lambda: small(24), (270, 520), Region(200, 200, 240, 300)),
    ],
    ids=["toy", "small", "small with context"],
)
@pytest.mark.ids("nightly", "small", "small with context")
def test_passes_equal_the_whole_graph(
    make: Any, size: tuple[int, int], box: Region, tmp_path: Path
) -> None:
    model: RestorationModel = make()
    pixels = scene(*size)
    image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
    plan = make_plan(image, model, region=box, scratch=tmp_path, device="cpu")
    opened = GradientSource(plan, lambda event: None, threading.Event())
    gradients = gradients_of(opened, box)
    assert isinstance(gradients, SweptGradients)
    assert gradients.region == (0, 0, *size)
    objective = objective_of("mean+variance", 3)
    counts = torch.ones(1, 1, *box.shape)
    y = gradients.forward(opened.image, keep=True)
    value, by_y, _ = derivative(objective, y, opened.image(box), counts)
    found = torch.zeros(1, 3, *size)
    for part, gradient in gradients.backward(opened.image, by_y):
        found[(..., *part.slices)] += gradient

    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].requires_grad_(True)
    statistics = (
        opened.work.statistics_at([Region(0, 0, *size)], x.detach())
        if opened.work.statistics
        else None
    )
    whole = model(x, statistics)[(..., *box.slices)]
    assert torch.allclose(y, whole.detach(), atol=1e-5)
    expected = objective(whole, x[(..., *box.slices)], counts)
    assert value == pytest.approx(float(expected.detach()), rel=1e-5)
    (by_x,) = torch.autograd.grad(expected, x)
    assert float(by_x.norm()) > 0
    # What a tile far away has to do with the box goes through the bottleneck.
    assert float(by_x[..., : box.y0 - 100, :].norm()) > 0
    assert float((found - by_x).norm()) <= 1e-5 * float(by_x.norm())


def test_backward_alone_is_the_same(tmp_path: Path) -> None:
    box = Region(100, 100, 140, 150)
    image = nr.open_image(scene(200, 260))
    plan = make_plan(image, toy(), region=box, scratch=tmp_path, device="cpu")
    gradients = gradients_of(GradientSource(plan, lambda event: None, threading.Event()), box)
    by_y = torch.rand(1, 3, *box.shape)
    picture = gradients.source.image
    gradients.forward(picture, keep=True)
    one, other = (dict(gradients.backward(picture, by_y)) for _ in range(2))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[part], other[part]) for part in one)


@pytest.mark.slow
def test_tiles_side_by_side_fit_what_is_left(tmp_path: Path) -> None:
    box = Region(100, 100, 140, 150)
    image = nr.open_image(scene(400, 600))
    plan = make_plan(image, toy(), region=box, workers=3, scratch=tmp_path, device="cpu")
    opened = GradientSource(plan, lambda event: None, threading.Event())
    by_y = torch.rand(1, 3, *box.shape)

    def asked(beside: int) -> tuple[int, list[tuple[Region, torch.Tensor]]]:
        gradients = gradients_of(opened, box, lambda region: beside)
        gradients.forward(opened.image, keep=True)
        return gradients.bytes, list(gradients.backward(opened.image, by_y))

    most, one = asked(0)
    least, other = asked(plan.memory)
    assert least < most
    between, another = asked(plan.memory - most + 1)
    assert least < between < most
    for found in (other, another):
        assert [part for part, _ in found] == [part for part, _ in one]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(found, one, strict=True))


@pytest.mark.slow
def test_an_attribution_reaches_all_tiles_and_is_complete(tmp_path: Path) -> None:
    image = nr.open_image(scene(300, 400))
    found = attribute(
        image, toy(), Region(120, 100, 150, 140), method="ig", scratch=tmp_path, device="cpu"
    )
    records = found.record["attribution"]
    assert records["completeness"]["reached"]
    assert found.region == (0, 0, 300, 400)
    assert records["rings"]["128-256"] > 0
    assert np.abs(found.map[:64, :64]).sum() > 0


class Undecided(ToyStaged):
    """Its layers turn some tokens around: which ones, they decide."""

    routing_bytes = 1

    def bottleneck_layer(
        self,
        index: int,
        grid: torch.Tensor,
        tick: Any = None,
        routing: Routing | None = None,
    ) -> torch.Tensor:
        mixed = super().bottleneck_layer(index, grid, tick)
        first = mixed.detach()[..., 0]
        turned = (routing or Routing()).fixed("turned", lambda: first > first.roll(1, 1))
        return mixed * torch.where(turned, -1.0, 1.0)[..., None]


@pytest.mark.slow
@pytest.mark.nightly
def test_fixed_routing_makes_an_attribution_complete(tmp_path: Path) -> None:
    """What a model decides jumps along the path, and no gradient sees a jump."""
    box = Region(120, 100, 150, 140)
    asked = {"method": "ig", "baseline": "blur", "scratch": tmp_path, "device": "cpu", "steps": 9}
    records = {}
    for routing in (None, "fixed", "recomputed"):
        image = nr.open_image(scene(200, 250))
        found = attribute(image, Undecided(), box, routing=routing, **asked)
        records[routing] = found.record["attribution"]
    fixed, recomputed = records["fixed"], records["recomputed"]
    by_default, chosen = (
        {name: value for name, value in each["completeness"].items() if value is not None}
        for each in (records[None], fixed)
    )
    assert by_default == pytest.approx(chosen, rel=1e-9)
    assert fixed["routing"] == "fixed"
    assert recomputed["routing"] == "recomputed"
    assert fixed["completeness"]["reached"] and not recomputed["completeness"]["reached"]
    # Nothing is decided otherwise for the image itself.
    assert fixed["nodes"][-1] == pytest.approx(recomputed["nodes"][-1])
    # The numbers differ, and the record tells both.
    gone, model = fixed["completeness"]["difference"], recomputed["completeness"]["difference"]
    assert fixed["completeness"]["recomputed_difference"] == pytest.approx(model)
    assert abs(gone - model) > 0.01 * abs(model)
    assert recomputed["completeness"]["recomputed_difference"] is None


def test_routing_of_a_model_that_routes_nothing_is_refused() -> None:
    with pytest.raises(BadParameter, match="has no routing"):
        attribute(nr.open_image(scene(64, 64)), toy(), Region(0, 0, 9, 9), routing="recomputed")
    with pytest.raises(BadParameter, match="Routing cannot be 'none'"):
        attribute(nr.open_image(scene(64, 64)), toy(), Region(0, 0, 9, 9), routing="none")
    with pytest.raises(BadParameter, match="Leave routing= out"):
        attribute(
            nr.open_image(scene(64, 64)),
            Undecided(),
            Region(0, 0, 9, 9),
            method="occlusion",
            routing="fixed",
        )
