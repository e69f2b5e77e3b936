"""Restormer, a U-Net whose attention is between channels, over all pixels of the image.

Zamir, Arora, Khan, Hayat, Khan, Yang: Restormer: efficient transformer for high-resolution image
restoration, CVPR 2022, arXiv:2111.09881. The authors' code and weights are free for academic
purposes only; this file was written from the paper and the names and shapes of the weights, and is
under this package's licence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize
from torch.nn.parameter import Parameter

from napari_restore.models._weights import layers_in, other_network


class RestormerNorm(nn.Module):
    """Layer normalisation of the channels of (N, C, H, W) at each pixel.

    Without a bias the mean stays, too.
    """

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.body = nn.ParameterDict({"weight": torch.ones(width)})
        if bias:
            self.body["bias"] = torch.zeros(width)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        deviation = (((x - mean) ** 2).mean(dim=1, keepdim=True) + 1e-5).sqrt()
        weight = self.body["weight"][:, None, None]
        normal: Tensor = (x - mean if "bias" in self.body else x) / deviation * weight
        return normal + self.body["bias"][:, None, None] if "bias" in self.body else normal


def channel_scores(queries: Tensor, keys: Tensor, temperature: Tensor) -> Tensor:
    """Return the cosines of channels (N, heads, C, pixels) with each other, times `temperature`."""
    similar = normalize(queries, dim=-1) @ normalize(keys, dim=-1).transpose(-2, -1)
    return similar * temperature


class TransposedAttention(nn.Module):
    """Multi-head transposed attention: each channel is a mixture of those of its head."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.temperature = Parameter(torch.ones(heads, 1, 1))
        self.qkv = nn.Conv2d(width, 3 * width, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=bias)
        self.project_out = nn.Conv2d(width, width, 1, bias=bias)

    def weights(self, scores: Tensor) -> Tensor:
        """Return the weights of the mixtures (N, heads, C, C)."""
        return scores.softmax(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        count, width, rows, columns = x.shape
        heads = len(self.temperature)
        by_head = (count, heads, width // heads, rows * columns)
        queries, keys, values = (
            part.reshape(by_head) for part in self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        )
        mixed = self.weights(channel_scores(queries, keys, self.temperature)) @ values
        projected: Tensor = self.project_out(mixed.reshape(count, width, rows, columns))
        return projected


class GatedLayers(nn.Module):
    """A gated feed-forward part, whose gate sees its neighbours."""

    def __init__(self, width: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.project_in = nn.Conv2d(width, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, width, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gate, passed = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        y: Tensor = self.project_out(gelu(gate) * passed)
        return y


class RestormerBlock(nn.Module):
    """Attention and feed-forward part, each added to (N, width, H, W)."""

    def __init__(self, width: int, heads: int, hidden: int, bias: bool, norm_bias: bool) -> None:
        super().__init__()
        self.norm1 = RestormerNorm(width, norm_bias)
        self.attn = TransposedAttention(width, heads, bias)
        self.norm2 = RestormerNorm(width, norm_bias)
        self.ffn = GatedLayers(width, hidden, bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        fed: Tensor = self.ffn(self.norm2(x))
        return x + fed


class HalvedSides(nn.Sequential):
    """(N, C, H, W) → (N, 2 C, H / 2, W / 2)."""

    def __init__(self, width: int) -> None:
        convolution = nn.Conv2d(width, width // 2, 3, padding=1, bias=False)
        super().__init__()
        self.body = nn.Sequential(convolution, nn.PixelUnshuffle(2))


class DoubledSides(nn.Sequential):
    """(N, C, H, W) → (N, C / 2, 2 H, 2 W)."""

    def __init__(self, width: int) -> None:
        convolution = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        super().__init__()
        self.body = nn.Sequential(convolution, nn.PixelShuffle(2))


class Restormer(nn.Module):
    """Restores (N, bands, H, W) in [0, 1]; sides are multiples of 8.

    `blocks` and `heads` are those of the four levels, `hidden` the channels of the feed-forward part
    of each.
    """

    step = 8

    def __init__(
        self,
        bands: int = 3,
        width: int = 48,
        blocks: Sequence[int] = (4, 6, 6, 8),
        refinement: int = 4,
        heads: Sequence[int] = (1, 2, 4, 8),
        hidden: Sequence[int] = (127, 255, 510, 1021),
        bias: bool = False,
        norm_bias: bool = True,
    ) -> None:
        super().__init__()
        self.bands = bands
        widths = [width << level for level in range(4)]

        def level(number: int, channels: int, count: int, inner: int) -> nn.Sequential:
            made = (
                RestormerBlock(channels, heads[number], inner, bias, norm_bias)
                for _ in range(count)
            )
            return nn.Sequential(*made)

        first, second, third, fourth = widths
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(bands, first, 3, padding=1, bias=False)}
        )
        self.encoder_level1 = level(0, first, blocks[0], hidden[0])
        self.down1_2 = HalvedSides(first)
        self.encoder_level2 = level(1, second, blocks[1], hidden[1])
        self.down2_3 = HalvedSides(second)
        self.encoder_level3 = level(2, third, blocks[2], hidden[2])
        self.down3_4 = HalvedSides(third)
        self.latent = level(3, fourth, blocks[3], hidden[3])
        self.up4_3 = DoubledSides(fourth)
        self.reduce_chan_level3 = nn.Conv2d(fourth, third, 1, bias=bias)
        self.decoder_level3 = level(2, third, blocks[2], hidden[2])
        self.up3_2 = DoubledSides(third)
        self.reduce_chan_level2 = nn.Conv2d(third, second, 1, bias=bias)
        self.decoder_level2 = level(1, second, blocks[1], hidden[1])
        self.up2_1 = DoubledSides(second)
        # Level 1 keeps the channels of both it joins: it is as wide as level 2.
        self.decoder_level1 = level(0, second, blocks[0], hidden[1])
        self.refinement = level(0, second, refinement, hidden[1])
        self.output = nn.Conv2d(second, bands, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        first = self.encoder_level1(self.patch_embed["proj"](x))
        second = self.encoder_level2(self.down1_2(first))
        third = self.encoder_level3(self.down2_3(second))
        y = self.latent(self.down3_4(third))
        y = self.reduce_chan_level3(torch.cat((self.up4_3(y), third), dim=1))
        y = self.reduce_chan_level2(torch.cat((self.up3_2(self.decoder_level3(y)), second), dim=1))
        y = self.decoder_level1(torch.cat((self.up2_1(self.decoder_level2(y)), first), dim=1))
        added: Tensor = self.output(self.refinement(y))
        return added + x


LEVELS = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Restormer` for these weights; raises `BadModel`."""
    return common_sizes(state, "Restormer", LEVELS, LEVELS)


def common_sizes(
    state: Mapping[str, Any], name: str, levels: Sequence[str], attending: Sequence[str]
) -> dict[str, Any]:
    """Return the sizes of the `levels` of a network of this kind, those `attending` have heads."""
    width, inputs = state["patch_embed.proj.weight"].shape[:2]
    bands = state["output.weight"].shape[0]
    if inputs != bands or "skip_conv.weight" in state:
        raise other_network(name, f"they take {inputs} bands and give {bands}, as for two views")
    hidden = [state[f"{level}.0.ffn.project_out.weight"].shape[1] for level in levels]
    return {
        "bands": bands,
        "width": width,
        "blocks": tuple(layers_in(state, level) for level in levels),
        "refinement": layers_in(state, "refinement"),
        "heads": tuple(state[f"{level}.0.attn.temperature"].shape[0] for level in attending),
        "hidden": tuple(hidden),
        "bias": "output.bias" in state,
        "norm_bias": f"{levels[0]}.0.norm2.body.bias" in state,
    }
