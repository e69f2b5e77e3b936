"""What the classical methods share: their base, airlight, the level of clear land, and the deadband."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_restore.models._context import Context
from napari_restore.models._model import (
    RestorationModel,
    Statistics,
    ToModel,
    each_image,
    one_shot_statistics,
)
from napari_restore.models._spectral import DEADBAND


class ClassicalModel(RestorationModel):
    """A method without weights: whole-image statistics, then a rule per tile.

    Subclasses write `restore`; statistics left out are taken from every image of the
    batch by itself.
    """

    def restore(
        self, x: Tensor, statistics: Statistics, valid: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the result of `forward_with_maps`; `valid` is None if all pixels are."""
        raise NotImplementedError

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if valid is not None and bool(valid.all()):
            valid = None
        if statistics is not None:
            return self.restore(x, {k: v.to(x.device) for k, v in statistics.items()}, valid)
        images, maps = [], []
        for one, own in each_image(x, valid):
            found = one_shot_statistics(self, one, own)
            image, side = self.restore(one, {k: v.to(x.device) for k, v in found.items()}, own)
            images.append(image)
            maps.append(side)
        return torch.cat(images), {k: torch.cat([m[k] for m in maps]) for k in maps[0]}


def exact_device(x: Tensor) -> torch.device:
    """Return the device for float64 sums over `x`: its own, unless that has no float64."""
    return torch.device("cpu") if x.device.type == "mps" else x.device


AIRLIGHT_SHARE = 0.001
"""Share of the image, haziest first, whose mean colour is the airlight (He et al. 2009)."""


def airlight_of(
    context: Context, to_model: ToModel, bands: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Return the airlight (C,) of the image's `bands` in model range."""
    # Under even haze the haziest patches still show ground, so the airlight is also at least 0.9 of
    # what the band's brightest thousandth reaches: measured on hazed aerial and natural scenes,
    # that gains 0.1 to 2.5 dB. Both follow the scene; a fixed bound (≥ 0.3 is common for
    # photographs) would darken 16-bit scenes that fill a small part of the value range. A band
    # without haze (cirrus, far infrared) is limited to at least a tenth of the brightest, since
    # dividing by almost nothing would turn its noise into haze.
    chosen = list(bands)
    colour = to_model(context.brightest_dark(AIRLIGHT_SHARE))[chosen]
    bright = to_model(np.array([context.percentile(99.9, (b,)) for b in range(context.bands)]))
    colour = np.maximum(colour, 0.9 * bright[chosen])
    floor = max(1e-6, 0.1 * float(np.max(colour, initial=0.0)))
    return np.maximum(colour, floor).astype(np.float32)


def clear_level(haze: npt.NDArray[Any]) -> float:
    """Return the value up to which pixels count as clear; 0 for an empty array."""
    if haze.size == 0:
        return 0.0
    # The clearest tenth is taken as one side of the scatter of clear land; its mirror image belongs
    # to the clear part too.
    lowest, tenth = np.percentile(haze, [1, 10])
    return float(2 * tenth - lowest)


def monotone(curve: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return `curve` smoothed over three points and made non-decreasing, its first point kept."""
    padded = np.concatenate([curve[:1], curve, curve[-1:]])
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    smooth[0] = curve[0]
    # It is the mean of the smallest rising curve above and the largest one below.
    above = np.maximum.accumulate(smooth)
    below = np.minimum.accumulate(smooth[::-1])[::-1]
    rising: npt.NDArray[np.float64] = (above + below) / 2
    rising = rising - rising[0] + curve[0]
    return rising


def soft_gate(haze: Tensor, deadband: float = DEADBAND) -> Tensor:
    """Return the strength of a change: exactly 0 up to `deadband`, rising linearly to 1 at twice that."""
    if deadband <= 0:
        return (haze > 0).to(haze.dtype)
    return ((haze - deadband) / deadband).clamp(0.0, 1.0)


def inversion_gain(transmission: Tensor, deadband: float = DEADBAND) -> Tensor:
    """Return g in J = x + g · (x − A), the inverse of x = J·t + A·(1 − t) behind the soft gate."""
    # Writing the correction as a change keeps x itself wherever g is 0.
    return soft_gate(1.0 - transmission, deadband) * (transmission.reciprocal() - 1.0)
