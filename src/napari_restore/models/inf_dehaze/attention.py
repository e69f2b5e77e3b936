"""Where Inf-Dehaze computes attention, and rows of its windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from napari_restore.models._attention import (
    AttentionKind,
    AttentionRow,
    AttentionSite,
    HeadOutputs,
    LayerTokens,
    numbered,
    positions_of,
)
from napari_restore.models.inf_dehaze.blocks import SwinBlock
from napari_restore.models.inf_dehaze.bottleneck import Bottleneck, BottleneckLayer
from napari_restore.models.inf_dehaze.config import InfDehazeConfig
from napari_restore.models.inf_dehaze.ibssa import IBSSA, HeadwiseAttention
from napari_restore.models.inf_dehaze.rows import column_of, output_of, row_of
from napari_restore.models.inf_dehaze.sfca import HEADS, SpatialFrequencyAttention
from napari_restore.models.inf_dehaze.stages import DecoderStage, EncoderStage

ENCODE, BOTTLENECK, DECODE = "encode", "bottleneck", "decode"
BAND_NAMES = ("low", "middle", "high")
EXPERTS = "experts"


def window_sites(
    config: InfDehazeConfig, encoder: list[EncoderStage], decoder: list[DecoderStage]
) -> dict[nn.Module, AttentionSite]:
    """Return the sites of the encoder and the decoder by the module that computes them."""
    found: dict[nn.Module, AttentionSite] = {}
    for number, stage in enumerate(encoder):
        stride = config.patch << number
        found |= _of_blocks(stage.blocks, "encoder", number + 1, stride, ENCODE)
        if isinstance(stage.sfca, SpatialFrequencyAttention):
            found[stage.sfca] = AttentionSite(
                f"encoder.{number + 1}.bands",
                f"encoder {number + 1}, frequency bands",
                "band",
                ENCODE,
                stride,
                tuple(f"{band} {head}" for band in BAND_NAMES for head in range(1, HEADS + 1)),
                stage.sfca.window,
            )
    for number, decoding in enumerate(decoder):
        stride = config.stride >> number
        found |= _of_blocks(decoding.blocks, "decoder", number + 1, stride, DECODE)
    return found


def _of_blocks(
    blocks: nn.ModuleList, part: str, stage: int, stride: int, step: str
) -> Iterator[tuple[nn.Module, AttentionSite]]:
    for number, block in enumerate(blocks, start=1):
        if isinstance(block, SwinBlock):
            attention = block.attention
            shifted = ", shifted" if attention.shift else ""
            yield (
                block,
                AttentionSite(
                    f"{part}.{stage}.{number}",
                    f"{part} {stage}.{number}{shifted}",
                    "window",
                    step,
                    stride,
                    numbered(attention.heads),
                    attention.window,
                    attention.shift,
                ),
            )


def layer_sites(config: InfDehazeConfig, bottleneck: Bottleneck) -> list[AttentionSite]:
    """Return the sites of the bottleneck: the attention and the experts of every layer."""
    found = []
    for index, layer in enumerate(bottleneck.layers_in_order()):
        name, title = f"{BOTTLENECK}.{index + 1}", f"bottleneck {index + 1}"
        kind: AttentionKind = "sparse" if isinstance(layer.attention, IBSSA) else "full"
        heads = numbered(layer.attention.heads)
        found.append(
            AttentionSite(name, title, kind, BOTTLENECK, config.stride, heads, layer=index)
        )
        experts = tuple(
            f"{number} ({side} × {side})" for number, side in enumerate(config.experts, start=1)
        )
        found.append(
            AttentionSite(
                f"{name}.{EXPERTS}",
                f"{title}, experts",
                "routing",
                BOTTLENECK,
                config.stride,
                experts,
                layer=index,
            )
        )
    return found


def window_rows(
    sites: Mapping[nn.Module, AttentionSite],
    inputs: Mapping[nn.Module, Tensor],
    pixel: tuple[int, int],
    names: frozenset[str],
) -> dict[str, AttentionRow]:
    """Return the rows of one pixel of a tile in those sites that are named.

    `inputs` (H, W, C) are those of the blocks, `pixel` is (row, column) in the tile.
    """
    found = {}
    for module, x, site in _named(sites, inputs, names):
        cell = pixel[0] // site.stride, pixel[1] // site.stride
        numbers: dict[str, Tensor] = {}
        if isinstance(module, SpatialFrequencyAttention):
            weights, cells, numbers["band_weights"] = module.row(x, cell)
        else:
            weights, cells = module.row(x, cell)
        found[site.name] = AttentionRow.of_heads(weights, cells, cell, numbers)
    return found


@torch.no_grad()
def window_outputs(
    sites: Mapping[nn.Module, AttentionSite],
    inputs: Mapping[nn.Module, Tensor],
    names: frozenset[str],
) -> dict[str, HeadOutputs]:
    """Return what the heads of a tile put out in those sites that are named; as `window_rows`."""
    named = _named(sites, inputs, names)
    return {site.name: module.head_outputs(x) for module, x, site in named}


def _named(
    sites: Mapping[nn.Module, AttentionSite],
    inputs: Mapping[nn.Module, Tensor],
    names: frozenset[str],
) -> Iterator[tuple[SwinBlock | SpatialFrequencyAttention, Tensor, AttentionSite]]:
    """Yield the modules whose sites are named, with their inputs."""
    for module, x in inputs.items():
        site = sites.get(module)
        if site is not None and site.name in names:
            assert isinstance(module, (SwinBlock, SpatialFrequencyAttention))
            yield module, x, site


def layer_rows(
    layer: BottleneckLayer,
    name: str,
    kept: LayerTokens,
    cell: tuple[int, int],
    names: frozenset[str],
) -> dict[str, AttentionRow]:
    """Return the rows of a cell in one layer of the bottleneck, of those sites that are named.

    `name` is that of its attention.
    """
    width = kept.shape[1]
    query = cell[0] * width + cell[1]
    row = row_of(layer.attention, kept, query, layer.norm1)
    found = {}
    if name in names:
        found[name] = AttentionRow(row[0], positions_of(row[1], width), cell)
    experts = f"{name}.{EXPERTS}"
    if experts in names:
        own = kept.tokens(torch.tensor([query]))[0]
        own = own + output_of(layer.attention, kept, row, layer.norm1)
        centre = kept.kept("centre") if layer.centred_gate else None
        probabilities, shares = layer.experts.shares(own, centre)
        here = torch.tensor(cell).expand(len(shares), 1, 2)
        numbers = {"probabilities": probabilities}
        found[experts] = AttentionRow(shares[:, None], here, cell, numbers)
    return found


def layer_column(layer: BottleneckLayer, kept: LayerTokens, cell: tuple[int, int]) -> AttentionRow:
    """Return the weights that cells give to one cell in a layer of the bottleneck."""
    width = kept.shape[1]
    weights, numbers = column_of(layer.attention, kept, cell[0] * width + cell[1], layer.norm1)
    return AttentionRow(weights, positions_of(numbers, width), cell)


@torch.no_grad()
def silence(module: nn.Module, head: int) -> None:
    """Set the values of one head to zero, so that it adds nothing, whatever it attends to."""
    if isinstance(module, SwinBlock):
        attention = module.attention
        width = attention.projection.in_features
        side = width // attention.heads
        rows = slice(2 * width + head * side, 2 * width + (head + 1) * side)
        attention.qkv.weight[rows] = 0
        attention.qkv.bias[rows] = 0
    elif isinstance(module, SpatialFrequencyAttention):
        values = module.value_weights(head // HEADS)
        side = len(values) // HEADS
        values[head % HEADS * side : (head % HEADS + 1) * side] = 0
    else:
        assert isinstance(module, HeadwiseAttention)
        module.head_weights(head)[2].zero_()
