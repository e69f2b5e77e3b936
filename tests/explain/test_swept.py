"""Gradients through sweeps and what they count, against those of the whole graph."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engine._swept_model import Chain, ToySwept
from tests.explain._models import scene
from tests.models.andehazeformer._small import network as andehazeformer
from tests.models.hint.test_network import network as hint
from torch import Tensor

import napari_restore as nr
from napari_restore import Region
from napari_restore.engine import make_plan
from napari_restore.engine.gradients import GradientSource, SweptGradients
from napari_restore.models import RestorationModel, SweptModel, placed_at

BOX = Region(60, 70, 90, 101)
SIZE = (150, 190)


def in_double(model: SweptModel) -> SweptModel:
    """The model in float64, with its maps kept so."""
    kind = type(model)

    class InDouble(kind):  # type: ignore[misc, valid-type]
        def view(self, x: Tensor, statistics: Any = None) -> Tensor:
            return super().view(x.double(), statistics)

        def steps(self) -> Any:
            return tuple(
                replace(step, writes=tuple(replace(m, dtype="float64") for m in step.writes))
                for step in super().steps()
            )

    model.__class__ = InDouble
    return model.double()


MODELS: dict[str, Callable[[], Any]] = {
    "toy": ToySwept,
    "toy64": lambda: in_double(ToySwept("float64")),
    "chain": Chain,
    "hint": lambda: hint({"cache_rounding": "none"}).float(),
    "hint64": lambda: in_double(hint({"cache_rounding": "none", "intra_size": 128})),
    "hint64 none": lambda: in_double(hint({"cache_start": "none"}, inter=0)),
    "andehazeformer": lambda: andehazeformer().float(),
    "andehazeformer64": lambda: in_double(andehazeformer()),
}


def opened(model: RestorationModel, pixels: Any, tmp_path: Path, **options: Any) -> GradientSource:
    image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
    plan = make_plan(image, model, region=BOX, scratch=tmp_path, device="cpu", **options)
    return GradientSource(plan, lambda event: None, threading.Event())


def picture_of(source: GradientSource) -> Any:
    """The image, in the floats of the model."""
    dtype = next(source.plan.model.parameters()).dtype
    return lambda box: source.image(box).to(dtype)


def gradient_of(gradients: SweptGradients, by_y: Tensor) -> tuple[Tensor, Tensor]:
    """The output in the box, and the gradient of the image."""
    picture = picture_of(gradients.source)
    y = gradients.forward(picture, keep=True)
    found = torch.zeros(1, 3, *gradients.source.size, dtype=y.dtype)
    for part, gradient in gradients.backward(picture, by_y):
        found[(..., *part.slices)] += gradient
    return y, found


def whole_gradient(model: RestorationModel, source: GradientSource, by_y: Tensor) -> Any:
    x = picture_of(source)(Region(0, 0, *source.size)).requires_grad_(True)
    known = {name: v for name, v in source.statistics.items() if name not in model.settles}
    statistics = placed_at(known, [(0, 0)], 1.0, x) if known else None
    valid = source.counted(Region(0, 0, *source.size))
    y = model(x, statistics, valid)[(..., *BOX.slices)]
    (by_x,) = torch.autograd.grad((y * by_y).sum(), x)
    return y.detach(), by_x


@pytest.mark.parametrize("tile", [64, 128])
@pytest.mark.parametrize("name", MODELS)
def test_sweeps_back_equal_the_whole_graph(name: str, tile: int, tmp_path: Path) -> None:
    model = MODELS[name]()
    source = opened(model, scene(*SIZE), tmp_path)
    gradients = SweptGradients(source, BOX, tile=tile)
    by_y = torch.randn(1, 3, *BOX.shape, generator=torch.Generator().manual_seed(0))
    y, found = gradient_of(gradients, by_y)
    expected_y, expected = whole_gradient(model, source, by_y)
    limit = 1e-10 if "64" in name else 1e-5
    assert float((y - expected_y).norm()) <= limit * float(expected_y.norm())
    far = expected[..., 128:, :].norm()
    assert float(far) > 1e-6 * float(expected.norm())
    print(name, float((found - expected).norm()) / float(expected.norm()), float(far/expected.norm()))
    assert float((found - expected).norm()) <= limit * float(expected.norm())
