"""HINT as a model that the engine sweeps, and what belongs to one cell in a layer of attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.models._attention import AttentionRow, AttentionSite, HeadOutputs, numbered
from napari_restore.models._steps import Sweep, SweepInput
from napari_restore.models._sweeps import SweptModel
from napari_restore.models.hint.attention import HierarchicalAttention, LayerStatistics
from napari_restore.models.hint.config import HEADS, LEVEL_OF
from napari_restore.models.hint.network import HintNetwork
from napari_restore.models.hint.sweeps import layer_statistics_of, restored_at_once, sweeps_of

BLOCK = "block"


class Hint(HintNetwork, SweptModel):
    """HINT as a model that the engine sweeps: `statistics` of the image itself, exact."""

    gives_head_outputs = True

    def steps(self) -> tuple[Sweep, ...]:
        return sweeps_of(self)

    def whole(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        return restored_at_once(self, x, valid)

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        """Return the blocks with attention, named by stage and number."""
        found, number, place = [], 0, self.place
        for index, (stage, is_first, _) in enumerate(self.blocks(), start=1):
            number = 1 if is_first else number + 1
            title = stage.replace("decoder_level", "decoder ")
            separator = "." if title[-1].isdigit() else " "
            title = f"{title}{separator}{number}"
            found.append(
                AttentionSite(
                    place.of(f"{stage}.{number}"),
                    f"{place.part}, {title}" if place.part else title,
                    "channel",
                    place.of(f"{BLOCK}{index}"),
                    1 << LEVEL_OF[stage],
                    numbered(HEADS),
                )
            )
        return tuple(found)

    def without_head(self, site: str, head: int) -> Hint:
        model = self._copy_without(site, head)
        names = [each.name for each in self.attention_sites()]
        list(model.blocks())[names.index(site)].block.attn.left_out |= {head}
        return model

    @torch.no_grad()
    def attention_rows(
        self, step: str, given: SweepInput, pixel: tuple[int, int], names: frozenset[str]
    ) -> dict[str, AttentionRow]:
        """Return the row of a pixel in the site of a sweep, if it is named.

        Weights are similarities, see `similarities`, to all cells of the box. The outermost ones see
        zeros beyond it, which is as in the network at the edges of the image only.

        Numbers by head, (4,) each: ``entropy`` and ``diagonal``, mean entropy of the rows (0 to 1)
        and mean of the diagonal of the softmax matrix; ``least``, ``largest`` and ``negative``, the
        least and the largest value of the matrix that is used and its share of negative ones;
        ``temperature``; ``query``, ``key`` and ``value``, their lengths at the cell;
        ``contribution``, the length of what the head adds to the layer's output at the cell.
        ``modulator`` () is the length of what the intra-layer cache adds there, 0 without it. For
        every head ``matrix.N`` (c, c) is the matrix that is used, ``softmax.N`` the same before the
        inter-layer cache, ``channels.N`` (c,) the channels that its rows and columns are of, most
        correlated first, ``correlation.N`` (c,) their mean correlation with all channels, by which
        they came into this head.
        """
        site = self._site_of(step, names)
        if site is None:
            return {}
        layer, known, (q, k, v) = self._local(step, given)
        row, column = pixel[0] // site.stride, pixel[1] // site.stride
        out = layer.mix(v, known)
        alike = similarities(layer, out[0], (row, column)).flatten(1)
        lines = (torch.arange(side, device=out.device) for side in out.shape[2:])
        own = [each[..., row : row + 1, column : column + 1] for each in (out, q, k, v)]
        numbers = _of_cell(layer, own, known) | _of_matrices(layer, known)
        cells = torch.cartesian_prod(*lines)
        return {site.name: AttentionRow.of_heads(alike, cells, (row, column), numbers)}

    @torch.no_grad()
    def attention_outputs(
        self, step: str, given: SweepInput, names: frozenset[str]
    ) -> dict[str, HeadOutputs]:
        """Return what the heads put out (h, w, c) in the site of a sweep, if it is named."""
        # It is their mixed values: what the intra-layer cache adds belongs to no head.
        site = self._site_of(step, names)
        if site is None:
            return {}
        layer, known, (_, _, v) = self._local(step, given)
        out = layer.mix(v, known)[0].permute(1, 2, 0)
        weight = layer.project_out.weight[:, :, 0, 0]
        values = tuple(out[..., part] for part in layer.parts)
        return {site.name: HeadOutputs(values, tuple(weight[:, part] for part in layer.parts))}

    def _site_of(self, step: str, names: frozenset[str]) -> AttentionSite | None:
        """Return the site of a sweep, if it is named."""
        sites = self.attention_sites()
        return next((each for each in sites if each.step == step and each.name in names), None)

    def _local(
        self, step: str, given: SweepInput
    ) -> tuple[HierarchicalAttention, LayerStatistics, tuple[Tensor, Tensor, Tensor]]:
        """Return the layer of a sweep, what is known of it, and queries, keys and values of a tile."""
        number = int(step.removeprefix(self.place.of(BLOCK))) - 1
        block = list(self.blocks())[number].block
        known = layer_statistics_of(given.statistics, number, self.place)
        x = given.maps[self.place.of(f"x{number}")]
        return block.attn, known, block.local(x)


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
    """Return the part (heads, C, h, w) of each head in the projection of mixed values (C, h, w), their sum."""
    weight = layer.project_out.weight
    each = [functional.conv2d(out[None, part], weight[:, part])[0] for part in layer.parts]
    return torch.stack(each)


def similarities(layer: HierarchicalAttention, out: Tensor, cell: tuple[int, int]) -> Tensor:
    """Return the cosines of mixed values (C, h, w) with those of a cell, by head (heads, h, w); 0 without length."""
    found = []
    for part in layer.parts:
        directions = functional.normalize(out[part], dim=0)
        found.append(torch.einsum("chw,c->hw", directions, directions[(..., *cell)]))
    return torch.stack(found).clamp(-1, 1)


def lengths(layer: HierarchicalAttention, x: Tensor, order: Tensor) -> Tensor:
    """Return the length (heads,) of a cell's queries, keys or values (C,) in each head."""
    in_slots = x[order]
    return torch.stack([in_slots[part].norm() for part in layer.parts])
