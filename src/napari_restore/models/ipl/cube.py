"""The relation of channels, rows and columns: three layers on a cube with sides of equal length.

Features (N, C, h, w) are sampled at C × C places, spread evenly over the image. Each layer mixes one
axis of the cube (N, C, C, C). Its cost does not depend on the image. Source: IPL (AAAI 2025),
dimension rolling transformation; sides of C follow from the published number of operations.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

Turns = Literal["roll", "mixnet"]
Last = Literal["gelu", "sigmoid"]
AXES: dict[Turns, tuple[int, int, int]] = {"roll": (1, 2, 3), "mixnet": (1, 1, 2)}
"""Axis of the cube (N, channels, rows, columns) that each of the three layers mixes: one after the
other, or as the code of an earlier network of the authors has it.

The sources turn the cube after every layer, so that its first axis is the one to mix, and after the
last one the order of the axes is restored."""

FEW = 128
"""Cells along an axis up to which a matrix is faster than picking neighbours."""


class CubeLayers(nn.Module):
    """Three linear layers along the axes of a cube."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.first, self.second, self.third = (
            nn.Conv2d(side, side, 1, bias=False) for _ in range(3)
        )

    def forward(self, cube: Tensor, turns: Turns = "roll", last: Last = "gelu") -> Tensor:
        """Return the related cube (N, C, C, C) of a cube (N, C, rows, columns)."""
        layers = (self.first, self.second, self.third)
        for number, (layer, axis) in enumerate(zip(layers, AXES[turns], strict=True), 1):
            cube = _mixed(cube, layer.weight[..., 0, 0], axis)
            cube = cube.sigmoid() if number == 3 and last == "sigmoid" else functional.gelu(cube)
        return cube


def _mixed(cube: Tensor, weight: Tensor, axis: int) -> Tensor:
    """Return a cube (N, C, C, C) mixed along an axis by a matrix (C, C)."""
    if axis == 3:
        return cube @ weight.T
    # As batches of matrices: `@` would copy the cube.
    batches = cube.flatten(2) if axis == 1 else cube.flatten(0, 1)
    return torch.bmm(weight.expand(len(batches), -1, -1), batches).view(cube.shape)


class Taps(NamedTuple):
    """The two cells along an axis that each of some samples lies between."""

    low: Tensor
    """(samples,) int64: the cell before it."""
    high: Tensor
    """(samples,) int64: the cell after it, which may be the same."""
    shares: Tensor
    """(2, samples) float64: the weights of `low` and `high`."""

    def matrix(self, cells: int) -> Tensor:
        """Return the weights (samples, cells) float64 as a matrix."""
        matrix = self.shares.new_zeros(len(self.low), cells)
        for cell, share in zip((self.low, self.high), self.shares, strict=True):
            matrix.scatter_add_(1, cell[:, None], share[:, None])
        return matrix

    def at(self, first: int, count: int) -> Taps:
        """Return the samples `first` to `first + count`; beyond the ends the nearest one."""
        index = torch.arange(first, first + count, device=self.low.device)
        index = index.clamp(0, len(self.low) - 1)
        return Taps(self.low[index], self.high[index], self.shares[:, index])

    def shifted(self) -> tuple[Taps, slice]:
        """Return the taps in the cells that they need, and these cells."""
        first, end = int(self.low.min()), int(self.high.max()) + 1
        return Taps(self.low - first, self.high - first, self.shares), slice(first, end)

    def within(self, first: int, count: int) -> tuple[Taps, Tensor]:
        """Return what cells `first` to `first + count`, counted from `first`, give to samples.

        The second are the numbers (samples,) of the samples that they give something to.
        """
        inside = [(each >= first) & (each < first + count) for each in (self.low, self.high)]
        given = torch.stack(inside) & (self.shares > 0)
        (numbers,) = torch.nonzero(given.any(0), as_tuple=True)
        low, high = ((each[numbers] - first).clamp(0, count - 1) for each in (self.low, self.high))
        return Taps(low, high, (self.shares * given)[:, numbers]), numbers


def taps(cells: int, samples: int, device: torch.device | None = None) -> Taps:
    """Return the taps of `samples` that span `cells` evenly.

    The first and the last sample are the centres of the first and last cell (align_corners); a
    single sample is the first cell. In whole numbers, so that they are exact in images of any size.
    """
    place = torch.arange(samples, device=device) * (cells - 1)
    steps = max(1, samples - 1)
    low = (place // steps).clamp(max=cells - 1)
    share = (place - low * steps).double() / steps
    return Taps(low, (low + 1).clamp(max=cells - 1), torch.stack([1 - share, share]))


def most_given(cells: int, samples: int, count: int) -> int:
    """Return the most samples that `count` neighbouring of `cells` cells give something to."""
    if cells == 1:
        return samples
    # Samples lie (cells − 1) / (samples − 1) apart; those less than a cell away are given to.
    return min(samples, -(-(count + 1) * (samples - 1) // (cells - 1)))


def interpolated(x: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Return bilinear samples (N, C, rows, columns) of x (N, C, h, w).

    In float64, rounded at the end: else the last bit would follow the place of a cell in its tile.
    """
    dtype, x = x.dtype, x.double()
    for axis, along in ((2, rows), (3, columns)):
        cells = x.shape[axis]
        if cells <= FEW:
            matrix = along.matrix(cells)
            x = matrix @ x if axis == 2 else x @ matrix.T
        else:
            before, after = along.shares.view(2, -1, *[1] * (3 - axis))
            low, high = x.index_select(axis, along.low), x.index_select(axis, along.high)
            x = low * before + high * after
    return x.to(dtype)


def sampled(x: Tensor, height: int, width: int) -> Tensor:
    """Return x (N, C, h, w) at `height` × `width` samples that span it evenly."""
    rows, columns = (
        taps(cells, samples, x.device)
        for cells, samples in zip(x.shape[2:], (height, width), strict=True)
    )
    return interpolated(x, rows, columns)
