"""U-Net as milesial's Pytorch-UNet names it, for images instead of classes.

Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation, MICCAI
2015, arXiv:1505.04597. Pytorch-UNet is under GPL-3.0; this file was written from the paper and the
names and shapes of the weights, and is under this package's licence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from napari_restore.models._weights import other_network

_LEVELS = 4


class TwoConvolutions(nn.Sequential):
    """Two convolutions of 3 × 3, each normalised and with ReLU."""

    def __init__(self, inputs: int, between: int, outputs: int, bias: bool) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for entering, leaving in ((inputs, between), (between, outputs)):
            parts.append(nn.Conv2d(entering, leaving, 3, padding=1, bias=bias))
            parts += [nn.BatchNorm2d(leaving), nn.ReLU()]
        self.double_conv = nn.Sequential(*parts)


class UNetDown(nn.Sequential):
    """Halves (N, C, H, W) by its largest values."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        convolutions = TwoConvolutions(inputs, outputs, outputs, bias)
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), convolutions)


class UNetUp(nn.Module):
    """Doubles `x` and joins it with `skip`, on whose grid it is centred."""

    def __init__(self, inputs: int, outputs: int, bilinear: bool, bias: bool) -> None:
        super().__init__()
        half = inputs // 2
        self.up = (
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            if bilinear
            else nn.ConvTranspose2d(inputs, half, 2, stride=2)
        )
        self.conv = TwoConvolutions(inputs, half if bilinear else outputs, outputs, bias)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        down, right = (skip.shape[axis] - x.shape[axis] for axis in (2, 3))
        x = pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        y: Tensor = self.conv(torch.cat((skip, x), dim=1))
        return y


class UNet(nn.Module):
    """(N, bands, H, W) in [0, 1] → the same; `outputs` are the bands of the last convolution."""

    step = 1

    def __init__(
        self,
        bands: int = 3,
        outputs: int = 3,
        width: int = 64,
        bilinear: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.bands = bands
        widths = [width << level for level in range(_LEVELS + 1)]
        share = 2 if bilinear else 1
        self.inc = TwoConvolutions(bands, width, width, bias)
        for level in range(_LEVELS):
            wider = widths[level + 1] // (share if level + 1 == _LEVELS else 1)
            self.add_module(f"down{level + 1}", UNetDown(widths[level], wider, bias))
            below = widths[_LEVELS - level]
            narrow = below // 2 // (share if level + 1 < _LEVELS else 1)
            self.add_module(f"up{level + 1}", UNetUp(below, narrow, bilinear, bias))
        self.outc = nn.ModuleDict({"conv": nn.Conv2d(width, outputs, 1)})

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.inc(x)]
        for level in range(_LEVELS):
            maps.append(self.get_submodule(f"down{level + 1}")(maps[-1]))
        y = maps.pop()
        for level in range(_LEVELS):
            y = self.get_submodule(f"up{level + 1}")(y, maps[-1 - level])
        restored: Tensor = self.outc["conv"](y)
        return restored


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `UNet` for these weights; raises `BadModel`."""
    first, last = state["inc.double_conv.0.weight"], state["outc.conv.weight"]
    if first.shape[1] != last.shape[0]:
        raise other_network(
            "a U-Net that restores", f"they take {first.shape[1]} bands and give {last.shape[0]}"
        )
    return {
        "bands": first.shape[1],
        "outputs": last.shape[0],
        "width": first.shape[0],
        "bilinear": "up1.up.weight" not in state,
        "bias": "inc.double_conv.0.bias" in state,
    }
