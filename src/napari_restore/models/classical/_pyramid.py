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
        index = reflected(length, length + 4, x.device, before=2)
        wide = x.index_select(axis, index)
        a, b, c, d, e = (_every_second(wide, axis, start, length) for start in range(5))
        x = (a + e + 4 * (b + d) + 6 * c) / 16
    return x


def up(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return `x` (…, ⌈H/2⌉, ⌈W/2⌉) interpolated to `size` (H, W).

    Before the first pixel the second one is repeated, after the last one that itself, as by
    OpenCV's `pyrUp`.
    """
    for axis, wanted in zip((-2, -1), size, strict=True):
        length = x.shape[axis]
        before = x.narrow(axis, min(1, length - 1), 1)
        wide = torch.cat([before, x, x.narrow(axis, length - 1, 1)], axis)
        left, middle, right = (wide.narrow(axis, start, length) for start in range(3))
        even = (left + 6 * middle + right) / 8
        odd = (middle + right) / 2
        x = _interleaved(even, odd, axis).narrow(axis, 0, wanted)
    return x


def levels_of(x: Tensor, count: int) -> list[Tensor]:
    """Return `x` and so many further levels of its Gaussian pyramid."""
    levels = [x]
    for _ in range(count):
        levels.append(down(levels[-1]))
    return levels


def blend(frames: Sequence[Tensor], weights: Sequence[Tensor], top: Tensor | None) -> Tensor:
    """Return the blend (N, C, H, W) of Gaussian pyramids of frames by those of their weights.

    `frames` are levels (N, F, C, h, w), `weights` (N, F, 1, h, w), fine to coarse. `top` is the blend
    at the last level; None: the weighted mean of that level. Source: Burt, Adelson 1983; Mertens,
    Kautz, Van Reeth 2007.
    """
    result = (frames[-1] * weights[-1]).sum(1) if top is None else top
    for level in range(len(frames) - 2, -1, -1):
        size = frames[level].shape[-2:]
        details = frames[level] - up(frames[level + 1], size)
        result = (details * weights[level]).sum(1) + up(result, size)
    return result


def _every_second(wide: Tensor, axis: int, start: int, length: int) -> Tensor:
    """Return ⌈length / 2⌉ entries of `wide` from `start` on."""
    index = [slice(None)] * wide.dim()
    index[axis] = slice(start, start + length, 2)
    return wide[tuple(index)]


def _interleaved(even: Tensor, odd: Tensor, axis: int) -> Tensor:
    shape = list(even.shape)
    shape[axis] *= 2
    return torch.stack([even, odd], even.dim() if axis == -1 else even.dim() - 1).reshape(shape)
