"""Estimator of the atmosphere from a small picture of the whole image.

Source: anDehazeFormer (arXiv 2505.14010), as third parties summarise it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, relu

from napari_restore.models.andehazeformer._config import BANDS, AnDehazeConfig

BRIGHTEST = 0.001
"""Share of the picture, haziest first, whose mean colour is the airlight."""
THINNEST = 0.1
"""Lower limit of the transmission."""
OUTSIDE = -1e3
"""Learned dark channel of invalid pixels, below all others."""


class Estimate(NamedTuple):
    """Estimate for N pictures (N, 3, h, w)."""

    dark: Tensor
    """(N, 1, h, w) learned dark channel D̂ in (0, 1)."""
    airlight: Tensor
    """(N, 3) A."""
    strength: Tensor
    """(N,) c_a in (0, 1): the transmission is 1 − c_a · D̂."""
    texture: Tensor
    """(N, C) r, which strengthens texture under thick haze."""
    tint: Tensor
    """(N, C) b, which offsets the colour of the airlight."""


class Estimator(nn.Module):
    """D̂, A, c_a, r and b of a picture.

    D̂ = sigmoid(conv3(ReLU(conv5(x)))); A is the mean colour where D̂ is in its brightest
    thousandth; f = mean of conv3(LeakyReLU(conv5([x, D̂]))); [r, b, c_a] = MLP([f, A]). Where
    another network has found D̂, A and c_a, only r and b are its own (`is_guided`).
    """

    def __init__(self, config: AnDehazeConfig, is_guided: bool = False) -> None:
        super().__init__()
        width = config.estimator_width
        self.dark: nn.Sequential | None = None
        if not is_guided:
            self.dark = nn.Sequential(
                nn.Conv2d(BANDS, width, 5, padding=2),
                nn.ReLU(),
                nn.Conv2d(width, 1, 3, padding=1),
            )
        self.wide = nn.Conv2d(BANDS + 1, width, 5, padding=2)
        self.deep = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.hidden = nn.Linear(2 * width + BANDS, 2 * config.width)
        self.out = nn.Linear(2 * config.width, 2 * config.width + (0 if is_guided else 1))
        self.width = config.width

    def forward(self, picture: Tensor, valid: Tensor) -> Estimate:
        """Return the estimate; `valid` (N, 1, h, w) float, 0 or 1."""
        assert self.dark is not None
        picture = picture * valid
        dark = torch.sigmoid(self.dark(picture).to(picture.dtype))
        airlight = brightest(picture, dark, valid)
        texture, tint, rest = self.guide(picture, valid, dark, airlight)
        return Estimate(dark, airlight, torch.sigmoid(rest[:, 0]), texture, tint)

    def guide(
        self, picture: Tensor, valid: Tensor, dark: Tensor, airlight: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return r and b (N, C), and what else the MLP gives, (N, 0 or 1)."""
        seen = torch.cat([picture * valid, dark * valid], 1)
        features = self.deep(leaky_relu(self.wide(seen))).to(picture.dtype)
        pooled = (features * valid).sum((2, 3)) / valid.sum((2, 3)).clamp(min=1)
        out = self.out(relu(self.hidden(torch.cat([pooled, airlight], 1)))).to(picture.dtype)
        return tuple(out.split([self.width, self.width, out.shape[1] - 2 * self.width], 1))


def brightest(picture: Tensor, dark: Tensor, valid: Tensor) -> Tensor:
    """Return (N, 3) mean colours of the valid pixels where `dark` is in its brightest thousandth.

    At least one pixel; of equals the first, row by row. Zeros where none is valid.
    """
    found = []
    for colours, level, known in zip(picture, dark, valid > 0, strict=True):
        count = int(known.sum())
        ranked = torch.where(known, level, OUTSIDE).flatten().argsort(descending=True, stable=True)
        chosen = ranked[: math.ceil(BRIGHTEST * count)]
        mean = colours.flatten(1)[:, chosen].mean(1) if count else colours.new_zeros(len(colours))
        found.append(mean)
    return torch.stack(found)


def transmission_of(dark: Tensor, strength: Tensor) -> Tensor:
    """Return t = 1 − c_a · D̂ (N, 1, h, w), at least `THINNEST`."""
    return (1 - strength[:, None, None, None] * dark).clamp(THINNEST, 1)


def inverted(x: Tensor, transmission: Tensor, airlight: Tensor) -> Tensor:
    """Return J of x = J · t + A · (1 − t), (N, 3, h, w); `airlight` (N, 3, 1 or h, 1 or w)."""
    return airlight + (x - airlight) / transmission
