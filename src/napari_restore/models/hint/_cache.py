"""Both caches of HINT: of an attention layer's queries and keys, and of the layers before it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_restore.models.hint._blocks import pointwise

Rounding = Literal["trunc", "floor", "none"]
DECAY = 0.9
"""Share of the cache that stays when a layer adds its attention."""


class IntraModulator(nn.Module):
    """Change of an attention layer's output O (N, C, H, W) by its queries and keys T.

    Of z = O + T gated by itself, through C/2 channels, pixel by pixel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv1d(channels, channels // 2, 1)
        self.up = nn.Conv1d(channels // 2, channels, 1)
        self.gatingConv = nn.Conv1d(channels, channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        gated = functional.gelu(pointwise(self.gatingConv, z)) * z
        return pointwise(self.up, pointwise(self.down, gated))


class InterModulator(nn.Module):
    """Change of a head's attention A (N, c, c) by the cache of earlier layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_width = nn.Conv1d(channels, 2 * channels, 1)
        self.gatingConv = nn.Conv1d(channels, channels, 1)

    def forward(self, attention: Tensor, cache: Tensor) -> Tensor:
        """Return the modulated attention; `cache` (N, C, C) is that of the layer's channels."""
        pooled = functional.adaptive_avg_pool2d(cache, attention.shape[-1])
        scale, shift = self.conv_width(pooled + attention).chunk(2, dim=1)
        change = attention * scale + shift
        out: Tensor = attention + change * functional.gelu(self.gatingConv(change))
        return out


def resized(cache: Tensor, channels: int) -> Tensor:
    """Return a cache (N, C', C') for a layer of so many channels: block means, or repeated."""
    if cache.shape[-1] == channels:
        return cache
    return functional.adaptive_avg_pool2d(cache, channels)


def updated(
    cache: Tensor | None, heads: tuple[Tensor, ...], channels: int, rounding: Rounding
) -> Tensor:
    """Return the cache (N, C, C) after a layer with this attention (N, c, c) by head.

    `rounding` is that of the division of attention times c by C: towards zero as by the published
    code under the torch that it pins, down as by later versions of torch, or none.
    """
    total = heads[0].new_zeros(())
    for head in heads:
        own = head.shape[-1]
        spread = functional.interpolate(
            head[:, None], (channels, channels), mode="bilinear", align_corners=False
        )[:, 0]
        share = spread * own
        if rounding == "none":
            total = total + share / channels
        else:
            total = total + torch.div(share, channels, rounding_mode=rounding)
    kept = 0.0 if cache is None else DECAY * cache
    # Without a cache the first layer's attention counts nine tenths, as published.
    return kept + (DECAY if cache is None else 1 - DECAY) * total
