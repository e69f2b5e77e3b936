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
    """Attention, none with 0 `heads`, and feed-forward part, each added to (N, width, H, W)."""

    attention: type[TransposedAttention] = TransposedAttention
    feed_forward: type[nn.Module] = GatedLayers

    def __init__(self, width: int, heads: int, hidden: int, bias: bool, norm_bias: bool) -> None:
        super().__init__()
        self.attends = heads > 0
        if self.attends:
            self.norm1 = RestormerNorm(width, norm_bias)
            self.attn = self.attention(width, heads, bias)
        self.norm2 = RestormerNorm(width, norm_bias)
        self.ffn = self.feed_forward(width, hidden, bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.attends:
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

    `blocks` and `heads` are those of the levels, `hidden` the channels of the feed-forward part of each.
    """

    step = 8
    block = RestormerBlock
    encoder_attends = True
    bottom: tuple[str, ...] = ("latent",)
    """The stacks of blocks on the lowest level."""

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
        self.bands, self.lowest = bands, len(blocks)
        widths = [width << level for level in range(self.lowest)]

        def add(name: str, number: int, count: int, wide: int) -> None:
            """Add blocks with the heads of a level, and the channels of the level `wide`."""
            attends = self.encoder_attends or not name.startswith("encoder")
            sizes = widths[wide - 1], heads[number - 1] * attends, hidden[wide - 1]
            made = (self.block(*sizes, bias, norm_bias) for _ in range(count))
            self.add_module(name, nn.Sequential(*made))

        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(bands, width, 3, padding=1, bias=False)}
        )
        for number in range(1, self.lowest):
            add(f"encoder_level{number}", number, blocks[number - 1], number)
            self.add_module(f"down{number}_{number + 1}", HalvedSides(widths[number - 1]))
        for name in self.bottom:
            add(name, self.lowest, blocks[-1], self.lowest)
        for number in range(self.lowest - 1, 0, -1):
            self.add_module(f"up{number + 1}_{number}", DoubledSides(widths[number]))
            if number > 1:
                joined = nn.Conv2d(widths[number], widths[number - 1], 1, bias=bias)
                self.add_module(f"reduce_chan_level{number}", joined)
            # Level 1 keeps the channels of both it joins: it is as wide as level 2.
            add(f"decoder_level{number}", number, blocks[number - 1], max(2, number))
        add("refinement", 1, refinement, 2)
        self.output = nn.Conv2d(widths[1], bands, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        y, skips = self.patch_embed["proj"](x), []
        for number in range(1, self.lowest):
            y = self.get_submodule(f"encoder_level{number}")(y)
            skips.append(y)
            y = self.get_submodule(f"down{number}_{number + 1}")(y)
        for name in self.bottom:
            y = self.get_submodule(name)(y)
        for number in range(self.lowest - 1, 0, -1):
            y = torch.cat((self.get_submodule(f"up{number + 1}_{number}")(y), skips.pop()), dim=1)
            if number > 1:
                y = self.get_submodule(f"reduce_chan_level{number}")(y)
            y = self.get_submodule(f"decoder_level{number}")(y)
        added: Tensor = self.output(self.get_submodule("refinement")(y))
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
