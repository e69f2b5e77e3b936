"""Where HINT attends between channels, and what belongs to one cell in such a layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.models._attention import AttentionRow, AttentionSite, HeadOutputs, numbered
from napari_restore.models._model import Statistics
from napari_restore.models._steps import SweepInput
from napari_restore.models.hint._attention import HierarchicalAttention, LayerStatistics
from napari_restore.models.hint._config import HEADS, LEVEL_OF
from napari_restore.models.hint._network import HintNetwork

KNOWN = ("order", "correlation", "attention", "scales", "logits", "intra")
"""Fields of `LayerStatistics` that are statistics of the image, numbered by layer."""
BLOCK = "block"


def layer_statistics_of(statistics: Statistics, number: int) -> LayerStatistics:
    """Return what is known of a layer, but for its `heads`."""
    found = {name: statistics[f"{name}{number}"] for name in KNOWN}
    return LayerStatistics(heads=(), **found)


def sites_of(model: HintNetwork) -> tuple[AttentionSite, ...]:
    """Return the sites of a network: its blocks with attention, named by stage and number."""
    found, number = [], 0
    for index, (stage, is_first, _) in enumerate(model.blocks(), start=1):
        number = 1 if is_first else number + 1
        title = stage.replace("decoder_level", "decoder ")
        separator = "." if title[-1].isdigit() else " "
        found.append(
            AttentionSite(
                f"{stage}.{number}",
                f"{title}{separator}{number}",
                "channel",
                f"{BLOCK}{index}",
                1 << LEVEL_OF[stage],
                numbered(HEADS),
            )
        )
    return tuple(found)


def attention_of(model: HintNetwork, name: str) -> HierarchicalAttention:
    """Return the attention of the site of this name."""
    names = [site.name for site in sites_of(model)]
    return list(model.blocks())[names.index(name)].block.attn


@torch.no_grad()
def rows_of(
    model: HintNetwork,
    step: str,
    given: SweepInput,
    pixel: tuple[int, int],
    names: frozenset[str],
) -> dict[str, AttentionRow]:
    """Return the row of a pixel in the site of a sweep, if it is named.

    `given` is that of one tile, `pixel` (row, column) in its box. Weights are similarities, see
    `similarities`, to all cells of the box. The outermost ones see zeros beyond it, which is as in
    the network at the edges of the image only.

    Numbers by head, (4,) each: ``entropy`` and ``diagonal``, mean entropy of the rows (0 to 1) and
    mean of the diagonal of the softmax matrix; ``least``, ``largest`` and ``negative``, the least and
    the largest value of the matrix that is used and its share of negative ones; ``temperature``;
    ``query``, ``key`` and ``value``, their lengths at the cell; ``contribution``, the length of what
    the head adds to the layer's output at the cell. ``modulator`` () is the length of what the
    intra-layer cache adds there, 0 without it. For every head ``matrix.N`` (c, c) is the matrix that
    is used, ``softmax.N`` the same before the inter-layer cache, ``channels.N`` (c,) the channels
    that its rows and columns are of, most correlated first, ``correlation.N`` (c,) their mean
    correlation with all channels, by which they came into this head.
    """
    site = _site_of(model, step, names)
    if site is None:
        return {}
    layer, known, (q, k, v) = _local(model, step, given)
    cell = pixel[0] // site.stride, pixel[1] // site.stride
    out = layer.mix(v, known)
    alike = similarities(layer, out[0], cell).flatten(1)
    height, width = out.shape[2:]
    lines = torch.arange(height, device=out.device), torch.arange(width, device=out.device)
    cells = torch.cartesian_prod(*lines)
    row, column = cell
    own = [each[..., row : row + 1, column : column + 1] for each in (out, q, k, v)]
    numbers = _of_cell(layer, own, known) | _of_matrices(layer, known)
    every = cells.expand(len(alike), *cells.shape)
    return {site.name: AttentionRow(alike.to(torch.float32), every, cell, numbers)}


@torch.no_grad()
def outputs_of(
    model: HintNetwork, step: str, given: SweepInput, names: frozenset[str]
) -> dict[str, HeadOutputs]:
    """Return what the heads put out (h, w, c) in the site of a sweep, if it is named.

    It is their mixed values: what the intra-layer cache adds belongs to no head.
    """
    site = _site_of(model, step, names)
    if site is None:
        return {}
    layer, known, (_, _, v) = _local(model, step, given)
    out = layer.mix(v, known)[0].permute(1, 2, 0)
    weight = layer.project_out.weight[:, :, 0, 0]
    parts = layer.parts
    return {
        site.name: HeadOutputs(
            tuple(out[..., part] for part in parts), tuple(weight[:, part] for part in parts)
        )
    }


def _site_of(model: HintNetwork, step: str, names: frozenset[str]) -> AttentionSite | None:
    """Return the site of a sweep, if it is named."""
    found = (site for site in sites_of(model) if site.step == step and site.name in names)
    return next(found, None)


def _local(
    model: HintNetwork, step: str, given: SweepInput
) -> tuple[HierarchicalAttention, LayerStatistics, tuple[Tensor, Tensor, Tensor]]:
    """Return the layer of a sweep, what is known of it, and queries, keys and values of a tile."""
    number = int(step.removeprefix(BLOCK)) - 1
    block = list(model.blocks())[number].block
    known = layer_statistics_of(given.statistics, number)
    return block.attn, known, block.attn.local(block.norm1(given.maps[f"x{number}"]))


def _of_cell(
    layer: HierarchicalAttention, own: list[Tensor], known: LayerStatistics
) -> dict[str, Tensor]:
    """Return the numbers of a cell, of its mixed values, queries, keys and values (1, C, 1, 1)."""
    out, q, k, v = own
    change, order = layer.change(out, q, k, known), known.order[0]
    projected = out.new_zeros(()) if change is None else layer.project_out(change).norm()
    return {
        "query": lengths(layer, q.flatten(), order),
        "key": lengths(layer, k.flatten(), order),
        "value": lengths(layer, v.flatten(), order),
        "contribution": projected_parts(layer, out[0]).flatten(1).norm(dim=1),
        "modulator": projected,
    }


def _of_matrices(layer: HierarchicalAttention, known: LayerStatistics) -> dict[str, Tensor]:
    """Return the matrices of a layer's heads, and their numbers."""
    order = known.order[0]
    used = matrices_of(layer, known.attention[0], order)
    plain = [each.softmax(-1) for each in matrices_of(layer, known.logits[0], order)]
    numbers = {
        "entropy": torch.stack([entropy_of(each) for each in plain]),
        "diagonal": torch.stack([each.diagonal().mean() for each in plain]),
        "least": torch.stack([each.min() for each in used]),
        "largest": torch.stack([each.max() for each in used]),
        "negative": torch.stack([(each < 0).to(each.dtype).mean() for each in used]),
        "temperature": layer.temperature.flatten(),
    }
    for head, part in enumerate(layer.parts):
        name = str(head + 1)
        numbers[f"matrix.{name}"] = used[head]
        numbers[f"softmax.{name}"] = plain[head]
        numbers[f"channels.{name}"] = order[part]
        numbers[f"correlation.{name}"] = known.correlation[0, part]
    return numbers


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
