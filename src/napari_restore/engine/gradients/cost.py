"""Memory that gradients take, measured once per model on synthetic tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from napari_restore.engine.gradients._schedule import differentiable
from napari_restore.engine.gradients.vjp import vjp, vjp_of_used
from napari_restore.engine.machine.device import Device
from napari_restore.engine.machine.device_memory import peak_of
from napari_restore.engine.planning.costs import SCRATCH_BYTES, Bytes
from napari_restore.engine.planning.measurements import MeasurementCache
from napari_restore.engine.planning.probe import example_input, example_statistics
from napari_restore.models import (
    RestorationModel,
    Statistics,
    Sweep,
    SweepInput,
    SweptModel,
    WholeStep,
    run_steps,
)

SIDE = 128
"""Side of the smaller of two synthetic tiles, for a linear fit. The larger one, of twice the
side, takes no more than the maps of small boxes do."""
SWEPT_SIDE = 64
"""The same of a model that is swept, each sweep of which is measured."""
GRID = 32
"""Side of the synthetic grid of tokens."""


@dataclass(frozen=True)
class GradientCost(Bytes):
    """Those of a forward and backward pass, by the pixels of the model's input."""


_KNOWN = MeasurementCache(GradientCost, releases=True)


def gradient_cost(model: RestorationModel, device: Device) -> GradientCost:
    """Return the cost of `model` on `device`; cached, also by kind."""
    return _KNOWN.of(model, device, lambda: _measure(model, device), SIDE)


