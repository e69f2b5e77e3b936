"""What a model makes of an image is found once, also where the model must move first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import napari_restore as nr
from napari_restore.engine import Run, warm_up
from napari_restore.models.classical.dcp import DarkChannelPrior


class Moving(DarkChannelPrior):
    """A model whose weight is another tensor once it has been moved, as on a GPU."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.moved = False
        self.prepared: list[bool] = []

    def to(self, *args: Any, **kwargs: Any) -> Any:
        if not self.moved:
            self.weight.data = self.weight.data.clone()
            self.moved = True
        return self

    def prepare(self, *args: Any) -> Any:
        self.prepared.append(self.moved)
        return super().prepare(*args)


def planned() -> Any:
    pixels = np.random.default_rng(0).integers(1, 255, (300, 400, 3), np.uint8)
    plan = nr.plan(pixels, "dcp", tile=256, device="cpu")
    from dataclasses import replace

    return replace(plan, model=Moving(plan.model.card))


def carry_out(plan: Any) -> None:
    Run(plan, lambda event: None, keep=True).run()


def test_a_second_run_prepares_nothing_again():
    plan = planned()
    carry_out(plan)
    assert plan.model.prepared == [True]
    carry_out(plan)
    assert plan.model.prepared == [True]


def test_what_was_warmed_is_used(own_cache: Any):
    first = planned()
    # The statistics of the image must be known for a model to be warmed with them.
    carry_out(first)
    plan = planned()
    warm_up(plan)
    assert plan.model.prepared[0] is True
    count = len(plan.model.prepared)
    carry_out(plan)
    assert len(plan.model.prepared) == count


@pytest.mark.slow
def test_what_other_weights_made_is_not_used():
    model = Moving(planned().model.card).eval().requires_grad_(False)
    pixels = np.random.default_rng(0).integers(1, 255, (300, 400, 3), np.uint8)
    for _ in range(2):
        plan = nr.plan(pixels, model, tile=256, device="cpu")
        count = len(model.prepared)
        carry_out(plan)
        assert len(model.prepared) == count + 1
        # In place, past the counter of versions.
        model.weight.data.mul_(2)
