"""Retinexformer, which lights up a dark image by a map, and restores it by attention to channels.

Cai, Bian, Lin, Wang, Timofte, Zhang: Retinexformer: one-stage Retinex-based transformer for
low-light image enhancement, ICCV 2023, arXiv:2303.06705. The authors' code and weights are under the
MIT licence; this file was written from the paper and the names and shapes of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.parameter import Parameter

from napari_restore.models._weights import layers_in
from napari_restore.models.published.restormer import channel_scores


class LightEstimator(nn.Module):
    """Returns features of the light (N, width, H, W), and the map (N, bands, H, W)."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        seen = bands + 1
        self.conv1 = nn.Conv2d(seen, width, 1)
        self.depth_conv = nn.Conv2d(width, width, 5, padding=2, groups=seen)
        self.conv2 = nn.Conv2d(width, bands, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with_mean = torch.cat((x, x.mean(dim=1, keepdim=True)), dim=1)
        features = self.depth_conv(self.conv1(with_mean))
        return features, self.conv2(features)


class GuidedAttention(nn.Module):
    """Attention between channels, with values weighted by the features of the light."""

    def __init__(self, width: int, heads: int, channels: int) -> None:
        super().__init__()
        inner = heads * channels
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(width, inner, bias=False)
        self.to_v = nn.Linear(width, inner, bias=False)
        self.rescale = Parameter(torch.ones(heads, 1, 1))
        self.proj = nn.Linear(inner, width)
        first, second = (
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False) for _ in range(2)
        )
        self.pos_emb = nn.Sequential(first, nn.GELU(), second)

    def forward(self, x: Tensor, light: Tensor) -> Tensor:
        count, _, rows, columns = x.shape
        heads = len(self.rescale)
        pixels = x.flatten(2).transpose(1, 2)

        def by_head(channels: Tensor) -> Tensor:
            """Return (N, C, pixels) as (N, heads, C / heads, pixels)."""
            return channels.reshape(count, heads, -1, rows * columns)

        queries, keys, values = (
            layer(pixels).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v)
        )
        scores = channel_scores(by_head(keys), by_head(queries), self.rescale)
        lit = by_head(values) * by_head(light.flatten(2))
        mixed = (scores.softmax(dim=-1) @ lit).flatten(1, 2).transpose(1, 2)
        projected = linear(mixed, self.proj.weight, self.proj.bias).transpose(1, 2)
        places: Tensor = self.pos_emb(values.reshape(count, -1, rows, columns))
        return projected.reshape(x.shape) + places


class NormedFeedForward(nn.Module):
    """Normalises the channels of each pixel, and adds what four times as many make of them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        layers = (
            nn.Conv2d(width, hidden, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False),
            nn.GELU(),
            nn.Conv2d(hidden, width, 1, bias=False),
        )
        self.fn = nn.ModuleDict({"net": nn.Sequential(*layers)})

    def forward(self, x: Tensor) -> Tensor:
        normal = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y: Tensor = self.fn["net"](normal)
        return y


class GuidedBlocks(nn.Module):
    """`count` blocks of attention and feed-forward layers."""

    def __init__(self, width: int, heads: int, channels: int, count: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                [GuidedAttention(width, heads, channels), NormedFeedForward(width, 4 * width)]
            )
            for _ in range(count)
        )

    def forward(self, x: Tensor, light: Tensor) -> Tensor:
        for block in self.blocks:
            attention, feed_forward = block.children()
            x = attention(x, light) + x
            x = feed_forward(x) + x
        return x


class GuidedDenoiser(nn.Module):
    """Restores the lit image by a U-Net; `blocks` are those of its levels, the last at the bottom."""

    def __init__(self, bands: int, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(bands, width, 3, padding=1, bias=False)
        self.mapping = nn.Conv2d(width, bands, 3, padding=1, bias=False)
        self.encoder_layers, self.decoder_layers = nn.ModuleList(), nn.ModuleList()
        *levels, bottom = blocks
        for level, count in enumerate(levels):
            channels, heads = width << level, 1 << level
            halving = (
                nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False)
                for _ in range(2)
            )
            attending = GuidedBlocks(channels, heads, width, count)
            self.encoder_layers.append(nn.ModuleList([attending, *halving]))
        deepest = len(levels)
        self.bottleneck = GuidedBlocks(width << deepest, 1 << deepest, width, bottom)
        for level, count in reversed(list(enumerate(levels))):
            channels = width << level
            doubling = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
            joining = nn.Conv2d(2 * channels, channels, 1, bias=False)
            attending = GuidedBlocks(channels, 1 << level, width, count)
            self.decoder_layers.append(nn.ModuleList([doubling, joining, attending]))

    def forward(self, x: Tensor, light: Tensor) -> Tensor:
        y, skips = self.embedding(x), []
        for layer in self.encoder_layers:
            attending, halving, halving_light = layer.children()
            y = attending(y, light)
            skips.append((y, light))
            y, light = halving(y), halving_light(light)
        y = self.bottleneck(y, light)
        for layer in self.decoder_layers:
            doubling, joining, attending = layer.children()
            skip, light = skips.pop()
            y = attending(joining(torch.cat((doubling(y), skip), dim=1)), light)
        restored: Tensor = self.mapping(y)
        return restored + x


class RetinexStage(nn.Module):
    """Lights up (N, bands, H, W) by an estimated map, and restores the result."""

    def __init__(self, bands: int, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.estimator = LightEstimator(bands, width)
        self.denoiser = GuidedDenoiser(bands, width, blocks)

    def forward(self, x: Tensor) -> Tensor:
        features, light = self.estimator(x)
        restored: Tensor = self.denoiser(x * light + x, features)
        return restored


class Retinexformer(nn.Sequential):
    """Lights up (N, bands, H, W) in [0, 1]; sides are multiples of 4."""

    step = 4

    def __init__(
        self,
        bands: int = 3,
        width: int = 40,
        stages: int = 1,
        blocks: Sequence[int] = (1, 2, 2),
    ) -> None:
        super().__init__()
        self.bands = bands
        self.body = nn.Sequential(*(RetinexStage(bands, width, blocks) for _ in range(stages)))
        self.step = 2 ** (len(blocks) - 1)


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Retinexformer` for these weights."""
    one = "body.0.denoiser"
    width, bands = state[f"{one}.embedding.weight"].shape[:2]
    levels = range(layers_in(state, f"{one}.encoder_layers"))
    parts = [*(f"{one}.encoder_layers.{level}.0.blocks" for level in levels)]
    parts.append(f"{one}.bottleneck.blocks")
    return {
        "bands": bands,
        "width": width,
        "stages": layers_in(state, "body"),
        "blocks": tuple(layers_in(state, part) for part in parts),
    }