def _measure(model: RestorationModel, device: Device) -> GradientCost:
    step = model.card.multiple_of
    least = -(-max(SIDE, model.card.min_size) // step) * step

    def peak(side: int) -> float:
        x = example_input(model, side, side)
        statistics = example_statistics(model, x)
        return peak_of(partial(_gradient, model, x.requires_grad_(True), statistics), device)

    return _fitted(least, peak(least), peak(2 * least))


def _fitted(side: int, peak: float, of_double: float) -> GradientCost:
    """Return the cost of tiles from the peaks of one, and of one of twice its side."""
    cost = GradientCost.fitted((side**2, 4 * side**2), (peak, of_double))
    return replace(cost, fixed_bytes=cost.fixed_bytes + SCRATCH_BYTES)


def _gradient(model: RestorationModel, x: Tensor, statistics: Statistics) -> None:
    with torch.enable_grad():
        total = model(x, statistics).sum()
    if total.requires_grad:
        torch.autograd.grad(total, x, materialize_grads=True)


@dataclass(frozen=True)
class SweptGradientCost:
    """Bytes at the peak of the parts of a model that is swept, with their graphs."""

    sweeps: Mapping[int, GradientCost]
    """One tile of each sweep, forward and backward, by the pixels of its box."""
    whole_per_token: float
    """One layer of a whole step: each is computed again for its backward pass."""


_SWEPT = MeasurementCache(SweptGradientCost, releases=True)


@dataclass(frozen=True)
class ContextCost:
    """Bytes at the peak of computing a model's statistics from an overview."""

    forward: int
    """Without its graph."""
    backward: int
    """With its graph, forward and backward."""


_CONTEXT = MeasurementCache(ContextCost, releases=True)


def context_pass_cost(
    model: RestorationModel, overview: Tensor, valid: Tensor, statistics: Statistics, device: Device
) -> ContextCost:
    """Measure `model.follow` once on an overview (1, C, h, w); cached by its size."""
    # The model may reduce its input, so that a smaller overview would not show the cost.

    def forward() -> None:
        with torch.no_grad():
            model.follow(overview, valid, statistics)

    def backward() -> None:
        leaf = overview.detach().requires_grad_(True)
        with torch.enable_grad():
            followed = model.follow(leaf, valid, statistics)
        outputs = [value for value in followed.values() if value.requires_grad]
        if outputs:
            vjp(outputs, [torch.ones_like(value) for value in outputs], [leaf])

    def measure() -> ContextCost:
        peaks = (int(peak_of(call, device)) + SCRATCH_BYTES for call in (forward, backward))
        return ContextCost(*peaks)

    return _CONTEXT.of(model, device, measure, tuple(overview.shape))


def swept_gradient_cost(model: SweptModel, device: Device) -> SweptGradientCost:
    """Return the cost of `model` on `device`; cached, also by kind."""
    return _SWEPT.of(model, device, lambda: _measure_swept(model, device), SWEPT_SIDE)


def _measure_swept(model: SweptModel, device: Device) -> SweptGradientCost:
    if model.tile is not None:
        peaks = _sweep_peaks(model, model.tile, device)
        # Tiles have this size alone.
        costs = {n: GradientCost(SCRATCH_BYTES, peak / model.tile**2) for n, peak in peaks.items()}
    else:
        side = -(-max(SWEPT_SIDE, model.card.min_size) // model.multiple) * model.multiple
        one, double = (_sweep_peaks(model, each, device) for each in (side, 2 * side))
        costs = {number: _fitted(side, peak, double[number]) for number, peak in one.items()}
    whole = model.ordered_steps.whole
    return SweptGradientCost(costs, 0 if whole is None else _layer_peak(whole, device, model))


def _sweep_peaks(model: SweptModel, side: int, device: Device) -> dict[int, float]:
    """Return the peak bytes of each sweep on a synthetic tile, as `SweepGraph` runs them."""
    x = example_input(model, side, side)
    peaks: dict[str, float] = {}

    def measure(step: Sweep, given: SweepInput) -> None:
        peak = peak_of(partial(_back_through, model, step, x, given), device)
        # What is read, and its gradient as it is kept; the gradient of what is written.
        passed = 2 * sum(one.nbytes for one in given.maps.values())
        left = sum(math.prod(each.shape(side)) for each in step.writes)
        peaks[step.name] = peak + passed + x.element_size() * left

    with torch.no_grad():
        statistics = example_statistics(model, x)
        # As if a whole step had left all as it was: its cost is measured elsewhere.
        steps = (replace(s, layers=0) if isinstance(s, WholeStep) else s for s in model.steps())
        run_steps(tuple(steps), model.view(x, statistics), statistics, visit=measure)
    return {number: peaks[step.name] for number, step in model.ordered_steps.sweeps.items()}


def _back_through(model: SweptModel, step: Sweep, x: Tensor, given: SweepInput) -> None:
    """Run a sweep with its graph, and back through it, then through the view."""
    statistics = given.statistics
    leaves = {name: one.detach().requires_grad_(True) for name, one in given.maps.items()}
    view = None
    if step.sees_image:
        with torch.no_grad():
            view = model.view(x.clone(), statistics).detach()
        view.requires_grad_(True)
    inputs = [*leaves.values(), *([] if view is None else [view])]
    with torch.enable_grad():
        made = step.run(SweepInput(view, leaves, statistics))
        outputs = [made[one.name] for one in step.writes]
        if step.counts is not None and differentiable(step.counts):
            outputs += step.counts.count(made, None).values()
    del made
    found = vjp_of_used(outputs, [torch.ones_like(y) for y in outputs], inputs)
    del outputs
    by_view = None if view is None else found[-1]
    if by_view is not None:
        leaf = x.clone().requires_grad_(True)
        with torch.enable_grad():
            view = model.view(leaf, statistics)
        vjp_of_used([view], [by_view], [leaf])


def _layer_peak(step: WholeStep, device: Device, model: SweptModel) -> float:
    """Return the peak bytes of one layer with its graph, per token."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn(GRID, GRID, step.reads.channels, generator=generator)
    grid = grid.to(example_input(model, 1, 1).device)

    def layer() -> None:
        leaf = grid.clone().requires_grad_(True)
        with torch.enable_grad():
            out = step.layer(0, leaf.clone())
        torch.autograd.grad(out.sum(), leaf)

    return peak_of(layer, device) / GRID**2
