"""Blocks of the encoder and decoder stages: Swin and ConvNeXt.

All of them take and return maps (N, H, W, C), so that linear layers, normalisation and windows need
no transposes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_restore.models._attention import HeadOutputs, relative_index
from napari_restore.models._layers import from_windows, shift_mask, to_windows
from napari_restore.models.inf_dehaze.config import InfDehazeConfig


def add(x: Tensor, change: Tensor) -> Tensor:
    """Return the sum, in the memory of `change` where no gradient needs it."""
    # A sum in place saves a tensor, but a gradient needs the one it overwrites, and under autocast
    # a change in half precision must not round x.
    if change.requires_grad or change.dtype != x.dtype:
        return x + change
    return change.add_(x)


class Mlp(nn.Module):
    """C → ratio · C → GELU → C, cell by cell."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, ratio * width)
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class WindowAttention(nn.Module):
    """Multi-head attention within windows, with a learned bias for relative positions.

    With `shift` the windows are moved down and right by so many cells; those that then contain
    opposite edges of the map are divided, and no part attends to another. Source: Swin Transformer
    (Liu et al., ICCV 2021).
    """

    index: Tensor
    mask: Tensor | None

    def __init__(self, width: int, heads: int, window: int, side: int, shift: int) -> None:
        super().__init__()
        self.heads, self.window, self.side, self.shift = heads, window, side, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.bias_table, std=0.02)
        self.register_buffer("index", relative_index(window), persistent=False)
        mask = shift_mask((side, side), window, shift) if shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, side, side, C), normalised → the same shape."""
        return self._moved_back(self.projection(self._joined(x)))

    def head_outputs(self, x: Tensor) -> HeadOutputs:
        """Return what the heads put out for the normalised map (side, side, C)."""
        joined = self._moved_back(self._joined(x[None]))[0]
        return HeadOutputs.split(joined, self.projection.weight, self.heads)

    def _joined(self, x: Tensor) -> Tensor:
        """Return what the heads put out, (windows, tokens, C), head after head."""
        count, _, _, channels = x.shape
        moved = x.roll((-self.shift, -self.shift), (1, 2)) if self.shift else x
        windows = to_windows(moved, self.window)
        q, k, v = self._split(self.qkv(windows), 3)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(count))
        return attended.transpose(1, 2).reshape(*windows.shape[:2], channels)

    def _moved_back(self, windows: Tensor) -> Tensor:
        """Return the map (N, side, side, C) of windows (windows, tokens, C)."""
        out = from_windows(windows, self.window, self.side, self.side)
        return out.roll((self.shift, self.shift), (1, 2)) if self.shift else out

    def row(self, x: Tensor, query: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the attention of cell `query` (row, column) of the normalised map (side, side, C).

        It is the softmax weights (heads, window²) and the cells (window², 2) they belong to, as
        rows and columns of the map, from its window's tokens alone. Cells of a divided window that
        the query does not attend to are (−1, −1), their weights 0.
        """
        rows, columns = (self._window_line(at, x.device) for at in query)
        cells = torch.cartesian_prod(rows, columns)
        tokens = x[cells[:, 0], cells[:, 1]]
        at = int((cells == torch.tensor(query, device=x.device)).all(1).nonzero())
        q, k, _ = self._split(self.qkv(tokens)[None], 3)
        scores = (q[0, :, at, None] @ k[0].transpose(1, 2))[:, 0] * q.shape[-1] ** -0.5
        scores = scores + self.bias_table[self.index[at]].T
        if self.mask is not None:
            first, second = ((line - self.shift) % self.side // self.window for line in query)
            apart = self.mask[first * (self.side // self.window) + second, at]
            scores = scores.masked_fill(apart, -torch.inf)
            cells = cells.masked_fill(apart[:, None], -1)
        return scores.softmax(-1), cells

    def _window_line(self, at: int, device: torch.device) -> Tensor:
        """Return the rows (or columns) of the map in the window that contains `at`."""
        start = (at - self.shift) % self.side // self.window * self.window
        line = torch.arange(start, start + self.window, device=device)
        return (line + self.shift) % self.side

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """Return (windows, tokens, parts · C) → `parts` of (windows, heads, tokens, C/heads)."""
        windows, tokens, _ = x.shape
        return x.reshape(windows, tokens, parts, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()

    def _bias(self, count: int) -> Tensor:
        """Return the bias added to the scores of `count` maps, (1 or windows, heads, tokens, tokens)."""
        bias = self.bias_table[self.index].permute(2, 0, 1)[None]
        if self.mask is None:
            return bias
        # Minus infinity rather than Swin's -100: exactly no weight, and no subnormal numbers.
        bias = bias.masked_fill(self.mask[:, None], -torch.inf)
        return bias.expand(count, *bias.shape).flatten(0, 1)


class SwinBlock(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)). Source: Liu et al., ICCV 2021."""

    def __init__(
        self, width: int, heads: int, side: int, shifted: bool, config: InfDehazeConfig
    ) -> None:
        super().__init__()
        window = min(config.window, side)
        # A single window has no neighbours to attend to.
        shift = window // 2 if shifted and side > window else 0
        self.norm1 = nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, window, side, shift)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, config.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        x = add(x, self.attention(self.norm1(x)))
        return add(x, self.mlp(self.norm2(x)))

    def row(self, x: Tensor, query: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return `WindowAttention.row` for the block's own input (side, side, C)."""
        return self.attention.row(self.norm1(x), query)

    def head_outputs(self, x: Tensor) -> HeadOutputs:
        """Return `WindowAttention.head_outputs` for the block's own input (side, side, C)."""
        return self.attention.head_outputs(self.norm1(x))


class LayerScale(nn.Module):
    """A learned factor per channel, small at first."""

    def __init__(self, width: int, start: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight if x.requires_grad else x.mul_(self.weight)


class ConvNeXtBlock(nn.Module):
    """x + scale · MLP(norm(depthwise 7 × 7)). Source: Liu et al., CVPR 2022."""

    def __init__(self, width: int, config: InfDehazeConfig) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, config.mlp_ratio)
        self.scale = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        # A permuted (N, H, W, C) is what torch calls channels last: nothing is copied.
        local = self.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return add(x, self.scale(self.mlp(self.norm(local))))


def blocks_of(
    depth: int, width: int, heads: int, side: int, config: InfDehazeConfig
) -> nn.ModuleList:
    """Return the blocks of one stage for maps of `side` cells, every second Swin block shifted."""
    if config.block == "convnext":
        return nn.ModuleList(ConvNeXtBlock(width, config) for _ in range(depth))
    return nn.ModuleList(
        SwinBlock(width, heads, side, index % 2 == 1, config) for index in range(depth)
    )
