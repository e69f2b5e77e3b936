"""What models cost, by a formula in place of a measurement: the same bytes and seconds on any machine."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pytest

from napari_restore.engine.gradients.cost import ContextCost, GradientCost, SweptGradientCost
from napari_restore.engine.planning.costs import (
    SCRATCH_BYTES,
    Cost,
    FinalizeCost,
    PrepareCost,
    SweepCosts,
)
from napari_restore.engine.planning.measurements import MeasurementCache

SECONDS = 1e-7
"""Per pixel."""


def _per_pixel(model: Any) -> int:
    """Return bytes per pixel, near those of the networks that are shipped: 50 to 140."""
    bands = (model.card.bands or len(model.card.roles) or 3) * max(1, model.card.inputs)
    return 16 * bands + 4 * sum(each.numel() for each in model.parameters()).bit_length()


def _of_maps(model: Any, number: int) -> int:
    """Return bytes per pixel of the maps that a sweep leaves."""
    writes = model.ordered_steps[number].writes
    return _per_pixel(model) + sum(4 * each.channels // each.stride**2 for each in writes)


def _of_tiles(model: Any, circumstances: tuple[Any, ...]) -> Cost:
    slope = _per_pixel(model)
    return Cost(0.0, float(slope), SECONDS, SECONDS)


def _of_sweeps(model: Any, circumstances: tuple[Any, ...]) -> SweepCosts:
    steps = model.ordered_steps
    costs = {n: Cost(4e6, float(_of_maps(model, n)), SECONDS, SECONDS) for n in steps.sweeps}
    several = (n for n, each in steps.sweeps.items() if len(each.writes) > 1 and each.is_shallow)
    finalizing = {n: FinalizeCost(4e6, 1e-3, 1 << 16) for n in steps.counting}
    per_operation = 0.0 if steps.whole is None else 2e-10
    return SweepCosts(costs, {n: costs[n] for n in several}, per_operation, finalizing)


def _of_preparing(model: Any, circumstances: tuple[Any, ...]) -> PrepareCost:
    height, width = circumstances[0]
    pixels = height * width
    return PrepareCost((8 << 20) + 32 * pixels, 8 * pixels, 5e-6 * pixels, pixels // 2)


def _of_gradients(model: Any, circumstances: tuple[Any, ...]) -> GradientCost:
    return GradientCost(float(SCRATCH_BYTES), 3.0 * _per_pixel(model))


def _of_swept_gradients(model: Any, circumstances: tuple[Any, ...]) -> SweptGradientCost:
    steps = model.ordered_steps
    costs = {n: GradientCost(SCRATCH_BYTES + 4e6, 4.0 * _of_maps(model, n)) for n in steps.sweeps}
    return SweptGradientCost(costs, 0.0 if steps.whole is None else 35_000.0)


def _of_context(model: Any, circumstances: tuple[Any, ...]) -> ContextCost:
    *_, height, width = circumstances[0]
    backward = SCRATCH_BYTES + 400 * height * width
    return ContextCost(SCRATCH_BYTES + 100 * height * width, backward)


FORMULAS: dict[type, Callable[[Any, tuple[Any, ...]], Any]] = {
    Cost: _of_tiles,
    SweepCosts: _of_sweeps,
    PrepareCost: _of_preparing,
    GradientCost: _of_gradients,
    SweptGradientCost: _of_swept_gradients,
    ContextCost: _of_context,
}


def use_formulas(patch: pytest.MonkeyPatch) -> None:
    """Let plans take costs from `FORMULAS`; other measurements are made as ever."""
    measured = MeasurementCache.of

    def of(
        self: MeasurementCache[Any],
        model: Any,
        device: Any,
        measure: Callable[[], Any],
        *circumstances: Hashable,
        roughly: bool = False,
    ) -> Any:
        if self._kind not in FORMULAS:
            return measured(self, model, device, measure, *circumstances, roughly=roughly)
        model.to(device.torch)
        return FORMULAS[self._kind](model, circumstances)

    patch.setattr(MeasurementCache, "of", of)
    # Tiles of several shapes are compared all the same, of small images.
    planning = "napari_restore.engine.planning"
    patch.setattr(f"{planning}.tile_invariance._SMALLER", (2, 4))
    patch.setattr(f"{planning}.dependence._LONG", 420)
