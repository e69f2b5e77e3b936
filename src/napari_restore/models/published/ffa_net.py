"""FFA-Net, residual blocks with attention to channels and pixels, against haze.

Qin, Wang, Bai, Xie, Jia: FFA-Net: feature fusion attention network for single image dehazing, AAAI
2020, arXiv:1911.07559. The authors' code names no licence; this file was written from the paper and
the names and shapes of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from napari_restore.models._weights import layers_in, other_network

_GROUPS = 3


def _weighting(inputs: int, between: int, outputs: int) -> list[nn.Module]:
    """Return the layers that make weights in [0, 1] of each pixel."""
    first, last = nn.Conv2d(inputs, between, 1), nn.Conv2d(between, outputs, 1)
    return [first, nn.ReLU(), last, nn.Sigmoid()]


class PixelWeighting(nn.Module):
    """Weights each pixel of (N, C, H, W)."""

    def __init__(self, width: int, between: int) -> None:
        super().__init__()
        self.pa = nn.Sequential(*_weighting(width, between, 1))

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.pa(x)
        return x * weights


class MeanAttention(nn.Module):
    """Weights each channel of (N, C, H, W) by its mean over the whole image."""

    def __init__(self, width: int, between: int) -> None:
        super().__init__()
        self.ca = nn.Sequential(*_weighting(width, between, width))

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.ca(x.mean(dim=(2, 3), keepdim=True))
        return x * weights


class FFABlock(nn.Module):
    """Two convolutions and both kinds of attention, added to (N, width, H, W)."""

    def __init__(self, width: int, between: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.calayer = MeanAttention(width, between)
        self.palayer = PixelWeighting(width, between)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(relu(self.conv1(x)) + x)
        attended: Tensor = self.palayer(self.calayer(y))
        return attended + x


class FFAGroup(nn.Module):
    """`blocks` blocks and a convolution, added to (N, width, H, W)."""

    def __init__(self, width: int, between: int, blocks: int) -> None:
        super().__init__()
        made = [FFABlock(width, between) for _ in range(blocks)]
        self.gp = nn.Sequential(*made, nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gp(x)
        return y + x


class FFANet(nn.Module):
    """Restores (N, bands, H, W), normalised by mean and standard deviation; returns [0, 1]."""

    step = 1

    def __init__(
        self,
        bands: int = 3,
        width: int = 64,
        blocks: int = 19,
        between: int = 8,
        fused: int = 4,
    ) -> None:
        super().__init__()
        self.bands, self.width = bands, width
        self.pre = nn.Sequential(nn.Conv2d(bands, width, 3, padding=1))
        for number in range(_GROUPS):
            self.add_module(f"g{number + 1}", FFAGroup(width, between, blocks))
        weighting = _weighting(_GROUPS * width, fused, _GROUPS * width)
        # The first is the mean over the image; in the weights its place is counted.
        self.ca = nn.Sequential(nn.AdaptiveAvgPool2d(1), *weighting)
        self.palayer = PixelWeighting(width, between)
        last = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, bands, 3, padding=1)
        self.post = nn.Sequential(*last)

    def forward(self, x: Tensor) -> Tensor:
        y, seen = self.pre(x), []
        for number in range(_GROUPS):
            y = self.get_submodule(f"g{number + 1}")(y)
            seen.append(y)
        weights = self.ca(torch.cat(seen, dim=1)).split(self.width, dim=1)
        mixed = weights[0] * seen[0] + weights[1] * seen[1] + weights[2] * seen[2]
        restored: Tensor = self.post(self.palayer(mixed))
        return restored + x


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `FFANet` for these weights; raises `BadModel`."""
    width, bands = state["pre.0.weight"].shape[:2]
    if f"g{_GROUPS + 1}.gp.0.conv1.weight" in state:
        raise other_network("FFA-Net", f"it has {_GROUPS} groups of blocks")
    return {
        "bands": bands,
        "width": width,
        "blocks": layers_in(state, "g1.gp") - 1,
        "between": state["palayer.pa.0.weight"].shape[0],
        "fused": state["ca.1.weight"].shape[0],
    }
