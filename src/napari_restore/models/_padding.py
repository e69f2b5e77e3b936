"""Padding right and bottom by reflection, for images of any size."""

from __future__ import annotations

import torch
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int, smallest: int = 1) -> Tensor:
    """Return `x` (N, C, H, W) grown at bottom and right until both sides are multiples.

    The image is reflected, as often as needed for images smaller than the padding; only pixels that
    exist are repeated, so an edge tile is padded like the whole.
    """
    for axis in (2, 3):
        length = x.shape[axis]
        wanted = -(-max(length, smallest) // multiple) * multiple
        if wanted != length:
            x = x.index_select(axis, reflected(length, wanted, x.device))
    return x


def reflected(length: int, wanted: int, device: torch.device, before: int = 0) -> Tensor:
    """Return indices 0 … length − 1 … 0 … of `wanted` entries, edges not repeated."""
    period = max(1, 2 * (length - 1))
    index = (torch.arange(wanted, device=device) - before) % period
    return torch.where(index < length, index, period - index)
