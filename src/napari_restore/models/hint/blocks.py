"""Parts of HINT that see a pixel and its neighbours: norm, feed-forward network, rescaling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_restore.models.hint.config import EXPANSION
from napari_restore.models.published.restormer import GatedLayers


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel of maps (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.body(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class FeedForwardBlock(nn.Module):
    """x + FFN(LN(x)): a block of the encoder, which has no attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm2 = ChannelNorm(channels)
        self.ffn = feed_forward(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


def feed_forward(channels: int) -> GatedLayers:
    """Return the feed-forward network of a block, that of Restormer (Zamir et al., CVPR 2022)."""
    return GatedLayers(channels, int(channels * EXPANSION), bias=False)


def depthwise(channels: int) -> nn.Conv2d:
    """Return a 3 × 3 convolution of each channel by itself."""
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


def pointwise(layer: nn.Conv1d, x: Tensor) -> Tensor:
    """Apply a Conv1d of kernel 1 to the pixels of maps (N, C, H, W)."""
    return functional.conv2d(x, layer.weight[..., None], layer.bias)


def cells_valid(valid: Tensor, level: int) -> Tensor:
    """Return the share (N, 1, H/2^level, W/2^level) float32 of each cell's pixels that are valid."""
    share = valid.to(torch.float32)
    return functional.avg_pool2d(share, 2**level) if level else share
