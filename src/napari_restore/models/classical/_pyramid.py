"""Gaussian pyramids by the binomial filter (1, 4, 6, 4, 1) / 16, as OpenCV builds them.

Sums of slices, not convolutions: a value is then the same to the bit wherever an image is cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from napari_restore.models._padding import reflected


def down(x: Tensor) -> Tensor:
    """Return `x` (…, H, W) smoothed at every second pixel, (…, ⌈H/2⌉, ⌈W/2⌉); edges reflected."""
    for axis in (-2, -1):
        length = x.shape[axis]
        if length < 5:
            index = reflected(length, length + 4, x.device, before=2)
            x = _smoothed(x.index_select(axis, index), axis)
            continue
        # Only what the two ends need is copied, to be reflected.
        centre = (length - 1) // 2 * 2
        index = torch.arange(centre - 2, centre + 3, device=x.device)
        last = torch.where(index < length, index, 2 * (length - 1) - index)
        first = torch.arange(-2, 3, device=x.device).abs()
        ends = [_smoothed(x.index_select(axis, places), axis) for places in (first, last)]
        x = torch.cat([ends[0], _smoothed(x, axis), ends[1]], axis)
    return x


def up(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return `x` (…, ⌈H/2⌉, ⌈W/2⌉) interpolated to `size` (H, W).

    Before the first pixel the second one is repeated, after the last one that itself, as by
    OpenCV's `pyrUp`.
    """
    for axis, wanted in zip((-2, -1), size, strict=True):
        axis, length = axis % x.dim(), x.shape[axis]
        if x.requires_grad:
            # Views that are written one after the other have no gradient.
            even, odd = _between(x, axis, torch.empty_like(x), torch.empty_like(x))
            x = torch.stack([even, odd], axis + 1).flatten(axis, axis + 1).narrow(axis, 0, wanted)
            continue
        shape = list(x.shape)
        shape[axis] = 2 * length
        out = x.new_empty(shape)
        even, odd = (_every_second(out, axis, start, 2 * length - 1) for start in (0, 1))
        if axis < x.dim() - 1:
            _between(x, axis, even, odd)
        else:
            # Values that lie apart take twice as long: they are written once.
            made = _between(x, axis, torch.empty_like(x), torch.empty_like(x))
            even.copy_(made[0])
            odd.copy_(made[1])
        x = out.narrow(axis, 0, wanted)
    return x


def _between(x: Tensor, axis: int, even: Tensor, odd: Tensor) -> tuple[Tensor, Tensor]:
    """Write x smoothed at its pixels to `even`, and between them and their next ones to `odd`."""
    length = x.shape[axis]
    even.copy_(x).mul_(6)
    # In this order everywhere, so that a value is the same to the bit.
    even.narrow(axis, 1, length - 1).add_(x.narrow(axis, 0, length - 1))
    even.narrow(axis, 0, 1).add_(x.narrow(axis, min(1, length - 1), 1))
    even.narrow(axis, 0, length - 1).add_(x.narrow(axis, 1, length - 1))
    even.narrow(axis, length - 1, 1).add_(x.narrow(axis, length - 1, 1))
    even.mul_(1 / 8)
    odd.copy_(x)
    odd.narrow(axis, 0, length - 1).add_(x.narrow(axis, 1, length - 1))
    odd.narrow(axis, length - 1, 1).add_(x.narrow(axis, length - 1, 1))
    odd.mul_(1 / 2)
    return even, odd


def blend(frames: Tensor, weights: Tensor, levels: int, top: Tensor | None) -> Tensor:
    """Return the blend (N, C, H, W) of frames (N, F, C, H, W) by the pyramids of their weights.

    So many levels are blended as differences to the next one. `top` is the blend of the last one
    (N, C, h, w); None: the weighted mean. `weights` are (N, F, 1, H, W). Source: Burt, Adelson 1983;
    Mertens, Kautz, Van Reeth 2007.
    """
    details: list[Tensor] = []
    last: Tensor | None = None
    # One frame after the other, so that only its own levels are in memory.
    for frame, weight in zip(frames.unbind(1), weights.unbind(1), strict=True):
        for level in range(levels):
            smaller = down(frame)
            detail = frame - up(smaller, frame.shape[-2:])
            detail = detail * weight if detail.requires_grad else detail.mul_(weight)
            if level == len(details):
                details.append(detail)
            else:
                details[level] += detail
            frame, weight = smaller, down(weight)
        if top is None:
            last = frame * weight if last is None else last + frame * weight
    result = last if top is None else top
    assert result is not None
    for detail in reversed(details):
        result = up(result, detail.shape[-2:]) + detail
    return result


def _smoothed(x: Tensor, axis: int) -> Tensor:
    """Return every second value of `x` smoothed, where all five that it needs are there."""
    count = (x.shape[axis] - 5) // 2 + 1
    a, b, c, d, e = (_every_second(x, axis, start, 2 * count - 1) for start in range(5))
    total = a + e
    pair = b + d
    pair *= 4
    total += pair
    total += 6 * c
    total *= 1 / 16
    return total


def _every_second(x: Tensor, axis: int, start: int, length: int) -> Tensor:
    """Return every second of `length` entries of `x` from `start` on, as a view."""
    index = [slice(None)] * x.dim()
    index[axis] = slice(start, start + length, 2)
    return x[tuple(index)]
