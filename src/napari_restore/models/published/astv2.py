"""ASTv2, a U-Net with adaptive sparse attention between channels in its decoder.

Zhou, Pan, Yang: Learning an adaptive sparse transformer for efficient image restoration, IEEE
Transactions on Pattern Analysis and Machine Intelligence 47, 2025, after AST (Zhou, Chen, Pan, Shi,
Yang, CVPR 2024), whose windows it gives up. Their code and weights are under the MIT licence; this file was written from the paper and the
names and shapes of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from napari_restore.models.published.restormer import (
    DoubledSides,
    HalvedSides,
    RestormerNorm,
    TransposedAttention,
    common_sizes,
)

_GROUPS = 12
"""Groups of channels in the feed-forward part, of which one half sees its neighbours."""


class SparseAttention(TransposedAttention):
    """Attention between channels, whose weights are scaled and shifted by the squared positive scores."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__(width, heads, bias)
        channels = width // heads
        self.att_ca = nn.Conv2d(channels, 2 * channels, 1, bias=bias)

    def weights(self, scores: Tensor) -> Tensor:
        sparse = relu(scores) ** 2
        sparse = gelu(sparse) * sparse
        # (N, heads, C, C) → (N, C, heads, C): the convolution mixes the last axis.
        adapted = self.att_ca(sparse.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        scale, shift = adapted.chunk(2, dim=-1)
        weights: Tensor = scores.softmax(dim=-1) * (1 + scale) + shift
        return weights


class RefiningFeedForward(nn.Module):
    """A gated feed-forward part; of each group of channels one half sees its neighbours first."""

    def __init__(self, width: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.seen = width // (2 * _GROUPS)
        self.partial_conv3 = nn.Conv2d(
            self.seen, self.seen, 3, padding=1, groups=self.seen, bias=False
        )
        self.project_in = nn.Conv2d(width, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, width, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        count, width, rows, columns = x.shape
        groups = x.reshape(count * _GROUPS, width // _GROUPS, rows, columns)
        refined = self.partial_conv3(groups[:, : self.seen])
        joined = torch.cat((refined, groups[:, self.seen :]), dim=1)
        gate, passed = self.project_in(joined.reshape(x.shape)).chunk(2, dim=1)
        y: Tensor = self.project_out(self.dwconv(gate) * passed)
        return y


class ASTBlock(nn.Module):
    """A block of `heads` of attention; none with 0."""

    def __init__(self, width: int, heads: int, hidden: int, bias: bool, norm_bias: bool) -> None:
        super().__init__()
        self.attends = heads > 0
        if self.attends:
            self.norm1 = RestormerNorm(width, norm_bias)
            self.attn = SparseAttention(width, heads, bias)
        self.norm2 = RestormerNorm(width, norm_bias)
        self.ffn = RefiningFeedForward(width, hidden, bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.attends:
            x = x + self.attn(self.norm1(x))
        fed: Tensor = self.ffn(self.norm2(x))
        return x + fed


class ASTv2(nn.Module):
    """Restores (N, bands, H, W) in [0, 1]; sides are multiples of 4.

    `blocks` and `heads` are those of the three levels, `hidden` the channels of the feed-forward
    part of each.
    """

    step = 4

    def __init__(
        self,
        bands: int = 3,
        width: int = 48,
        blocks: Sequence[int] = (6, 8, 8),
        refinement: int = 4,
        heads: Sequence[int] = (2, 4, 8),
        hidden: Sequence[int] = (192, 384, 768),
        bias: bool = False,
        norm_bias: bool = True,
    ) -> None:
        super().__init__()
        self.bands = bands

        def level(channels: int, count: int, attending: int, inner: int) -> nn.Sequential:
            made = (ASTBlock(channels, attending, inner, bias, norm_bias) for _ in range(count))
            return nn.Sequential(*made)

        first, second, third = (width << number for number in range(3))
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(bands, first, 3, padding=1, bias=False)}
        )
        self.encoder_level1 = level(first, blocks[0], 0, hidden[0])
        self.down1_2 = HalvedSides(first)
        self.encoder_level2 = level(second, blocks[1], 0, hidden[1])
        self.down2_3 = HalvedSides(second)
        self.encoder_level3 = level(third, blocks[2], 0, hidden[2])
        self.decoder_level3 = level(third, blocks[2], heads[2], hidden[2])
        self.up3_2 = DoubledSides(third)
        self.reduce_chan_level2 = nn.Conv2d(third, second, 1, bias=bias)
        self.decoder_level2 = level(second, blocks[1], heads[1], hidden[1])
        self.up2_1 = DoubledSides(second)
        # Level 1 keeps the channels of both it joins: it is as wide as level 2.
        self.decoder_level1 = level(second, blocks[0], heads[0], hidden[1])
        self.refinement = level(second, refinement, heads[0], hidden[1])
        self.output = nn.Conv2d(second, bands, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        first = self.encoder_level1(self.patch_embed["proj"](x))
        second = self.encoder_level2(self.down1_2(first))
        y = self.decoder_level3(self.encoder_level3(self.down2_3(second)))
        y = self.decoder_level2(self.reduce_chan_level2(torch.cat((self.up3_2(y), second), dim=1)))
        y = self.decoder_level1(torch.cat((self.up2_1(y), first), dim=1))
        added: Tensor = self.output(self.refinement(y))
        return added + x


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `ASTv2` for these weights; raises `BadModel`."""
    encoders, decoders = (
        tuple(f"{part}_level{number}" for number in (1, 2, 3)) for part in ("encoder", "decoder")
    )
    return common_sizes(state, "ASTv2", encoders, decoders)
