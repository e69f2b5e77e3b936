"""Where IPL multiplies features with factors, and those of one cell.

IPL's attention has no weights between places: a cell's features are multiplied with factors, one for
each channel. A slice attention makes them of the slices that the cell lies in, a cube of the image.
So the row of a cell has one weight for each slice, or one for the cube: the mean factor over the
channels, at the cell's own place. What in a slice made the factor is no part of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from napari_restore.models._attention import AttentionRow, AttentionSite
from napari_restore.models.ipl._config import STRIDE

SLICES = ("channels", "columns", "rows")
"""Slice attentions, in the order of `SliceAttentions.factors_at`."""
ATTENTION, CUBES = "attention", "cubes"
BLOCK, LAST = "block", "fuse"
"""Names of sweeps: of the blocks, numbered from 1, and the last one."""


def sites_of(blocks: int) -> tuple[AttentionSite, ...]:
    """Return the sites of a network of so many blocks: slices and cube in turn.

    The sweep after that of a block applies its cube.
    """
    found = []
    for block in range(1, blocks + 1):
        following = f"{BLOCK}{block + 1}" if block < blocks else LAST
        name, title = f"{ATTENTION}.{block}", f"slices {block}"
        found.append(AttentionSite(name, title, "gate", f"{BLOCK}{block}", STRIDE, SLICES))
        name, title = f"{CUBES}.{block}", f"cube {block}"
        found.append(AttentionSite(name, title, "gate", following, STRIDE, ("cube",)))
    return tuple(found)


def row_of(factors: Tensor, features: Tensor, cell: tuple[int, int]) -> AttentionRow:
    """Return the row of a cell whose features (C,) are multiplied with `factors` (heads, C).

    Its numbers: ``factors`` and ``features``. The result is the sum over the heads of their product.
    """
    heads = len(factors)
    own = torch.tensor(cell, device=factors.device).expand(heads, 1, 2)
    weights = factors.mean(1, keepdim=True).to(torch.float32)
    return AttentionRow(weights, own, cell, {"factors": factors, "features": features})


def left_out(factors: int, channels: int, cell: tuple[int, int]) -> AttentionRow:
    """Return the row of a cell that the box of a tile does not compute."""
    none = torch.zeros(factors, 1)
    numbers = {"factors": torch.zeros(factors, channels), "features": torch.zeros(channels)}
    return AttentionRow(none, torch.full((factors, 1, 2), -1), cell, numbers)
