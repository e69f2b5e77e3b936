"""Attention along channels, columns and rows, each in slices of fixed length.

A slice attention judges a cell by the slice that it lies in: all its channels, or the aligned block
of 64 cells of its row or its column. So blocks of 64 × 64 cells know nothing of each other. Source:
IPL (AAAI 2025), local feature extraction. Its text allows three readings, see `Reading`.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_restore.models.ipl.config import BLOCK, IplConfig

Reading = Literal["R1", "R2", "R3"]
"""What is averaged over the axes that are not sliced: R1 the features that the weights are made of,
R2 the features that are weighted (the printed equation), R3 nothing."""
THIRD = math.log(2)
"""Subtracted within the sigmoid, so that three attentions with zero weights add up to the input."""
CHANNEL, HEIGHT, WIDTH = 1, 2, 3


class SliceAttention(nn.Module):
    """Features times weights that two linear layers make of every slice along one axis."""

    def __init__(self, axis: int, length: int, hidden: int) -> None:
        super().__init__()
        self.axis, self.length = axis, length
        self.reduce = nn.Linear(length, hidden)
        self.expand = nn.Linear(hidden, length)

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Return attended features of x (N, C, h, w), the block's own slices beginning at 0."""
        sliced = self._sliced(x)
        averaged = sliced
        if reading != "R3":
            others = [axis for axis in (CHANNEL, HEIGHT, WIDTH) if axis != self.axis]
            axes = [axis if axis < self.axis else axis + 1 for axis in others]
            averaged = sliced.mean(axes, keepdim=True)
        weighted, judged = {
            "R1": (sliced, averaged),
            "R2": (averaged, sliced),
            "R3": (sliced, sliced),
        }[reading]
        return self._joined(weighted * self._weights(judged), x.shape[self.axis])

    def factors(self, x: Tensor) -> Tensor:
        """Return what reading R3 multiplies each value of x (N, C, h, w) with, the same shape."""
        return self._joined(self._weights(self._sliced(x)), x.shape[self.axis])

    def _sliced(self, x: Tensor) -> Tensor:
        """Return x (N, …, slices, length, …): the axes that are not sliced may be averaged."""
        lacking = -x.shape[self.axis] % self.length
        if lacking:
            # The layers have a fixed length: the last slice ends with zeros.
            beyond = [0, 0] * (3 - self.axis) + [0, lacking]
            x = functional.pad(x, beyond)
        return x.reshape(*x.shape[: self.axis], -1, self.length, *x.shape[self.axis + 1 :])

    def _weights(self, judged: Tensor) -> Tensor:
        along = self.axis + 1
        hidden = functional.relu(_linear(self.reduce, judged, along))
        return torch.sigmoid(_linear(self.expand, hidden, along) - THIRD)

    def _joined(self, sliced: Tensor, count: int) -> Tensor:
        """Return (N, C, h, w) with the first `count` values along the axis."""
        return sliced.flatten(self.axis, self.axis + 1).narrow(self.axis, 0, count)


class SliceAttentions(nn.Module):
    """The sum of the attentions along channels, columns and rows (the text's DAEM)."""

    def __init__(self, config: IplConfig) -> None:
        super().__init__()
        self.channel = SliceAttention(CHANNEL, config.channels, config.hidden_channel)
        self.width = SliceAttention(WIDTH, BLOCK, config.hidden_width)
        self.height = SliceAttention(HEIGHT, BLOCK, config.hidden_height)

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Return attended features of x (N, C, h, w), whose blocks of 64 cells begin at 0."""
        # A part of a tile would go through other kernels, which sum in another order.
        x = x.contiguous()
        total = self.channel(x, reading) + self.width(x, reading)
        out: Tensor = total + self.height(x, reading)
        return out

    def factors_at(self, x: Tensor, cell: tuple[int, int]) -> Tensor:
        """Return what a cell of x (1, C, h, w) is multiplied with by reading R3, (3, C).

        Along channels, columns and rows, from the slices that the cell lies in alone.
        """
        (row, column), (block_row, block_column) = cell, (at // BLOCK * BLOCK for at in cell)
        own = x[..., row : row + 1, column : column + 1]
        across = x[..., row : row + 1, block_column : block_column + BLOCK]
        down = x[..., block_row : block_row + BLOCK, column : column + 1]
        each = (
            self.channel.factors(own)[0, :, 0, 0],
            self.width.factors(across)[0, :, 0, column - block_column],
            self.height.factors(down)[0, :, row - block_row, 0],
        )
        return torch.stack(each)


def _linear(layer: nn.Linear, x: Tensor, axis: int) -> Tensor:
    """Apply a linear layer along an axis of x."""
    if axis == x.ndim - 1:
        return functional.linear(x, layer.weight, layer.bias)
    after = x.flatten(axis + 1)
    out = torch.matmul(layer.weight, after) + layer.bias[:, None]
    return out.reshape(*out.shape[:-1], *x.shape[axis + 1 :])
