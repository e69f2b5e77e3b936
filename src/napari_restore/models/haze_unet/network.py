"""The haze-unet: a plain convolutional U-Net whose output is added to its input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from napari_restore.models._card import ModelCard
from napari_restore.models._layers import Doubling, pad_to_multiple
from napari_restore.models._model import Statistics
from napari_restore.models._weights import other_network
from napari_restore.models.atmosphere.model import Atmosphere, BehindAtmosphere
from napari_restore.models.atmosphere.network import ResidualBlock, sizes_of_context

BANDS, SEEN = 3, 7
"""Planes of the input, alone and with an atmosphere: x, J and t."""
STRIDE = 8
"""Pixels per cell of the coarsest grid: 2 × 2 × 2."""


class HazeUNet(BehindAtmosphere):
    """U-Net of the change: y = x + f(x), or y = J + g · f(x, J, t) with `context`.

    f works on three grids, the finest of 2 × 2 pixels, without any statistic over the image, so
    tiles with the card's halo equal the whole. `width` channels on the finest grid, twice and four
    times that below; `blocks` convolutions per grid and side. 143 k weights at width 16, 567 k at
    32.

    With `context` above 0 an atmosphere network of that width, with so many `looks`, runs on the
    overview first: J is the pixelwise inversion of x, t its transmission, and g the gate of its
    deadband: 0, and y exactly x, where there is no haze.
    """

    def __init__(
        self, card: ModelCard, width: int = 16, blocks: int = 2, context: int = 0, looks: int = 2
    ) -> None:
        if not context:
            # The card is that of a network with context.
            card = replace(card, needs_context=False, placed=False, maps=())
        super().__init__(replace(card, halo=halo_of(blocks)))
        self.atmosphere = Atmosphere(self.card, context, looks) if context else None
        w1, w2, w3 = width, 2 * width, 4 * width
        self.stem = nn.Conv2d(SEEN if context else BANDS, w1, 6, stride=2, padding=2)
        self.encode1 = _stage(w1, blocks)
        self.down1 = nn.Conv2d(w1, w2, 2, stride=2)
        self.encode2 = _stage(w2, blocks)
        self.down2 = nn.Conv2d(w2, w3, 2, stride=2)
        self.middle = _stage(w3, blocks)
        self.up2 = nn.ConvTranspose2d(w3, w2, 2, stride=2)
        self.decode2 = _stage(w2, blocks)
        self.up1 = nn.ConvTranspose2d(w2, w1, 2, stride=2)
        self.decode1 = _stage(w1, blocks)
        self.head = Doubling(w1, 3)

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if self.atmosphere is None:
            return x + self._change(x), {}
        rough, maps = self.atmosphere.forward_with_maps(x, statistics, valid)
        return self.corrected(x, rough, maps["transmission"]), maps

    def corrected(self, x: Tensor, rough: Tensor, transmission: Tensor) -> Tensor:
        """Return y of an image (N, 3, h, w), of what the atmosphere makes of it, and of t (N, 1, h, w)."""
        assert self.atmosphere is not None
        gate = self.atmosphere.gate(transmission)
        return rough + gate * self._change(x, rough, transmission)

    def side_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> dict[str, Tensor]:
        return {} if self.atmosphere is None else self.atmosphere.side_maps(x, statistics, valid)

    def _change(self, *planes: Tensor) -> Tensor:
        """Return f of planes that are stacked; what a later step does not need is freed before it."""
        height, width = planes[0].shape[2:]
        x = planes[0] if len(planes) == 1 else torch.cat(planes, 1)
        # Convolutions in channels-last order are several times as fast on CPUs.
        x = pad_to_multiple(x, STRIDE).contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        x = fine = self.encode1(x)
        x = self.down1(x)
        x = middle = self.encode2(x)
        x = self.down2(x)
        x = self.middle(x)
        x = self.up2(x).add_(middle)
        del middle
        x = self.decode2(x)
        x = self.up1(x).add_(fine)
        del fine
        x = self.decode1(x)
        change: Tensor = self.head(x)
        return change[..., :height, :width]


def make(
    card: ModelCard, width: int = 16, blocks: int = 2, context: int = 0, looks: int = 2
) -> HazeUNet:
    """Return a network of these sizes, with random weights."""
    return HazeUNet(card, width, blocks, context, looks)


def sizes_of(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the sizes of the network of this state dict; raises `BadModel`."""
    stem = state.get("stem.weight")
    blocks = sum(1 for name in state if name.startswith("middle.") and name.endswith("conv.weight"))
    if stem is None or stem.ndim != 4 or stem.shape[1] not in (BANDS, SEEN) or blocks == 0:
        raise other_network("haze-unet")
    return {"width": stem.shape[0], "blocks": blocks, **sizes_of_context(state)}


def halo_of(blocks: int) -> int:
    """Return the pixels around an aligned block of `STRIDE` pixels that affect it, in whole blocks."""
    # Walks back through the network with the interval of cells that a block needs: head and fine
    # decoder, middle decoder, bottom, then down the encoder. Skips reach less far. A convolution
    # widens it by one cell of its grid on each side.
    low, high = 0 - 1 - blocks, 3 + 1 + blocks
    low, high = low // 2 - blocks, high // 2 + blocks
    low, high = low // 2 - blocks, high // 2 + blocks
    low, high = 2 * low - blocks, 2 * high + 1 + blocks
    low, high = 2 * low - blocks - 1, 2 * high + 1 + blocks + 1
    reach = max(-2 * low, 2 * high + 1 - (STRIDE - 1))
    return -(-reach // STRIDE) * STRIDE


def _stage(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
