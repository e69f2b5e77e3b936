"""Smooth maps interpolated from coarse cells, and sampled at pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def smooth(cells: Tensor, stride: int, shape: tuple[int, int]) -> Tensor:
    """Return cells (N, C, gh, gw) of `stride` pixels as a map (N, C, h, w), by cubic B-splines.

    They neither overshoot the cells' values nor have kinks that a division by the map would show.
    Cells beyond the edge repeat the last one.
    """
    rows = _weights(shape[0], cells.shape[2], stride, cells)
    columns = _weights(shape[1], cells.shape[3], stride, cells)
    cells = _unchequered(cells)
    # Under autocast, products of matrices would be rounded to steps visible in a map.
    with torch.autocast(cells.device.type, enabled=False):
        return rows @ cells @ columns.T


def _unchequered(cells: Tensor) -> Tensor:
    """Return the cells without checkerboard patterns: binomial means of three rows and columns.

    Networks that compute 2 × 2 cells from one produce such patterns, which are visible in a sky.
    """
    grown = pad(cells, (1, 1, 1, 1), mode="replicate")
    rows = grown[:, :, :-2] + 2 * grown[:, :, 1:-1] + grown[:, :, 2:]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16


def _weights(length: int, cells: int, stride: int, like: Tensor) -> Tensor:
    """Return (length, cells) share of every cell in every pixel."""
    place = (torch.arange(length, dtype=torch.float64) + 0.5) / stride - 0.5
    first = place.floor()
    f = place - first
    taps = (
        (1 - f) ** 3 / 6,
        (3 * f**3 - 6 * f**2 + 4) / 6,
        (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6,
        f**3 / 6,
    )
    weights = torch.zeros(length, cells, dtype=torch.float64)
    for k, tap in enumerate(taps):
        index = (first.long() + k - 1).clamp(0, cells - 1)
        weights.scatter_add_(1, index[:, None], tap[:, None])
    return weights.to(like)


class BilinearSampler:
    """Bilinear values of `maps` (1, C, H, W), one per `step` level-0 pixels, at a tile's pixels.

    The tile has `shape` (h, w) pixels of `scale` level-0 pixels each, its first one at `origin`.
    Every pixel's value depends on its position alone, to the last bit, so tiles fit together.
    """

    def __init__(
        self,
        maps: Tensor,
        step: float,
        origin: tuple[int, int],
        scale: float,
        shape: tuple[int, int],
    ) -> None:
        first, self._below = _taps(origin[0], shape[0], scale / step, maps.shape[2])
        # Columns first, on the few rows of the map that the tile lies in.
        top = int(first[0])
        lines = maps[:, :, top : int(first[-1]) + 2]
        columns, right = _taps(origin[1], shape[1], scale / step, maps.shape[3])
        self._lines = _across(lines, columns, right)
        self._first = first - top

    def rows(self, start: int, stop: int) -> Tensor:
        """Return (1, C, stop − start, w)."""
        return _between(self._lines, self._first[start:stop], self._below[start:stop])


def _between(lines: Tensor, first: Tensor, part: Tensor) -> Tensor:
    """Return (1, C, n, w): interpolated by `part` from row `first` (n,) to the next one.

    `lines` (1, C, L, w); `first` increases. Row by row: gathering rows takes ten times as long as
    mixing them.
    """
    if not part.any():
        # A map of the image's own pixels.
        return lines[:, :, first.to(lines.device)]
    n, last = len(first), lines.shape[2] - 1
    part = part.to(lines)[:, None]
    numbers, counts = torch.unique_consecutive(first, return_counts=True)
    pairs = [
        (lines[:, :, k : k + 1], lines[:, :, min(k + 1, last) : min(k + 1, last) + 1])
        for k in numbers.tolist()
    ]
    shares = torch.split(part, counts.tolist())
    if lines.requires_grad:
        mixed = [torch.lerp(*pair, share) for pair, share in zip(pairs, shares, strict=True)]
        return torch.cat(mixed, dim=2)
    made = lines.new_empty((*lines.shape[:2], n, lines.shape[3]))
    targets = torch.split(made, counts.tolist(), dim=2)
    for (here, below), share, target in zip(pairs, shares, targets, strict=True):
        torch.lerp(here, below, share, out=target)
    return made


def _across(lines: Tensor, first: Tensor, part: Tensor) -> Tensor:
    """Return (1, C, L, n): interpolated by `part` from column `first` (n,) to the next one."""
    if lines.requires_grad:
        # The gradient of `gather` has no fixed order of addition on every device.
        return _between(lines.transpose(2, 3), first, part).transpose(2, 3).contiguous()
    columns = first.to(lines.device).expand(*lines.shape[:3], -1)
    here = lines.gather(3, columns)
    if not part.any():
        return here
    below = lines.gather(3, (columns + 1).clamp_(max=lines.shape[3] - 1))
    return torch.lerp(here, below, part.to(lines))


def _taps(origin: int, length: int, step: float, cells: int) -> tuple[Tensor, Tensor]:
    """Return the cell before each pixel and its distance towards the next."""
    place = (torch.arange(length, dtype=torch.float64) + (origin + 0.5)) * step - 0.5
    place = place.clamp(0, cells - 1)
    first = place.floor()
    return first.long(), place - first
