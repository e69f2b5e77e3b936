"""Encoder and decoder stages, and the layers between sizes of maps.

Maps are (N, H, W, C) throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from napari_restore.models.inf_dehaze.blocks import blocks_of
from napari_restore.models.inf_dehaze.config import InfDehazeConfig
from napari_restore.models.inf_dehaze.sfca import SpatialFrequencyAttention

Visit: TypeAlias = Callable[[nn.Module, Tensor], None]
"""Called with every block of a stage and its input map (N, H, W, C), before it is run."""
SFCA_SIDE = 16
"""Cells along a side that a map must have for frequency bands to be meaningful."""


class PatchEmbed(nn.Module):
    """Tiles (N, 3, T, T) → maps (N, T/patch, T/patch, C): a convolution without overlap."""

    def __init__(self, patch: int, width: int, bands: int = 3) -> None:
        super().__init__()
        self.patch = patch
        self.weight = nn.Parameter(torch.empty(width, bands, patch, patch))
        self.bias = nn.Parameter(torch.empty(width))
        self.fan_in = bands * patch * patch
        start(self.weight, self.bias, self.fan_in)

    def forward(self, x: Tensor) -> Tensor:
        count, bands, height, width = x.shape
        patch = self.patch
        cells = x.reshape(count, bands, height // patch, patch, width // patch, patch)
        cells = cells.permute(0, 2, 4, 1, 3, 5).flatten(3)
        return nn.functional.linear(cells, self.weight.flatten(1), self.bias)


class PatchExpand(nn.Module):
    """Maps (N, H, W, C) → (N, factor · H, factor · W, C'): a transposed convolution."""

    def __init__(self, width: int, out: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.weight = nn.Parameter(torch.empty(width, out, factor, factor))
        self.bias = nn.Parameter(torch.empty(out))
        self.fan_in = width
        start(self.weight, self.bias, self.fan_in)

    def forward(self, x: Tensor) -> Tensor:
        count, height, width, _ = x.shape
        factor = self.factor
        # Every cell makes its own factor × factor cells, so it is a linear layer.
        matrix = self.weight.permute(2, 3, 1, 0).flatten(0, 2)
        cells = nn.functional.linear(x, matrix, self.bias.repeat(factor * factor))
        cells = cells.reshape(count, height, width, factor, factor, -1).transpose(2, 3)
        return cells.reshape(count, factor * height, factor * width, -1)


class PatchMerging(nn.Module):
    """2 × 2 neighbours → one cell of `out` channels, half as many along a side."""

    # They are joined in the order (0, 0), (1, 0), (0, 1), (1, 1) as (row, column), as in Swin, so
    # that its weights fit.
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        count, height, width, channels = x.shape
        cells = x.reshape(count, height // 2, 2, width // 2, 2, channels)
        joined = cells.permute(0, 1, 3, 4, 2, 5).reshape(
            count, height // 2, width // 2, 4 * channels
        )
        out: Tensor = self.reduction(self.norm(joined))
        return out


class CellStatistics(nn.Module):
    """Darkest, mean and brightest value of a token's pixels, by band, for the encoder's tokens."""

    # Stages of linear layers hardly learn a minimum, and the darkest pixels nearby show haze best
    # (He et al. 2011).
    def __init__(self, stride: int, width: int, bands: int = 3) -> None:
        super().__init__()
        self.stride = stride
        self.into = nn.Linear(3 * bands, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, T / stride, T / stride, width) for tiles (N, bands, T, T)."""
        count, bands, height, width = x.shape
        side = self.stride
        cells = x.reshape(count, bands, height // side, side, width // side, side)
        pooled = [f(cells, dim=(3, 5)) for f in (torch.amin, torch.mean, torch.amax)]
        known = torch.cat(pooled, dim=1).permute(0, 2, 3, 1)
        out: Tensor = self.out(nn.functional.gelu(self.into(known)))
        return out


class EncoderStage(nn.Module):
    """Blocks, then spatial-frequency attention; `merge` follows and is called separately.

    The output of `forward`, before the merge, is the stage's residual.
    """

    def __init__(self, config: InfDehazeConfig, index: int) -> None:
        super().__init__()
        width = config.widths[index]
        side = side_of(config, index)
        last = index == len(config.widths) - 1
        self.blocks = blocks_of(config.depths[index], width, config.heads[index], side, config)
        self.sfca: nn.Module = nn.Identity()
        if config.sfca and side >= SFCA_SIDE:
            self.sfca = SpatialFrequencyAttention(width, config.window)
        self.merge: nn.Module = nn.Identity()
        if not last:
            self.merge = PatchMerging(width, config.widths[index + 1])

    def forward(self, x: Tensor, visit: Visit | None = None) -> Tensor:
        for block in (*self.blocks, self.sfca):
            if visit is not None:
                visit(block, x)
            x = block(x)
        return x


class DecoderStage(nn.Module):
    """Decoder stage: adds the residual of encoder stage `index`, mirrors its blocks, expands."""

    def __init__(self, config: InfDehazeConfig, index: int) -> None:
        super().__init__()
        width = config.widths[index]
        side = side_of(config, index)
        self.project = nn.Linear(2 * width, width, bias=False)
        self.blocks = blocks_of(config.depths[index], width, config.heads[index], side, config)
        self.expand: nn.Module = nn.Identity()
        if index > 0:
            self.expand = PatchExpand(width, config.widths[index - 1])

    def join(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return the input of the blocks."""
        out: Tensor = self.project(torch.cat([x, residual], dim=-1))
        return out

    def forward(self, x: Tensor, residual: Tensor, visit: Visit | None = None) -> Tensor:
        x = self.join(x, residual)
        for block in self.blocks:
            if visit is not None:
                visit(block, x)
            x = block(x)
        out: Tensor = self.expand(x)
        return out


def side_of(config: InfDehazeConfig, index: int) -> int:
    """Return the cells along a side of a tile's map in stage `index`."""
    return config.tile // (config.patch << index)


def start(weight: Tensor, bias: Tensor | None, fan_in: int, gain: float = 1.0) -> None:
    """Initialise normal weights that keep a signal's size (LeCun et al. 1998), no bias.

    `fan_in` is the number of values in each sum; `gain` 2 compensates for an activation (He et al.
    2015).
    """
    nn.init.normal_(weight, std=(gain / fan_in) ** 0.5)
    if bias is not None:
        nn.init.zeros_(bias)


def initialise(network: nn.Module) -> None:
    """Initialise every linear layer and convolution of `network` by `start`.

    Other parameters (bias tables, scales) are initialised by their module; attention to frequencies
    changes nothing at first.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            start(module.weight, module.bias, module.in_features)
        elif isinstance(module, nn.Conv2d):
            start(module.weight, module.bias, module.weight[0].numel(), gain=2.0)
    for module in network.modules():
        if isinstance(module, SpatialFrequencyAttention):
            nn.init.zeros_(module.restore.weight)
