"""Halos of sweeps are numbers in the code: as far as a NaN in what a sweep reads is seen in its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from tests.models.andehazeformer import _small
from tests.models.hint import test_network as of_hint
from tests.models.ipl import test_network as of_ipl
from torch import Tensor

from napari_restore.models import (
    Sweep,
    SweepInput,
    SweptModel,
    one_shot_statistics,
    placed_at,
    run_steps,
)

CELL = 8
"""Pixels along a side of what is NaN, or one cell of a map of larger cells."""


class Case(NamedTuple):
    make: Callable[[], SweptModel]
    planes: int
    side: int
    places: range
    """First pixels of what is NaN: about an edge of blocks, until places are alike again."""
    multiple: int | None
    """Pixels of which halos are multiples; None: they may be larger than needed."""


CASES = {
    "hint": Case(of_hint.network, 3, 128, range(56, 72, CELL), 8),
    "ipl": Case(of_ipl.network, 9, 768, range(504, 520, CELL), 4),
    "andehazeformer": Case(_small.network, 3, 256, range(128, 192, CELL), None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_halos_are_those_measured(name: str) -> None:
    make, planes, side, places, multiple = CASES[name]
    for step, given in inputs_of(make(), planes, side):
        spoiled = [each for at in places for each in with_nan(step, given, at, side)]
        reach = max(reach_of(step, each, held, side) for each, held in spoiled)
        if multiple is None:
            assert reach <= step.halo, step.name
        else:
            assert -(-reach // multiple) * multiple == step.halo, step.name


def inputs_of(model: SweptModel, planes: int, side: int) -> list[tuple[Sweep, SweepInput]]:
    """The sweeps of a whole image of noise, each with its input."""
    x = torch.rand(1, planes, side, side, generator=torch.Generator().manual_seed(0)).double()
    found = one_shot_statistics(model, x) if model.card.needs_context else {}
    known = placed_at(found, [(0, 0)], 1.0, x)
    seen: list[tuple[Sweep, SweepInput]] = []
    run_steps(model.steps(), model.view(x, known), known, None, lambda *each: seen.append(each))
    return seen


def with_nan(
    step: Sweep, given: SweepInput, at: int, side: int
) -> Iterator[tuple[SweepInput, range]]:
    """The input with NaN at one place of the image or of one map, and the pixels along that."""
    fresh = replace(given, remembered={})
    if step.sees_image:
        assert given.view is not None
        view, held = spoiled(given.view, at, side)
        yield replace(fresh, view=view), held
    for name in step.reads:
        one, held = spoiled(given.maps[name], at, side)
        yield replace(fresh, maps={**given.maps, name: one}), held


def spoiled(x: Tensor, at: int, side: int) -> tuple[Tensor, range]:
    x, stride = x.clone(), side // x.shape[-1]
    here = slice(at // stride, -(-(at + CELL) // stride))
    x[..., here, here] = torch.nan
    return x, range(here.start * stride, here.stop * stride)


def reach_of(step: Sweep, given: SweepInput, held: range, side: int) -> int:
    """Pixels from blocks of outputs that are NaN to what is NaN in the input; 0 if those hold it."""
    reach = 0
    for output in step.run(given).values():
        stride, block = side // output.shape[-1], step.block
        is_nan = output.isnan().any(1)[0]
        for line in (is_nan.any(0), is_nan.any(1)):
            for cell in line.nonzero().flatten().tolist():
                first = cell * stride // block * block
                end = -(-(cell + 1) * stride // block) * block
                reach = max(reach, first - held.stop + 1, held.start - end + 1)
    return reach
