"""What is made of a tile and the decoder's last map."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_restore.models.inf_dehaze._config import Head

DEEPEST = 2.5
"""Optical depth that is never reached: the inversion multiplies errors by exp of it."""
AIRLIGHT = 0.8
"""Airlight of a decoder that gives zeros."""


def outputs(head: Head, bands: int) -> int:
    """Channels that the decoder gives for images of so many bands."""
    return bands if head == "change" else 2 * bands


def haze(out: Tensor) -> tuple[Tensor, Tensor]:
    """Optical depth and airlight (N, C, T, T) that an "airlight" head reads off `out`."""
    depth, airlight = out.chunk(2, dim=1)
    return DEEPEST * torch.tanh(depth / DEEPEST), airlight + AIRLIGHT


def restored(head: Head, x: Tensor, out: Tensor) -> Tensor:
    """The tiles `x` (N, C, T, T) restored by the decoder's `out` (N, `outputs`, T, T).

    "change" is x + out, as in Inf-Dehaze. "airlight" inverts Koschmieder's model per pixel
    and band: x + (exp(τ) − 1) · (x − A), with τ = `DEEPEST` · tanh(out / `DEEPEST`) of the
    first half and A = out + `AIRLIGHT` of the second. Where `out` is 0 both leave x as it is.
    """
    if head == "change":
        return x + out
    depth, airlight = haze(out)
    return x + torch.expm1(depth) * (x - airlight)
