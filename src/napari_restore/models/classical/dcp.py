"""Dark channel prior with a fast guided filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from napari_restore.errors import BadParameter
from napari_restore.models._card import ModelCard, Value
from napari_restore.models._context import Context
from napari_restore.models._model import Statistics, ToModel
from napari_restore.models.classical._cells import (
    blank_invalid,
    cell_counts,
    cell_minimum,
    cell_sum,
    widen_minimum,
)
from napari_restore.models.classical.base import (
    ClassicalModel,
    airlight_of,
    exact_device,
    inversion_gain,
)
from napari_restore.models.classical.guided import apply_coefficients, guided_coefficients

CELL = 4
"""Side in pixels of the cells on which everything but the last step is computed."""


class DarkChannelPrior(ClassicalModel):
    """x = J·t + A·(1 − t), t from the darkest value nearby, A from the haziest patches.

    K. He, J. Sun, X. Tang, "Single Image Haze Removal Using Dark Channel Prior", CVPR 2009; refined
    by the fast guided filter (He, Sun 2015) with statistics at a quarter of the resolution. The
    guide is the mean over bands of x/A: every constant is relative to the airlight, so the method
    does not depend on the share of the value range that a scene fills.

    Statistics: ``airlight`` (C,) of the bands it takes and ``airlight_all`` of all bands of the
    image, float32 in model range.
    """

    reads_overview = False

    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        values = card.values
        self.omega, self.t0 = float(values["omega"]), float(values["t0"])
        self.eps, self.deadband = float(values["eps"]), float(values["deadband"])
        self.amount = float(values["amount"])
        self.patch, self.window = reach(values)
        self.airlight = parse_airlight(str(values["airlight"]))

    def prepare(self, context: Context, to_model: ToModel, bands: tuple[int, ...]) -> Statistics:
        everywhere = airlight_of(context, to_model, tuple(range(context.bands)))
        statistics = {"airlight_all": torch.from_numpy(everywhere)}
        if self.airlight is None:
            estimated = airlight_of(context, to_model, bands)
            return {"airlight": torch.from_numpy(estimated), **statistics}
        if len(self.airlight) not in (1, len(bands)):
            raise BadParameter(
                f"Parameter airlight has {len(self.airlight)} values for {len(bands)} bands.",
                "Give one value, one per band, or auto.",
            )
        fixed = np.broadcast_to(np.asarray(self.airlight, np.float32), len(bands))
        return {"airlight": torch.from_numpy(fixed.copy()), **statistics}

    def restore(
        self, x: Tensor, statistics: Statistics, valid: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        airlight = statistics["airlight"].to(x.dtype)
        guide = _weighted_sum(x, 1.0 / (airlight * len(airlight)))
        transmission = self._transmission(x, guide, airlight, valid)
        if self.amount != 1:
            transmission = transmission.pow_(self.amount).clamp_(self.t0, 1.0)
        colour = airlight[None, :, None, None]
        restored = (x - colour).mul_(inversion_gain(transmission, self.deadband)).add_(x)
        maps = {"transmission": transmission, "airlight": colour.expand(x.shape)}
        return restored, maps

    def _transmission(
        self, x: Tensor, guide: Tensor, airlight: Tensor, valid: Tensor | None
    ) -> Tensor:
        """Return t (N, 1, H, W), refined along the edges of the guide, in [t0, 1]."""
        height, width = x.shape[2:]
        device = exact_device(x)
        lowest = cell_minimum(blank_invalid(x, valid, torch.inf), CELL).to(device)
        brightness = cell_sum(blank_invalid(guide, valid, 0.0), CELL).to(device)
        count = cell_counts(height, width, valid, CELL, x).to(device)
        brightness = brightness / count.clamp(min=1)
        dark = (lowest / airlight.to(device)[None, :, None, None]).amin(1, keepdim=True)
        dark = widen_minimum(dark, self.patch)
        # Cells without a valid pixel near by are infinite here and have weight 0 below.
        rough = (1.0 - self.omega * dark.clamp(0.0, 1.0)).to(torch.float64)
        fit = guided_coefficients(brightness, rough, count.expand_as(rough), self.window, self.eps)
        return apply_coefficients(fit.to(x.device), guide, CELL).clamp_(self.t0, 1.0)


def reach(values: Mapping[str, Value]) -> tuple[int, int]:
    """Return the radii of the minimum and of the guided filter, pixels in, cells out."""
    patch, window = int(values["patch_radius"]), int(values["guided_radius"])
    return round(patch / CELL), max(1, round(window / CELL))


def make(card: ModelCard) -> DarkChannelPrior:
    """Return the model, its halo computed from the radii."""
    # Whole cells depend on the minimum, two stacked means and one cell to interpolate.
    patch, window = reach(card.values)
    return DarkChannelPrior(replace(card, halo=CELL * (patch + 2 * window + 1)))


def parse_airlight(text: str) -> tuple[float, ...] | None:
    """Return None for ``auto``, else positive numbers separated by commas."""
    if text.strip().lower() == "auto":
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < n < float("inf") for n in numbers):
        raise BadParameter(
            f"Parameter airlight cannot be {text!r}.",
            "Write auto, or one positive number per band in model range, such as 0.9,0.9,0.95.",
        )
    return numbers


def _weighted_sum(x: Tensor, weights: Tensor) -> Tensor:
    """Return Σ weight · band, (N, 1, H, W), one band after the other so every pixel sums alike."""
    total = x[:, :1] * weights[0]
    for band in range(1, x.shape[1]):
        total.addcmul_(x[:, band : band + 1], weights[band])
    return total
