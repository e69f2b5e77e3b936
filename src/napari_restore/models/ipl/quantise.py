"""Tensors in 8 bits, with what it takes to read them back.

Two forms. `affine` is that of the text (IPL, AAAI 2025, equations 5 to 9), with the range widened to
hold 0, which is then exact: without that its zero point is clamped and all is lost where a tensor
does not straddle 0. Equation 7 is printed as round(t / (s + zp)); it is read as round(t / s + zp),
which equation 8 inverts. `by_cell` needs no zero point, and a range of its own for every cell.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MOST = 255
"""The highest code; the lowest is 0."""
RANGE_BYTES = 8
"""Bytes that tell the range of a cell: the lowest value and the step, float32."""


class Quantised(NamedTuple):
    """A tensor t = offset + scale · (codes − zero), to within half of `scale`."""

    codes: Tensor
    """uint8, of the tensor's shape."""
    scale: Tensor
    """() float32; 0 for a constant tensor, which is `offset`."""
    zero: Tensor
    """() float32, a whole number: the code of `offset`."""
    offset: Tensor
    """() float32: 0 but for a constant tensor."""

    def values(self) -> Tensor:
        """Return the tensor, float32."""
        return self.offset + self.scale * (self.codes.float() - self.zero)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self)


def affine(values: Tensor) -> Quantised:
    """Return a tensor in 8 bits, with one range for all of it; raises `ValueError` unless it is finite."""
    values = values.float()
    low, high = values.aminmax()
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise ValueError("a tensor with NaN or infinity has no range")
    nothing = torch.zeros_like(low)
    if bool(low == high):
        return Quantised(torch.zeros_like(values, dtype=torch.uint8), nothing, nothing, low)
    low, high = low.clamp(max=0), high.clamp(min=0)
    span = high - low
    # Halves go up here and down there, so that both ends of the range have codes of their own.
    zero = torch.floor(-low * MOST / span + 0.5).clamp(0, MOST)
    codes = torch.ceil(values * MOST / span + zero - 0.5).clamp(0, MOST)
    return Quantised(codes.to(torch.uint8), span / MOST, zero, nothing)


def by_cell(values: Tensor) -> Tensor:
    """Return maps (N, C, h, w) as (N, C + 8, h, w) uint8: codes, and the range of each cell."""
    values = values.float()
    low, high = torch.aminmax(values, dim=1, keepdim=True)
    scale = (high - low) / MOST
    # A cell that is not finite is NaN when it is read back.
    codes = torch.round((values - low) / scale.where(scale > 0, torch.inf)).nan_to_num(0)
    ranges = torch.cat([low, scale], 1).permute(0, 2, 3, 1)
    packed = ranges.flatten().view(torch.uint8).reshape(*ranges.shape[:3], RANGE_BYTES)
    packed = packed.permute(0, 3, 1, 2)
    return torch.cat([codes.clamp(0, MOST).to(torch.uint8), packed], 1)


def cell_values(stored: Tensor) -> Tensor:
    """Return the maps (N, C, h, w) float32 of `by_cell`."""
    codes, packed = stored[:, :-RANGE_BYTES], stored[:, -RANGE_BYTES:]
    packed = packed.permute(0, 2, 3, 1)
    ranges = packed.flatten().view(torch.float32).reshape(*packed.shape[:3], 2).permute(0, 3, 1, 2)
    low, scale = ranges[:, :1], ranges[:, 1:]
    return low + scale * codes
