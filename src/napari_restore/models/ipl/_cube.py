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
    """Where each of some samples lies between two cells along an axis."""

    low: Tensor
    """(samples,) int64: the cell before it."""
    high: Tensor
    """(samples,) int64: the cell after it, which may be the same."""
    share: Tensor
    """(samples,) float64: the weight of `high`; that of `low` is the rest."""

    def matrix(self, cells: int) -> Tensor:
        """Return the weights (samples, cells) float64 as a matrix."""
        matrix = self.share.new_zeros(len(self.share), cells)
        matrix.scatter_add_(1, self.low[:, None], 1 - self.share[:, None])
        return matrix.scatter_add_(1, self.high[:, None], self.share[:, None])


def taps(
    cells: int,
    samples: int,
    first: int = 0,
    last: int | None = None,
    device: torch.device | None = None,
) -> Taps:
    """Return the taps of samples `first` to `last` of `samples` that span `cells` evenly.

    The first and the last sample are the centres of the first and last cell (align_corners); a
    single sample is the first cell. In whole numbers, so that they are exact in images of any size.
    """
    place = torch.arange(first, samples if last is None else last, device=device)
    place = place * (cells - 1)
    steps = max(1, samples - 1)
    low = (place // steps).clamp(max=cells - 1)
    share = (place - low * steps).double() / steps
    return Taps(low, (low + 1).clamp(max=cells - 1), share)


def interpolated(x: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Return bilinear samples (N, C, rows, columns) of x (N, C, h, w)."""
    for axis, along in ((2, rows), (3, columns)):
        cells = x.shape[axis]
        if cells <= FEW:
            matrix = along.matrix(cells).to(x.dtype)
            x = matrix @ x if axis == 2 else x @ matrix.T
        else:
            share = along.share.to(x.dtype).view(-1, *[1] * (3 - axis))
            low, high = x.index_select(axis, along.low), x.index_select(axis, along.high)
            x = low * (1 - share) + high * share
    return x


def sampled(x: Tensor, height: int, width: int) -> Tensor:
    """Return x (N, C, h, w) at `height` × `width` samples that span it evenly."""
    rows, columns = (
        taps(cells, samples, device=x.device)
        for cells, samples in zip(x.shape[2:], (height, width), strict=True)
    )
    return interpolated(x, rows, columns)
