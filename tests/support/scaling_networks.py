"""Networks whose results have another size than their input, as files of users have them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, pixel_shuffle


class Enlarging(nn.Module):
    """Two convolutions and a pixel shuffle over the enlarged image, as EDSR; its halo is 3."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 3 * times**2, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        detail = pixel_shuffle(self.second(torch.relu(self.first(x))), self.times)
        return interpolate(x, scale_factor=self.times, mode="nearest") + 0.3 * detail


class Shrinking(nn.Module):
    """A convolution, and one with a stride."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 3, parts + 1, stride=parts, padding=parts // 2)

    def forward(self, x: Tensor) -> Tensor:
        detail = self.second(torch.relu(self.first(x)))
        return avg_pool2d(x, self.parts) + 0.3 * detail


def enlarging(times: int = 2) -> Enlarging:
    torch.manual_seed(times)
    return Enlarging(times).eval()


def shrinking(parts: int = 2) -> Shrinking:
    torch.manual_seed(parts)
    return Shrinking(parts).eval()
