"""What can be shown of attention between channels: matrices, and maps that follow from them.

Such attention has no places. All maps here are *derived*: parts of the layer's sums that belong to
single cells. Functions of one image; maps are (C, h, w) of any part of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.models.hint._attention import HierarchicalAttention, LayerStatistics


def matrices_of(layer: HierarchicalAttention, matrix: Tensor, order: Tensor) -> list[Tensor]:
    """Return each head's part (c, c) of a `matrix` (C, C) arranged like `LayerStatistics.attention`.

    Rows and columns are the channels that `order` (C,) lists in the slots of the head.
    """
    in_slots = matrix[:, order]
    return [in_slots[part, part] for part in layer.parts]


def logit_map(
    layer: HierarchicalAttention,
    q: Tensor,
    k: Tensor,
    layer_statistics: LayerStatistics,
    pair: tuple[int, int],
) -> Tensor:
    """Return what each cell adds to the logit by which a channel listens to another, (h, w).

    `pair` are the two channels, of one head; q and k those of `local`. Over all cells of the image,
    each times its valid share, the map adds up to the logit.
    """
    own, other = pair
    order = layer_statistics.order[0].tolist()
    slots = [order.index(channel) for channel in pair]
    heads = [next(n for n, p in enumerate(layer.parts) if p.start <= s < p.stop) for s in slots]
    if heads[0] != heads[1]:
        raise ValueError(f"channels {own} and {other} are in different heads")
    scale_q, scale_k = layer_statistics.scales[0] / layer_statistics.intra[0]
    factor = layer.temperature[heads[0], 0, 0] * scale_q[own] * scale_k[other]
    shares: Tensor = factor * q[own] * k[other]
    return shares


def entropy_of(matrix: Tensor) -> Tensor:
    """Return the mean entropy () of rows that sum to 1, (c, c): 1 for equal weights, 0 for one."""
    entropies: Tensor = -torch.special.xlogy(matrix, matrix).sum(-1)
    return entropies.mean() / math.log(max(2, len(matrix)))


def projected_parts(layer: HierarchicalAttention, out: Tensor) -> Tensor:
    """Return the part (heads, C, h, w) of each head in the projection of mixed values (C, h, w).

    Their sum is the projection.
    """
    weight = layer.project_out.weight
    each = [functional.conv2d(out[None, part], weight[:, part])[0] for part in layer.parts]
    return torch.stack(each)


def similarities(layer: HierarchicalAttention, out: Tensor, cell: tuple[int, int]) -> Tensor:
    """Return how alike mixed values (C, h, w) are to those of a cell, in each head (heads, h, w).

    Cosines, −1 to 1; 0 where either has no length.
    """
    found = []
    for part in layer.parts:
        directions = functional.normalize(out[part], dim=0)
        found.append(torch.einsum("chw,c->hw", directions, directions[(..., *cell)]))
    return torch.stack(found).clamp(-1, 1)


def lengths(layer: HierarchicalAttention, x: Tensor, order: Tensor) -> Tensor:
    """Return the length (heads,) of a cell's queries, keys or values (C,) in each head."""
    in_slots = x[order]
    return torch.stack([in_slots[part].norm() for part in layer.parts])
