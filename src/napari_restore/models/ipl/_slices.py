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

from napari_restore.models.ipl._config import BLOCK, IplConfig

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
        count = x.shape[self.axis]
        lacking = -count % self.length
        if lacking:
            # The layers have a fixed length: the last slice ends with zeros.
            beyond = [0, 0] * (3 - self.axis) + [0, lacking]
            x = functional.pad(x, beyond)
        sliced = x.reshape(*x.shape[: self.axis], -1, self.length, *x.shape[self.axis + 1 :])
        # (N, …, slices, length, …): the axes that are not sliced are averaged.
        along = self.axis + 1
        others = [axis for axis in (CHANNEL, HEIGHT, WIDTH) if axis != self.axis]
        averaged = sliced
        if reading != "R3":
            axes = [axis if axis < self.axis else axis + 1 for axis in others]
            averaged = sliced.mean(axes, keepdim=True)
        weighted, judged = {
            "R1": (sliced, averaged),
            "R2": (averaged, sliced),
            "R3": (sliced, sliced),
        }[reading]
        hidden = functional.relu(_linear(self.reduce, judged, along))
        weights = torch.sigmoid(_linear(self.expand, hidden, along) - THIRD)
        attended = (weighted * weights).flatten(self.axis, along)
        return attended.narrow(self.axis, 0, count)


class SliceAttentions(nn.Module):
    """The sum of the attentions along channels, columns and rows (the text's DAEM)."""

    def __init__(self, config: IplConfig) -> None:
        super().__init__()
        self.channel = SliceAttention(CHANNEL, config.channels, config.hidden_channel)
        self.width = SliceAttention(WIDTH, BLOCK, config.hidden_width)
        self.height = SliceAttention(HEIGHT, BLOCK, config.hidden_height)

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Return attended features of x (N, C, h, w), whose blocks of 64 cells begin at 0."""
        total = self.channel(x, reading) + self.width(x, reading)
        out: Tensor = total + self.height(x, reading)
        return out


def _linear(layer: nn.Linear, x: Tensor, axis: int) -> Tensor:
    """Apply a linear layer along an axis of x."""
    if axis == x.ndim - 1:
        return functional.linear(x, layer.weight, layer.bias)
    after = x.flatten(axis + 1)
    out = torch.matmul(layer.weight, after) + layer.bias[:, None]
    return out.reshape(*out.shape[:-1], *x.shape[axis + 1 :])
