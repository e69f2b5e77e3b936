"""Haze thickness map: additive haze from the darkest blue nearby."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore.models._card import ModelCard
from napari_restore.models._context import Context
from napari_restore.models._model import Statistics, ToModel
from napari_restore.models.classical._cells import (
    blank_invalid,
    cell_counts,
    cell_minimum,
    spread,
    widen_minimum,
)
from napari_restore.models.classical.base import (
    ClassicalModel,
    airlight_of,
    clear_level,
    exact_device,
    soft_gate,
)
from napari_restore.models.classical.guided import box_mean

CELL = 8
STRIP = 256
"""Overview rows brought into model range at a time."""


class HazeThicknessMap(ClassicalModel):
    """x = J + k·H per band, H the smoothed local minimum of the blue band.

    A. Makarau, R. Richter, R. Müller, P. Reinartz, "Haze detection and removal in
    remotely sensed multispectral imagery", IEEE TGRS 52, 2014. H is computed on
    cells of 8 × 8 pixels; k is the slope of each band's local minimum over blue's,
    from the overview. H counts from the clearest part of the scene, so that uneven
    haze goes and clear land stays.

    Statistics: ``slopes`` (C,), ``clear`` () and ``airlight`` (), both of blue, model range.
    """

    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        self.radius = radius_of(card)
        self.strength = float(card.values["strength"]) * float(card.values["amount"])
        self.deadband = float(card.values["deadband"])

    def prepare(self, context: Context, to_model: ToModel, bands: tuple[int, ...]) -> Statistics:
        minima = self._overview_minima(context, to_model, bands)
        airlight = airlight_of(context, to_model, bands)
        clear = clear_level(minima[:, 0])
        return {
            "slopes": torch.from_numpy(band_slopes(minima, airlight)),
            "clear": torch.tensor(clear, dtype=torch.float32),
            "airlight": torch.tensor(airlight[0]),
        }

    def restore(
        self, x: Tensor, statistics: Statistics, valid: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        height, width = x.shape[2:]
        device = exact_device(x)
        blue = blank_invalid(x[:, :1], valid, torch.inf)
        lowest = widen_minimum(cell_minimum(blue, CELL).to(device), self.radius)
        lowest = torch.where(torch.isfinite(lowest), lowest, 0.0)
        count = cell_counts(height, width, valid, CELL, x).to(device).expand_as(lowest)
        smooth = box_mean(box_mean(lowest, count, self.radius), count, self.radius)
        above = (smooth.to(torch.float32).to(x.device) - statistics["clear"]).clamp_(min=0.0)
        haze = spread(above, CELL, height, width)
        haze = haze * soft_gate(haze / statistics["airlight"], self.deadband) * self.strength
        return x - haze * statistics["slopes"].to(x.dtype)[None, :, None, None], {"haze": haze}

    def _overview_minima(
        self, context: Context, to_model: ToModel, bands: tuple[int, ...]
    ) -> npt.NDArray[np.float64]:
        """Return (cells, C) local minima where all bands have one."""
        side = max(1, CELL // context.factor)
        rows = []
        for y in range(0, context.overview.shape[0], STRIP):
            strip = to_model(context.overview[y : y + STRIP])[..., list(bands)]
            planes = torch.from_numpy(np.moveaxis(strip, 2, 0)[None].astype(np.float32))
            rows.append(cell_minimum(torch.nan_to_num(planes, nan=torch.inf), side))
        reach = round(self.radius * CELL / (side * context.factor))
        minima = widen_minimum(torch.cat(rows, 2), reach)[0].flatten(1).T.numpy()
        usable: npt.NDArray[np.float64] = minima[np.isfinite(minima).all(axis=1)].astype(np.float64)
        return usable


def make(card: ModelCard) -> HazeThicknessMap:
    """Return the model, its halo computed from the window."""
    # Whole cells depend on the minimum, two stacked means and one cell to interpolate.
    return HazeThicknessMap(replace(card, halo=CELL * (3 * radius_of(card) + 1)))


def radius_of(card: ModelCard) -> int:
    """Return half the window, in cells."""
    return max(1, round((int(card.values["window"]) - 1) / 2 / CELL))


def band_slopes(
    minima: npt.NDArray[np.float64], airlight: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return (C,) rise of each band's local minimum per rise of blue's; blue's own is 1."""
    # Noise in blue only flattens the regression, so a doubtful band is corrected less. Haze adds at
    # most its own colour to a band, which bounds the slope.
    slopes = np.ones(len(airlight))
    centred = minima - minima.mean(axis=0) if len(minima) else np.zeros((1, len(airlight)))
    variance = float((centred[:, 0] ** 2).mean())
    if variance > 1e-12:
        slopes = (centred[:, :1] * centred).mean(axis=0) / variance
    slopes = np.clip(slopes, 0.0, airlight / airlight[0])
    slopes[0] = 1.0
    return slopes.astype(np.float32)
