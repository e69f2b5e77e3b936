"""Memory that gradients take, measured once per model on synthetic tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from napari_restore.engine.gradients._vjp import vjp
from napari_restore.engine.memory._device import Device
from napari_restore.engine.memory._device_memory import peak_of
from napari_restore.engine.planning._calibrate import SCRATCH_BYTES
from napari_restore.engine.planning._measurement_cache import MeasurementCache
from napari_restore.engine.planning._probe import example_input, example_statistics
from napari_restore.models import BottleneckModel, RestorationModel, Statistics, placed_at

SIDE = 128
"""Side of the smaller of two synthetic tiles, for a linear fit. The larger one, of twice the
side, takes no more than the maps of small boxes do."""
GRID = 32
"""Side of the synthetic grid of tokens."""


@dataclass(frozen=True)
class GradientCost:
    """Bytes at the peak of a forward and backward pass."""

    fixed: float
    per_pixel: float
    """Per pixel of the model's input."""

    def bytes(self, pixels: int) -> int:
        return int(self.fixed + self.per_pixel * pixels)


_KNOWN = MeasurementCache[GradientCost](releases=True)


def gradient_cost(model: RestorationModel, device: Device) -> GradientCost:
    """Return the cost of `model` on `device`; cached in the process, also by kind."""
    return _KNOWN.of(model, device, lambda: _measure(model, device))


def _measure(model: RestorationModel, device: Device) -> GradientCost:
    step = model.card.multiple_of
    least = -(-max(SIDE, model.card.min_size) // step) * step
    peaks = []
    for side in (least, 2 * least):
        x = example_input(model, side, side)
        statistics = example_statistics(model, x)
        peaks.append(peak_of(partial(_gradient, model, x.requires_grad_(True), statistics), device))
    slope = max(0.0, (peaks[1] - peaks[0]) / (3 * least * least))
    return GradientCost(max(0.0, peaks[0] - slope * least * least) + SCRATCH_BYTES, slope)


def _gradient(model: RestorationModel, x: Tensor, statistics: Statistics) -> None:
    with torch.enable_grad():
        total = model(x, statistics).sum()
    if total.requires_grad:
        torch.autograd.grad(total, x, materialize_grads=True)


@dataclass(frozen=True)
class BottleneckGradientCost:
    """Bytes at the peak of the parts of a model with a bottleneck, with their graphs."""

    tile: int
    """Encoding or decoding one tile, forward and backward."""
    tile_forward: int
    """Encoding one tile without its graph."""
    bottleneck_per_token: float
    """One layer: each is computed again for its backward pass."""


_BOTTLENECK = MeasurementCache[BottleneckGradientCost](releases=True)


@dataclass(frozen=True)
class ContextCost:
    """Bytes at the peak of computing a model's statistics from an overview."""

    forward: int
    """Without its graph."""
    backward: int
    """With its graph, forward and backward."""


_CONTEXT = MeasurementCache[ContextCost](releases=True)


def context_pass_cost(
    model: RestorationModel, overview: Tensor, valid: Tensor, statistics: Statistics, device: Device
) -> ContextCost:
    """Measure `model.follow` once on an overview (1, C, h, w); cached by its size.

    The model may reduce its input, so that a smaller overview would not show the cost.
    """

    def forward() -> None:
        with torch.no_grad():
            model.follow(overview, valid, statistics)

    def backward() -> None:
        leaf = overview.detach().requires_grad_(True)
        with torch.enable_grad():
            followed = model.follow(leaf, valid, statistics) or {}
        outputs = [value for value in followed.values() if value.requires_grad]
        if outputs:
            vjp(outputs, [torch.ones_like(value) for value in outputs], [leaf])

    def measure() -> ContextCost:
        peaks = (int(peak_of(call, device)) + SCRATCH_BYTES for call in (forward, backward))
        return ContextCost(*peaks)

    return _CONTEXT.of(model, device, measure, tuple(overview.shape))


def bottleneck_gradient_cost(model: BottleneckModel, device: Device) -> BottleneckGradientCost:
    """Return the cost of `model` on `device`; cached in the process, also by kind."""
    return _BOTTLENECK.of(model, device, lambda: _measure_bottleneck(model, device))


def _measure_bottleneck(model: BottleneckModel, device: Device) -> BottleneckGradientCost:
    x = example_input(model, model.tile, model.tile)
    statistics = example_statistics(model, x)
    if model.card.placed:
        statistics = placed_at(statistics, [(0, 0)], 1.0, x)
    generator = torch.Generator().manual_seed(0)
    grid = torch.randn(GRID, GRID, model.width, generator=generator).to(x.device)

    def back(leaf: Tensor, step: Callable[[Tensor], Sequence[Tensor]]) -> None:
        leaf = leaf.detach().requires_grad_(True)
        with torch.enable_grad():
            outputs = step(leaf)
        vjp(outputs, [torch.ones_like(y) for y in outputs], [leaf])

    def encode() -> None:
        # As in `BottleneckGradients`: the view, its graph, and the encoder's.
        with torch.no_grad():
            view = model.view(x, statistics)
        back(view, tokens_and_residuals)
        back(x, lambda leaf: [model.view(leaf, statistics)])

    def tokens_and_residuals(view: Tensor) -> Sequence[Tensor]:
        tokens, residuals = model.encode(view)
        return [tokens, *residuals]

    def forward_and_back() -> None:
        with torch.no_grad():
            model.encode(model.view(x, statistics))

    with torch.no_grad():
        tile_view = model.view(x, statistics)
        encoded, left = model.encode(tile_view)
        around = model.with_margin(encoded[0])[None]

    def decode() -> None:
        leaves = [
            leaf.detach().requires_grad_(True) for leaf in (around, encoded, *left, tile_view)
        ]
        with torch.enable_grad():
            y = model.decode(leaves[0], leaves[1], tuple(leaves[2:-1]), leaves[-1])
        torch.autograd.grad(y.sum(), leaves, materialize_grads=True)

    def layer() -> None:
        leaf = grid.clone().requires_grad_(True)
        with torch.enable_grad():
            out = model.bottleneck_layer(0, leaf.clone())
        torch.autograd.grad(out.sum(), leaf)

    return BottleneckGradientCost(
        int(max(peak_of(encode, device), peak_of(decode, device))) + SCRATCH_BYTES,
        int(peak_of(forward_and_back, device)) + SCRATCH_BYTES,
        peak_of(layer, device) / GRID**2,
    )
