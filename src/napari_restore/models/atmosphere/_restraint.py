"""Upper limit of the presence of haze, so that its removal does not produce black."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import EllipsisType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from napari_restore.models.atmosphere._inversion import inverted, optical_depth

Rows: TypeAlias = "tuple[EllipsisType, slice[Any, Any, Any], slice[Any, Any, Any]]"

LOST = 0.01
"""Share of an image's pixels that may become black."""
BLACK = 0.002
"""Value, where the picture's mean is 0.45, below which a band carries no information …"""
DARK = 0.01
"""… unless it was no brighter than this before."""
SIDE = 512
"""Pixels of the longer side that are used."""
HALVINGS = 6
ROWS = 128
"""Rows of those pixels that are processed together."""


def step_of(shape: tuple[int, int]) -> int:
    """Return the step between the used pixels of an overview (h, w)."""
    return -(-max(shape) // SIDE)


def depth_by_strips(x: Tensor, statistics: Mapping[str, Tensor]) -> Iterator[tuple[Rows, Tensor]]:
    """Yield each `ROWS` rows of the overview `x`, thinned by `step_of`, and their optical depth."""
    maps = statistics["maps"]
    step = step_of((maps.shape[2], maps.shape[3]))
    offset, slope = torch.split(maps[..., ::step, ::step], 1, 1)
    for top in range(0, x.shape[2], ROWS):
        rows: Rows = (..., slice(top, top + ROWS), slice(None))
        yield rows, optical_depth(x[rows], offset[rows], slope[rows], statistics)


def restrained(
    x: Tensor, valid: Tensor, statistics: Mapping[str, Tensor], deadband: float
) -> Tensor:
    """Return the presence () of haze, as large as it may be for `LOST`.

    No scene is black where it was not: black in the result means that the haze was overestimated,
    most of all in scenes with an offset in all their values.

    Parameters
    ----------
    x
        (1, 3, h, w) the overview in model range, thinned by `step_of`.
    valid
        (1, 1, h, w) float, 0 or 1.
    statistics
        Those of the model, with ``maps`` of the whole overview.
    deadband
        As in `inverted`.
    """
    airlight = statistics["airlight"][None, :, None, None]
    bright = (x.amin(1, keepdim=True) * statistics["brightness"] > DARK) & (valid > 0)
    most = LOST * float(valid.sum())

    def loses(share: float) -> bool:
        scaled = {**statistics, "presence": statistics["presence"] * share}
        lost = 0.0
        for rows, depth in depth_by_strips(x, scaled):
            y, _ = inverted(x[rows], depth, airlight, scaled, deadband)
            black = y.amin(1, keepdim=True) * statistics["brightness"] < BLACK
            lost += float((black & bright[rows]).sum())
        return lost > most

    if not loses(1.0):
        return statistics["presence"]
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if loses(middle) else (middle, high)
    return statistics["presence"] * low
