"""Guided filter with means weighted by the number of valid pixels.

K. He, J. Sun, X. Tang, "Guided Image Filtering", TPAMI 2013; K. He, J. Sun, "Fast Guided Filter",
arXiv:1505.00996, 2015 (statistics on a coarse grid, the linear coefficients interpolated to full
resolution).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from napari_restore.models.classical._cells import spread

STATISTICS_STEP = 2.0**-12
"""Guide and input of the coarse statistics are rounded to this step, so that their
products and the sums over a window are exact in float64 and a tile gets the same
bits as the whole image."""
COEFFICIENT_STEP = 2.0**-28


def box_sum(x: Tensor, radius: int) -> Tensor:
    """Return float64 sums of `x` (N, C, H, W) over squares of `radius` around each cell, cut off at the border."""
    # Running sums in float32 lose the variance of long rows.
    x = x.to(torch.float64)
    for axis in (2, 3):
        x = _WindowSum.apply(x, radius, axis)  # type: ignore[no-untyped-call]
    return x


def box_mean(x: Tensor, weight: Tensor, radius: int) -> Tensor:
    """Return weighted means over the square of `radius`; 0 where no weight lies in it.

    `weight` must be whole numbers, or the sums are not exact.
    """
    x = _rounded(x, STATISTICS_STEP**2)
    return _divide(box_sum(x * weight, radius), box_sum(weight, radius))


def guided_coefficients(
    guide: Tensor, target: Tensor, weight: Tensor, radius: int, eps: float
) -> Tensor:
    """Return smoothed slope and offset, (N, 2, h, w) float32: target ≈ slope · guide + offset.

    `guide`, `target` and `weight` are (N, 1, h, w); cells with weight 0 count for
    nothing, and where no other lies in the window, the filtered image is 1.
    `eps` is in squared units of the guide.
    """
    guide, target = _rounded(guide, STATISTICS_STEP), _rounded(target, STATISTICS_STEP)
    moments = torch.cat([guide, target, guide * guide, guide * target], 1)
    covered = box_sum(weight, radius)
    means = _divide(box_sum(moments * weight, radius), covered)
    mean_guide, mean_target, square, product = torch.chunk(means, 4, 1)
    slope = (product - mean_guide * mean_target) / (square - mean_guide * mean_guide + eps)
    offset = mean_target - slope * mean_guide
    pair = _rounded(torch.cat([slope, offset], 1), COEFFICIENT_STEP)
    pair = _divide(box_sum(pair * weight, radius), covered)
    # Of a transmission: nothing is taken for haze there.
    nothing = pair.new_tensor([0.0, 1.0])[None, :, None, None]
    return torch.where(covered > 0, pair, nothing).to(torch.float32)


def apply_coefficients(coefficients: Tensor, guide: Tensor, side: int) -> Tensor:
    """Return the filtered image at the resolution of `guide` (N, 1, H, W) float32."""
    full = spread(coefficients, side, *guide.shape[2:])
    return torch.addcmul(full[:, 1:], full[:, :1], guide)


def _window_sum(x: Tensor, radius: int, axis: int) -> Tensor:
    length = x.shape[axis]
    running = torch.cumsum(x, axis)
    running = torch.cat([torch.zeros_like(running.narrow(axis, 0, 1)), running], axis)
    first = torch.arange(length, device=x.device)
    return running.index_select(axis, (first + radius + 1).clamp(max=length)) - (
        running.index_select(axis, (first - radius).clamp(min=0))
    )


class _WindowSum(torch.autograd.Function):
    """Windowed sum, whose gradient is the same sum again: membership of windows is symmetric."""

    # Gradients through running sums would leave rounding errors all over the image.
    @staticmethod
    def forward(ctx: Any, x: Tensor, radius: int, axis: int) -> Tensor:
        ctx.window = radius, axis
        return _window_sum(x, radius, axis)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _WindowSum.apply(gradient, *ctx.window), None, None  # type: ignore[no-untyped-call]


def _divide(sums: Tensor, covered: Tensor) -> Tensor:
    return torch.where(covered > 0, sums / covered.clamp(min=1e-30), torch.zeros_like(sums))


def _rounded(x: Tensor, step: float) -> Tensor:
    rounded: Tensor = _Rounded.apply(x.to(torch.float64), step)  # type: ignore[no-untyped-call]
    return rounded


class _Rounded(torch.autograd.Function):
    """Rounding to multiples of a step, with the gradient of the identity: that of steps is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float) -> Tensor:
        return torch.round(x / step) * step

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
