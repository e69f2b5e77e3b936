"""Runs a model tile by tile as an engine does: aligned cores, halo cropped to the image."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from napari_restore.models import RestorationModel, Statistics


def tiled(
    model: RestorationModel,
    x: Tensor,
    statistics: Statistics,
    cores: list[tuple[int, int, int, int]],
    valid: Tensor | None = None,
    halo: int | None = None,
) -> Tensor:
    """`model` over `x` (1, C, H, W) with `statistics` of the whole, assembled from `cores`."""
    h = model.card.halo if halo is None else halo
    height, width = x.shape[2:]
    out = torch.full_like(x, torch.nan)
    for y0, x0, y1, x1 in cores:
        top, left = max(0, y0 - h), max(0, x0 - h)
        rows, columns = slice(top, min(height, y1 + h)), slice(left, min(width, x1 + h))
        mask = None if valid is None else valid[..., rows, columns]
        y = model(x[..., rows, columns], statistics, mask)
        out[..., y0:y1, x0:x1] = y[..., y0 - top : y1 - top, x0 - left : x1 - left]
    return out


def random_cores(height: int, width: int, step: int, seed: int) -> list[tuple[int, int, int, int]]:
    """A random grid of cores whose inner edges are multiples of `step`."""
    rng = np.random.default_rng(seed)
    rows, columns = (
        sorted({0, n, *(rng.integers(1, max(2, n // step), 3) * step).clip(0, n).tolist()})
        for n in (height, width)
    )
    return [
        (y0, x0, y1, x1)
        for y0, y1 in itertools.pairwise(rows)
        for x0, x1 in itertools.pairwise(columns)
    ]
