"""Parts of HINT that see a pixel and its neighbours: norm, feed-forward network, rescaling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel of maps (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.body(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class GatedFeedForward(nn.Module):
    """1 × 1 to 2h channels, depthwise 3 × 3, one half gated by the GELU of the other, 1 × 1.

    Source: the gated-dconv feed-forward network of Restormer (Zamir et al., CVPR 2022).
    """

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        hidden = int(channels * expansion)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = depthwise(2 * hidden)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, values = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        out: Tensor = self.project_out(functional.gelu(gate) * values)
        return out


class FeedForwardBlock(nn.Module):
    """x + FFN(LN(x)): a block of the encoder, which has no attention."""

    def __init__(self, channels: int, expansion: float) -> None:
        super().__init__()
        self.norm2 = ChannelNorm(channels)
        self.ffn = GatedFeedForward(channels, expansion)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.ffn(self.norm2(x))
        return out


class PatchEmbed(nn.Module):
    """Images (N, 3, H, W) → maps (N, C, H, W)."""

    def __init__(self, bands: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(bands, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out


class Halve(nn.Module):
    """(N, C, H, W) → (N, 2C, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
        self.body = nn.Sequential(conv, nn.PixelUnshuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


class Double(nn.Module):
    """(N, C, H, W) → (N, C/2, 2H, 2W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.body = nn.Sequential(conv, nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


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
