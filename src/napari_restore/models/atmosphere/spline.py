"""Smooth maps that follow edges, from coarse cells, and sampled at pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from napari_restore.models.atmosphere.cells import Light


def smooth(cells: Tensor, stride: int, shape: tuple[int, int]) -> Tensor:
    """Return cells (N, C, gh, gw) of `stride` pixels as a map (N, C, h, w), by cubic B-splines."""
    # They neither overshoot the cells' values nor have kinks that a division by the map would show.
    # Cells beyond the edge repeat the last one.
    rows = _weights(shape[0], cells.shape[2], stride, cells)
    columns = _weights(shape[1], cells.shape[3], stride, cells)
    # Under autocast, products of matrices would be rounded to steps visible in a map.
    with torch.autocast(cells.device.type, enabled=False):
        return rows @ cells @ columns.T


WINDOW = (1, 6, 15, 20, 15, 6, 1)
"""Weights of cells along a side of the window that `guided` looks at: binomial, so that checkerboard
patterns, which networks that compute 2 × 2 cells from one produce, are in no mean."""
EPS = 1e-3
"""Variance of luminance, where the mean of a picture is 0.45, from which an edge is followed."""


def guided(offset: Tensor, slope: Tensor, light: Light) -> Tensor:
    """Return the haze's logit as lines over luminance that hold around each cell, (N, 2, h, w).

    A guided filter (He, Sun, Tang, IEEE TPAMI 35 (2013) 1397; on a coarse grid as He and Sun,
    arXiv:1505.00996). Beside an edge a mean of cells would put the haze of one side onto the other. A line
    through the cells of both gives each pixel that of its own luminance, on whichever side it lies. Within
    a cell its own slope counts, as many times as luminance varies there. Where luminance is even, the lines
    are means.

    Parameters
    ----------
    offset
        (N, 1, h, w) logit at luminance 0.5, by cell; the first channel returned.
    slope
        (N, 1, h, w) its growth with luminance; the second one.
    light
        Of the same cells.
    """
    luminance = light.mean.clamp(0, 2) - 0.5
    logit = offset + slope * luminance
    # A window without a valid pixel has a mean, too.
    weight = light.share + 1e-6
    planes = [torch.ones_like(weight), luminance, logit, slope]
    planes += [luminance * luminance, luminance * logit, light.variance, light.variance * slope]
    sums = _window(torch.cat(planes, 1) * weight)
    means = torch.split(sums[:, 1:] / sums[:, :1], 1, 1)
    x, y, within, xx, xy, varied, varied_slope = means
    line = (xy - x * y + varied_slope + EPS * within) / ((xx - x * x).clamp(min=0) + varied + EPS)
    return torch.cat([y - line * x, line], 1)


def _window(planes: Tensor) -> Tensor:
    """Return sums over `WINDOW` around each cell, cut off at the border."""
    # Added up in one order, whatever the number of threads.
    reach = len(WINDOW) // 2
    height, width = planes.shape[2:]
    grown = pad(planes, (reach, reach, reach, reach))
    shares = [weight / sum(WINDOW) for weight in WINDOW]
    rows = torch.zeros_like(grown[:, :, :height])
    for place, share in enumerate(shares):
        rows = rows + share * grown[:, :, place : place + height]
    sums = torch.zeros_like(planes)
    for place, share in enumerate(shares):
        sums = sums + share * rows[..., place : place + width]
    return sums


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
    """Return (1, C, n, w): `lines` (1, C, L, w) interpolated by `part` from row `first` (n,), which increases, on."""
    if not part.any():
        # A map of the image's own pixels.
        return lines[:, :, first.to(lines.device)]
    # Row by row: gathering rows takes ten times as long as mixing them.
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
