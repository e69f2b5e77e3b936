"""ASTv2, a U-Net with adaptive sparse attention between channels in its decoder.

Zhou, Pan, Yang: Learning an adaptive sparse transformer for efficient image restoration, IEEE
Transactions on Pattern Analysis and Machine Intelligence 47, 2025, after AST (Zhou, Chen, Pan, Shi,
Yang, CVPR 2024), whose windows it gives up. Their code and weights are under the MIT licence; this file was written from the paper and the
names and shapes of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu

from napari_restore.models.published.restormer import (
    Restormer,
    RestormerBlock,
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


class ASTBlock(RestormerBlock):
    """Sparse attention, none with 0 heads, and the refining feed-forward part."""

    attention = SparseAttention
    feed_forward = RefiningFeedForward


class ASTv2(Restormer):
    """Restores (N, bands, H, W) in [0, 1]; sides are multiples of 4. The encoder has no attention.

    `sizes` are those of `Restormer`, of three levels.
    """

    step = 4
    block = ASTBlock
    encoder_attends = False
    bottom = ("encoder_level3", "decoder_level3")

    def __init__(self, **sizes: Any) -> None:
        own: dict[str, Any] = {"blocks": (6, 8, 8), "heads": (2, 4, 8), "hidden": (192, 384, 768)}
        super().__init__(**{**own, **sizes})


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `ASTv2` for these weights; raises `BadModel`."""
    encoders, decoders = (
        tuple(f"{part}_level{number}" for number in (1, 2, 3)) for part in ("encoder", "decoder")
    )
    return common_sizes(state, "ASTv2", encoders, decoders)
