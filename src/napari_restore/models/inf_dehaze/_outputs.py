"""What the heads of Inf-Dehaze put out: of windows in a tile, of the bottleneck at some tokens."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from napari_restore.models._attention import AttentionSite, LayerTokens
from napari_restore.models._head_outputs import HeadOutputs
from napari_restore.models.inf_dehaze._blocks import SwinBlock
from napari_restore.models.inf_dehaze._ibssa import (
    IBSSA,
    HeadwiseAttention,
    Norm,
    exact,
    project,
)
from napari_restore.models.inf_dehaze._rows import all_tokens
from napari_restore.models.inf_dehaze._sfca import SpatialFrequencyAttention


@torch.no_grad()
def window_outputs(
    sites: Mapping[nn.Module, AttentionSite],
    inputs: Mapping[nn.Module, Tensor],
    names: frozenset[str],
) -> dict[str, HeadOutputs]:
    """Return what the heads of a tile put out in those sites that are named.

    `inputs` (H, W, C) are those of the blocks.
    """
    found = {}
    for module, x in inputs.items():
        site = sites.get(module)
        if site is None or site.name not in names:
            continue
        assert isinstance(module, (SwinBlock, SpatialFrequencyAttention))
        found[site.name] = module.head_outputs(x)
    return found


@torch.no_grad()
def outputs_of(
    attention: HeadwiseAttention, layer: LayerTokens, cells: Tensor, norm: Norm
) -> HeadOutputs:
    """Return what the heads put out for the tokens `cells` (n,) of a layer of the bottleneck."""
    height, width, _ = layer.shape
    is_exact = attention.is_exact(height * width)
    own = layer.tokens(cells)
    found = []
    for head in range(attention.heads):
        (q,) = project(own, attention.head_weights(head)[:1], norm)
        if is_exact:
            found.append(_of_all_tokens(attention, layer, head, q, norm))
        else:
            assert isinstance(attention, IBSSA)
            found.append(_of_blocks(attention, layer, head, q, cells, norm))
    channels = attention.heads * attention.value_width
    like = found[0]
    joined = torch.eye(channels, dtype=like.dtype, device=like.device)
    projection = attention.project(joined).T
    return HeadOutputs(tuple(found), projection.chunk(attention.heads, dim=1))


def _of_all_tokens(
    attention: HeadwiseAttention, layer: LayerTokens, head: int, q: Tensor, norm: Norm
) -> Tensor:
    """Return one head's output (n, width) for queries (n, width) that attend to every token."""
    weights = attention.head_weights(head)[1:]
    parts = [project(x, weights) for _, x in all_tokens(layer, norm)]
    k, v = (torch.cat(part) for part in zip(*parts, strict=True))
    return torch.cat([values for _, values in exact(q, k, v)])


def _of_blocks(
    attention: IBSSA, layer: LayerTokens, head: int, q: Tensor, cells: Tensor, norm: Norm
) -> Tensor:
    """Return one head's output (n, width) for queries of tokens `cells`, block by block."""
    keys, places = layer.kept(("keys", head)), layer.kept(("places", head))
    drawn = (keys[:0].long(), keys[:0].long())
    if attention.samples:
        tokens, homes = layer.kept(("drawn", head))
        drawn = tokens, homes
    blocks = places[cells].long() // attention.block_size
    out = q.new_empty(len(q), attention.value_width)
    for block in sorted(set(blocks.tolist())):
        numbers, bias = attention.attended(keys, drawn, block, 1)
        k, v = project(layer.tokens(numbers[0].long()), attention.head_weights(head)[1:], norm)
        here = blocks == block
        scores = (q[here] @ k.T).float() * attention.key_width**-0.5 + bias[0]
        out[here] = scores.softmax(1).to(v.dtype) @ v
    return out
