"""Conversion between full resolution and a grid of square cells aligned to the image's origin.

A tile whose origin is a multiple of the cell side has the same cells as the whole image. Cells at
the right and bottom edge contain only the pixels that exist, so sizes need not be divisible and
nothing is invented beyond the image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def blank_invalid(x: Tensor, valid: Tensor | None, fill: float) -> Tensor:
    """Return `x` (N, C, H, W) with `fill` where `valid` (N, 1, H, W) is False."""
    return x if valid is None else torch.where(valid, x, x.new_tensor(fill))


def cell_minimum(x: Tensor, side: int) -> Tensor:
    """Return the smallest value per cell; (N, C, H, W) to (N, C, ⌈H/side⌉, ⌈W/side⌉)."""
    x = _whole_cells(x, side, torch.inf)
    # Rows first: that pass is contiguous and leaves 1/side of the data to the other.
    rows = torch.unflatten(x, 2, (-1, side)).amin(3)
    return torch.unflatten(rows, 3, (-1, side)).amin(4)


def cell_sum(x: Tensor, side: int) -> Tensor:
    """Return the sum per cell in float64; shapes as `cell_minimum`, partial cells sum their pixels."""
    x = _whole_cells(x, side, 0.0)
    rows = torch.unflatten(x, 2, (-1, side)).sum(3)
    return torch.unflatten(rows, 3, (-1, side)).sum(4, dtype=torch.float64)


def cell_counts(height: int, width: int, valid: Tensor | None, side: int, like: Tensor) -> Tensor:
    """Return the valid pixels per cell, (N or 1, 1, h, w) float64."""
    if valid is not None:
        return cell_sum(valid.to(torch.float32), side)
    rows, columns = (_edge_counts(n, side, like.device) for n in (height, width))
    return (rows[:, None] * columns)[None, None]


def spread(cells: Tensor, side: int, height: int, width: int) -> Tensor:
    """Interpolate cell centres bilinearly to (H, W) pixels, constant beyond the last centre."""
    full = F.interpolate(cells, scale_factor=float(side), mode="bilinear", align_corners=False)
    return full[..., :height, :width]


def widen_minimum(cells: Tensor, radius: int) -> Tensor:
    """Return the smallest value in the square of `radius` cells around each cell."""
    if radius == 0:
        return cells
    size = 2 * radius + 1
    rows = F.max_pool2d(-cells, (size, 1), 1, (radius, 0))
    return -F.max_pool2d(rows, (1, size), 1, (0, radius))


def _whole_cells(x: Tensor, side: int, fill: float) -> Tensor:
    bottom, right = -x.shape[2] % side, -x.shape[3] % side
    return F.pad(x, (0, right, 0, bottom), value=fill) if bottom or right else x


def _edge_counts(length: int, side: int, device: torch.device) -> Tensor:
    counts = torch.full((-(-length // side),), float(side), dtype=torch.float64, device=device)
    if length % side:
        counts[-1] = length % side
    return counts
