"""AOD-Net, five small convolutions that estimate haze and airlight as one map.

Li, Peng, Wang, Xu, Feng: AOD-Net: all-in-one dehazing network, ICCV 2017, arXiv:1707.06543. The
names are those of PyTorch-Image-Dehazing; this file was written from the paper and the names and
shapes of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

_LAYERS = ((1, 1), (1, 3), (2, 5), (2, 7), (4, 3))
"""Maps that a layer sees, and the side of its kernel."""


class AODNet(nn.Module):
    """Restores (N, bands, H, W) in [0, 1] as K · x − K + 1, K being what the layers see in x."""

    step = 1

    def __init__(self, bands: int = 3) -> None:
        super().__init__()
        self.bands = bands
        layers = (nn.Conv2d(seen * bands, bands, side, padding=side // 2) for seen, side in _LAYERS)
        self.e_conv1, self.e_conv2, self.e_conv3, self.e_conv4, self.e_conv5 = layers

    def forward(self, x: Tensor) -> Tensor:
        first = relu(self.e_conv1(x))
        second = relu(self.e_conv2(first))
        third = relu(self.e_conv3(torch.cat((first, second), dim=1)))
        fourth = relu(self.e_conv4(torch.cat((second, third), dim=1)))
        k = relu(self.e_conv5(torch.cat((first, second, third, fourth), dim=1)))
        return relu(k * x - k + 1)


def sizes_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `AODNet` for these weights."""
    return {"bands": state["e_conv1.weight"].shape[1]}
