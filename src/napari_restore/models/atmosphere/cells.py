"""Input of the network: a picture in cells, with dark and bright values in and around each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

CELL = 4
"""Pixels per cell."""
MULTIPLE = 64
"""The picture's sides are padded to multiples of this many pixels."""
ROWS = 128
"""Rows of a picture that are gathered into cells at a time, a multiple of `MULTIPLE`."""
REACHES = (1, 3, 7)
"""Cells around each in which the darkest value of any band is searched: the dark channel."""
FEATURES = 12 + len(REACHES)
HIDDEN = 4.0
"""Added to invalid values, so that they are part of no extreme."""


class Cells(NamedTuple):
    """N pictures in cells; h and w are multiples of 16."""

    features: Tensor
    """(N, FEATURES, h, w)."""
    share: Tensor
    """(N, 1, h, w) of each cell's pixels that are valid."""
    colour: Tensor
    """(N, 3, h, w) mean of the valid ones, 0 where there are none."""
    dark: Tensor
    """(N, 3, h, w) darkest of the valid ones in each band, about `HIDDEN` where there are none."""
    spread: Tensor
    """(N, 1, h, w) standard deviation of their luminance."""


class Light(NamedTuple):
    """Luminance of the valid pixels of cells, each (N, 1, h, w)."""

    share: Tensor
    """Of each cell's pixels that are valid."""
    mean: Tensor
    variance: Tensor


def cells_of(picture: Tensor, valid: Tensor, brightness: Tensor) -> Cells:
    """Return the cells of pictures (N, 3, H, W) times `brightness` (N,).

    `valid` (N, 1, H, W) float 0 or 1. Padded at the right and bottom with invalid pixels. Those may
    have any finite value.
    """
    # With gradients all of it is kept in any case.
    rows = picture.shape[2] if picture.requires_grad else ROWS
    bottom = -picture.shape[2] % MULTIPLE
    factor = brightness[:, None, None, None]
    tops = range(0, picture.shape[2], rows)
    parts = [
        _gathered(
            (picture[:, :, top : top + rows] * factor).clamp_(-0.5, 4),
            valid[:, :, top : top + rows],
            bottom if top == tops[-1] else 0,
        )
        for top in tops
    ]
    share, mean, square, dark, bright = (torch.cat(part, 2) for part in zip(*parts, strict=True))
    spread = (square - mean.mean(1, keepdim=True) ** 2).clamp(min=0).add(1e-6).sqrt()
    has_valid = (share > 0).to(mean.dtype)
    saturation = (mean.amax(1, keepdim=True) - mean.amin(1, keepdim=True)) * has_valid
    features = [mean - 0.45, dark - 0.3, bright - 0.6, 4 * spread, 2 * saturation, share - 1]
    least = dark.amin(1, keepdim=True)
    features += [least - 0.3, *(widened(-least, reach).neg() - 0.2 for reach in REACHES)]
    features.append(widened(bright, REACHES[-1]) - 0.8)
    features_valid = torch.cat([f * has_valid for f in features], 1)
    return Cells(features_valid, share, mean * has_valid, dark, spread * has_valid)


def _gathered(picture: Tensor, valid: Tensor, bottom: int) -> tuple[Tensor, ...]:
    """Return share, mean, mean square of luminance, darkest and brightest of some rows of cells."""
    beyond = (0, -picture.shape[3] % MULTIPLE, 0, bottom)
    valid = pad(valid, beyond)
    picture = pad(picture, beyond) * valid
    share = avg_pool2d(valid, CELL)
    divisor = share.clamp(min=1e-6)
    mean = avg_pool2d(picture, CELL) / divisor
    hidden = (1 - valid) * HIDDEN
    dark = -_most(-(picture + hidden), CELL)
    bright = _most((picture - hidden).amax(1, keepdim=True), CELL)
    luminance = picture.mean(1, keepdim=True)
    square = avg_pool2d(luminance * luminance, CELL) / divisor
    return share, mean, square, dark, bright


def halved(cells: Cells) -> tuple[Tensor, Tensor, Tensor]:
    """Return share, colour and darkest values of cells of twice the side."""
    return *coarser(cells, 2), -_most(-cells.dark, 2)


def light_of(cells: Cells, shape: tuple[int, ...]) -> Light:
    """Return the luminance of the first `shape` (h, w) cells of twice the side."""
    share, colour = coarser(cells, 2)
    mean = colour.mean(1, keepdim=True)
    square = cells.colour.mean(1, keepdim=True) ** 2 + cells.spread**2
    square = avg_pool2d(square * cells.share, 2) / share.clamp(min=1e-6)
    variance = (square - mean * mean).clamp(min=0)
    return Light(*(plane[:, :, : shape[0], : shape[1]] for plane in (share, mean, variance)))


def coarser(cells: Cells, factor: int) -> tuple[Tensor, Tensor]:
    """Return share and colour of cells of `factor` times the side."""
    share = avg_pool2d(cells.share, factor)
    return share, avg_pool2d(cells.colour * cells.share, factor) / share.clamp(min=1e-6)


def mean_of(planes: Tensor, share: Tensor) -> Tensor:
    """Return (N, C) means of planes (N, C, h, w) over the valid part of each cell."""
    return total(planes * share) / total(share).clamp(min=1e-6)


def total(planes: Tensor) -> Tensor:
    """Return (N, C) sums of planes (N, C, h, w), whatever the number of threads."""
    # Row by row: torch divides a sum to a single number differently for each number of threads.
    return planes.sum(3).sum(2)


def widened(plane: Tensor, reach: int) -> Tensor:
    """Return the largest value within `reach` cells."""
    side = 2 * reach + 1
    # Rows, then columns: a window as a whole takes `side` / 2 times as long.
    plane = max_pool2d(plane, (side, 1), stride=1, padding=(reach, 0))
    return max_pool2d(plane, (1, side), stride=1, padding=(0, reach))


def pooled(share: Tensor, rows: int) -> Tensor:
    """Return the shares of the coarser cells of a grid with so many rows."""
    return avg_pool2d(share, share.shape[2] // rows)


def _most(planes: Tensor, side: int) -> Tensor:
    """Return the largest value of each block of `side` × `side`; faster than a max pool."""
    n, bands, height, width = planes.shape
    rows = planes.reshape(n, bands, height // side, side, width).amax(3)
    return rows.reshape(n, bands, height // side, width // side, side).amax(4)
