"""Reduction of the overview to the size of the network's input, strip by strip."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from napari_restore.models._context import Context
from napari_restore.models._model import ToModel
from napari_restore.models.atmosphere.restraint import step_of

SIDE = 1024
"""Longest side in pixels of the network's input."""
STRIP = 128
"""Rows of an overview, at least, that are in model range at a time: as float64, in all bands."""


class Small(NamedTuple):
    """N pictures of at most `SIDE` pixels along a side."""

    picture: Tensor
    """(N, 3, h, w) in model range, means of valid pixels."""
    valid: Tensor
    """(N, 1, h, w) float, 0 or 1."""
    factor: int
    """Pixels along a side that were averaged into one."""
    shape: tuple[int, int]
    """(h, w) before that."""


def small(picture: Tensor, valid: Tensor, longest: int = SIDE) -> Small:
    """Return pictures (N, 3, h, w) reduced, `valid` (N, 1, h, w) float, 0 or 1; with gradients."""
    shape = picture.shape[2], picture.shape[3]
    factor = _factor(shape, longest)
    return Small(*_reduced(picture, valid, factor), factor, shape)


def small_overview(
    context: Context,
    to_model: ToModel,
    bands: tuple[int, ...],
    device: torch.device,
    longest: int = SIDE,
) -> tuple[Small, Tensor, Tensor]:
    """Return the overview's `bands` on `device`, reduced; and thinned, with their validity."""
    # The values of `small` for the whole, which is never in memory in model range: that of a large
    # image has four million pixels.
    height, width = context.overview.shape[:2]
    factor, step = _factor((height, width), longest), step_of((height, width))
    rows = -(-STRIP // (factor * step)) * factor * step
    # Written in place: joined from parts they would be in memory twice.
    sides = [(-(-height // by), -(-width // by)) for by in (factor, step)]
    reduced, thinned = (torch.empty(1, len(bands), *side, device=device) for side in sides)
    reduced_valid, thinned_valid = (torch.empty(1, 1, *side, device=device) for side in sides)
    for top in range(0, height, rows):
        values = context.overview[top : top + rows]
        strip = to_model(np.nan_to_num(values))[..., list(bands)].astype(np.float32)
        strip_valid = np.isfinite(values).all(axis=2).astype(np.float32)
        picture = torch.from_numpy(strip).permute(2, 0, 1)[None].to(device)
        valid = torch.from_numpy(strip_valid)[None, None].to(device)
        lines = slice(top // step, -(-(top + len(values)) // step))
        thinned[:, :, lines] = picture[..., ::step, ::step]
        thinned_valid[:, :, lines] = valid[..., ::step, ::step]
        lines = slice(top // factor, -(-(top + len(values)) // factor))
        reduced[:, :, lines], reduced_valid[:, :, lines] = _reduced(picture, valid, factor)
    return Small(reduced, reduced_valid, factor, (height, width)), thinned, thinned_valid


def small_factor(height: int, width: int, factor: int) -> tuple[int, tuple[int, int]]:
    """Return the factor and shape of `small` for the overview of an image, reduced by `factor`."""
    shape = -(-height // factor), -(-width // factor)
    return _factor(shape, SIDE), shape


def _factor(shape: tuple[int, int], longest: int) -> int:
    return -(-max(shape) // longest)


def _reduced(picture: Tensor, valid: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    if factor == 1:
        return picture, valid
    beyond = (0, -picture.shape[3] % factor, 0, -picture.shape[2] % factor)
    valid = pad(valid, beyond)
    picture = avg_pool2d(pad(picture, beyond) * valid, factor)
    valid = avg_pool2d(valid, factor)
    return picture / valid.clamp(min=1e-6), (valid > 0).to(picture.dtype)
