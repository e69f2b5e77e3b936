"""One pass of the network over a picture: a U-Net with a global token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, relu_

from napari_restore.models._layers import Pointwise
from napari_restore.models.atmosphere._cells import pooled, total

NUMBERS = 6
"""Red, green and blue of the airlight, exponent, presence, display share."""
FEW_CELLS = 64 * 64
"""Cells of a grid up to which it is computed on one thread. Of few cells some processors divide sums
among threads in place of cells (measured with AMX: 11 × 11), so that the last bits follow the threads."""


class PassOutput(NamedTuple):
    """Output of a pass, before its ranges are applied; outputs of several passes are added."""

    maps: Tensor
    """(N, 2, h, w) offset and slope of the optical depth's logit."""
    where: Tensor
    """(N, 1, h / 2, w / 2) logit of a cell's weight in the airlight."""
    numbers: Tensor
    """(N, NUMBERS)."""


class ResidualBlock(nn.Module):
    """x + relu(conv(x)), the cheapest residual block that trains well on a processor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change = relu_(self.conv(x))
        # A sum in place saves a tensor, but a gradient needs the one it overwrites.
        return x + change if change.requires_grad else change.add_(x)


class AtmospherePass(nn.Module):
    """U-Net on `inputs` features of cells; the cells of its maps are `1 << finest` wide.

    `widths` are channels of the grids from the finest to the coarsest, each half as fine as the one
    before; `numbers_in` is the number of further values about the whole picture.
    """

    def __init__(self, inputs: int, widths: list[int], finest: int, numbers_in: int) -> None:
        super().__init__()
        self.finest = finest
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(w) for w in widths)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        deep, drawn = widths[-1], widths[finest:]
        self.token = nn.Sequential(
            nn.Linear(2 * deep + numbers_in, deep), nn.ReLU(), nn.Linear(deep, deep), nn.ReLU()
        )
        self.tell = nn.ModuleList(nn.Linear(deep, w) for w in drawn)
        self.ups = nn.ModuleList(Pointwise(b, 4 * a) for a, b in pairwise(drawn))
        self.decoders = nn.ModuleList(_blocks(w) for w in drawn[:-1])
        self.maps = nn.Conv2d(drawn[0], 2, 3, padding=1)
        self.look = Pointwise(drawn[1], 1)
        self.numbers = nn.Linear(deep, NUMBERS)

    def start(self, maps: list[float], numbers: list[float], strength: float = 0.1) -> None:
        """Initialise the biases so that the output begins at these values, whatever the input."""
        for last, values in ((self.maps, maps), (self.numbers, numbers), (self.look, [0.0])):
            with torch.no_grad():
                last.weight.mul_(strength)
            last.bias = nn.Parameter(torch.tensor(values))

    def forward(
        self, features: Tensor, share: Tensor, numbers_in: Tensor
    ) -> tuple[PassOutput, Tensor]:
        """Return the output, and the features of its maps: (N, widths[finest], h, w).

        `share` (N, 1, h, w) of each cell that is valid, `numbers_in` (N, …).
        """
        x = self.stem(features)
        features_by_level = []
        for level, encode in enumerate(self.encoders):
            with _undivided(x):
                if level:
                    x = self.downs[level - 1](x)
                x = encode(x)
            features_by_level.append(x)
        token = self._token(x, share, numbers_in)
        x = x + self.tell[-1](token)[:, :, None, None]
        finer = x
        for level in range(len(self.decoders) - 1, -1, -1):
            finer = x
            up = pixel_shuffle(self.ups[level](x), 2)
            x = (
                features_by_level[level + self.finest]
                + up
                + self.tell[level](token)[:, :, None, None]
            )
            with _undivided(x):
                x = self.decoders[level](x)
        output = PassOutput(
            self.maps(x).float(), self.look(finer).float(), self.numbers(token).float()
        )
        return output, x

    def _token(self, x: Tensor, share: Tensor, numbers_in: Tensor) -> Tensor:
        share = pooled(share, x.shape[2])
        weight = share / total(share)[:, :, None, None].clamp(min=1e-6)
        mean = total(x * weight)
        most = x.masked_fill(share == 0, -1e3).amax((2, 3))
        return torch.as_tensor(self.token(torch.cat([mean, most, numbers_in], 1)))


@contextmanager
def _undivided(x: Tensor) -> Iterator[None]:
    """Compute on one thread what follows from a small grid (N, C, h, w).

    Its values must not depend on the number of threads, and more would not be quicker.
    """
    threads = torch.get_num_threads()
    is_small = x.shape[2] * x.shape[3] <= FEW_CELLS and threads > 1
    if is_small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if is_small:
            torch.set_num_threads(threads)


def _blocks(width: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(width), ResidualBlock(width))
