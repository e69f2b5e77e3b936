"""Unit vectors, and matrices whose vectors stay at unit length."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST = 1e-12
"""Length that a vector is divided by at least."""


def unit(x: Tensor, dim: int = -1) -> Tensor:
    """Return x / ‖x‖ along `dim`, at least in float32; zeros stay zeros, without a gradient."""
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    square = x.square().sum(dim, keepdim=True)
    # rsqrt(0) has no gradient, which a plain norm would turn into NaN.
    return x * torch.where(square > 0, square.clamp(min=SMALLEST**2), 1.0).rsqrt()


class ChannelScale(nn.Module):
    """A learned factor per channel that starts at `start` and learns as if it were `pace`.

    An optimiser such as Adam changes every parameter by about its learning rate. The factor is
    start · (1 + shift / pace): the smaller `pace`, the faster it changes. Source: nGPT (Loshchilov
    et al., ICLR 2025), whose stored value is pace + shift.
    """

    def __init__(self, channels: int, start: float, pace: float) -> None:
        super().__init__()
        self.start, self.pace = start, pace
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self) -> Tensor:
        return self.start * (1 + self.shift / self.pace)


class SphereLinear(nn.Linear):
    """A linear layer without bias whose rows, or `columns`, `renormalise` sets to unit length.

    The dimension of tokens is the one of unit length: rows of a layer that reads tokens, columns
    of one that writes them. In the pre-norm twin the weights are `free`.
    """

    def __init__(self, inputs: int, outputs: int, *, columns: bool = False, free: bool) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.dim, self.free = (0 if columns else 1), free
        nn.init.normal_(self.weight, std=inputs**-0.5)
        self.renormalise()

    @torch.no_grad()
    def renormalise(self) -> None:
        """Set every row or column to unit length."""
        if not self.free:
            self.weight.copy_(unit(self.weight, self.dim))


def renormalise(network: nn.Module) -> None:
    """Renormalise all layers of `network`, as after every optimiser step."""
    for module in network.modules():
        if isinstance(module, SphereLinear):
            module.renormalise()
