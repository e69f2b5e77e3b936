"""NAFNet, a U-Net without activations that weights channels by their means.

Chen, Chu, Zhang, Sun: Simple baselines for image restoration, ECCV 2022, arXiv:2204.04676. The
authors' code and weights are under the MIT licence; this file was written from the paper and the
names and shapes of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.parameter import Parameter

from napari_restore.models._weights import layers_in


class PixelNorm(nn.Module):
    """Layer normalisation of the channels of (N, C, H, W) at each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = Parameter(torch.ones(width))
        self.bias = Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        normal = centred / (variance + 1e-6).sqrt()
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


def gated(x: Tensor) -> Tensor:
    """Return the product of both halves of the channels."""
    first, second = x.chunk(2, dim=1)
    return first * second


class NAFBlock(nn.Module):
    """One block of (N, width, H, W); `expanded` and `fed` are its channels before the gates."""

    def __init__(self, width: int, expanded: int, fed: int) -> None:
        super().__init__()
        half = expanded // 2
        self.norm1, self.norm2 = PixelNorm(width), PixelNorm(width)
        self.conv1 = nn.Conv2d(width, expanded, 1)
        self.conv2 = nn.Conv2d(expanded, expanded, 3, padding=1, groups=expanded)
        self.conv3 = nn.Conv2d(half, width, 1)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(half, half, 1))
        self.conv4 = nn.Conv2d(width, fed, 1)
        self.conv5 = nn.Conv2d(fed // 2, width, 1)
        self.beta = Parameter(torch.zeros(1, width, 1, 1))
        self.gamma = Parameter(torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = gated(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.conv3(y * self.sca(y)) * self.beta
        fed: Tensor = self.conv5(gated(self.conv4(self.norm2(x))))
        return x + fed * self.gamma


class NAFNet(nn.Module):
    """Restores (N, bands, H, W) in [0, 1]; pads with zeros at right and bottom itself."""

    step = 1

    def __init__(
        self,
        bands: int = 3,
        width: int = 32,
        encoders: Sequence[int] = (2, 2, 4, 8),
        middle: int = 12,
        decoders: Sequence[int] = (2, 2, 2, 2),
        expansions: tuple[int, int] = (2, 2),
    ) -> None:
        super().__init__()
        self.bands = bands
        expand, feed = expansions

        def blocks(channels: int, count: int) -> nn.Sequential:
            return nn.Sequential(
                *(NAFBlock(channels, expand * channels, feed * channels) for _ in range(count))
            )

        self.intro = nn.Conv2d(bands, width, 3, padding=1)
        self.ending = nn.Conv2d(width, bands, 3, padding=1)
        self.encoders, self.downs = nn.ModuleList(), nn.ModuleList()
        self.decoders, self.ups = nn.ModuleList(), nn.ModuleList()
        for count in encoders:
            self.encoders.append(blocks(width, count))
            self.downs.append(nn.Conv2d(width, 2 * width, 2, stride=2))
            width *= 2
        self.middle_blks = blocks(width, middle)
        for count in decoders:
            wider = nn.Conv2d(width, 2 * width, 1, bias=False)
            self.ups.append(nn.Sequential(wider, nn.PixelShuffle(2)))
            width //= 2
            self.decoders.append(blocks(width, count))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        multiple = 2 ** len(self.encoders)
        x = pad(x, (0, -width % multiple, 0, -height % multiple))
        y, skips = self.intro(x), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            y = encoder(y)
            skips.append(y)
            y = down(y)
        y = self.middle_blks(y)
        for decoder, up in zip(self.decoders, self.ups, strict=True):
            y = decoder(up(y) + skips.pop())
        restored: Tensor = self.ending(y)
        return (restored + x)[..., :height, :width]


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `NAFNet` for these weights."""
    width, bands = state["intro.weight"].shape[:2]
    levels = range(layers_in(state, "encoders"))
    one = next(name for name in state if name.endswith("conv1.weight")).removesuffix("conv1.weight")
    channels = state[f"{one}conv1.weight"].shape[1]
    return {
        "bands": bands,
        "width": width,
        "encoders": tuple(layers_in(state, f"encoders.{level}") for level in levels),
        "middle": layers_in(state, "middle_blks"),
        "decoders": tuple(layers_in(state, f"decoders.{level}") for level in levels),
        "expansions": tuple(
            state[f"{one}conv{number}.weight"].shape[0] // channels for number in (1, 4)
        ),
    }
