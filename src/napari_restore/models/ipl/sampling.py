"""What tiles give to the samples of a cube: lists by tile, which are merged into all samples.

A sample is a weighted sum of the up to four cells around it, so every tile adds what its own cells
give. A tile of a large image gives something to a few samples only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.models._steps import Shapes, Sums, cell_places
from napari_restore.models._sweeps import NUMBER
from napari_restore.models.ipl.config import STRIDE
from napari_restore.models.ipl.cube import interpolated, most_given, taps

SAMPLES = "samples"
"""Count of a tile: rows of a sample's number and its channels."""
ALL = "all"
"""Count of merged tiles: the channels of all samples."""
PLACE = 4
"""Numbers that tell a cell's place: its row and column, and the rows and columns of the image."""


class CellBox(NamedTuple):
    """A box of cells in an image."""

    first: tuple[int, int]
    """Row and column of its first cell."""
    size: tuple[int, int]
    """Rows and columns of cells of the image."""


def as_map(places: Sequence[CellBox], like: Tensor) -> Tensor:
    """Return the place (N, 4, h, w) float64 of every cell of maps (N, C, h, w)."""
    out = like.new_empty(len(places), PLACE, *like.shape[2:], dtype=torch.float64)
    for one, place in zip(out, places, strict=True):
        one[:2] = cell_places(place.first, like)
        one[2], one[3] = place.size
    return out


def shapes(side: int, tile: int, size: tuple[int, int]) -> Shapes:
    """Return the shapes of what a tile of an image gives to a cube of `side`, in pixels."""
    rows, columns = (most_given(-(-each // STRIDE), side, tile // STRIDE) for each in size)
    return {SAMPLES: (rows * columns, 1 + side), NUMBER: ()}


def merged_shapes(side: int) -> Shapes:
    """Return the shapes of what all tiles give to a cube of `side`."""
    return {ALL: (side**2, side)}


def count(side: int, features: Mapping[str, Tensor], _: Tensor | None) -> Sums:
    """Return what the cores of tiles (N, C, h, w) give to the samples of a cube of `side`."""
    listed = [
        _given(side, x, place)
        for x, place in zip(features["features"], features["place"], strict=True)
    ]
    longest = max(len(rows) for rows in listed)
    padded = [functional.pad(rows, (0, 0, 0, longest - len(rows))) for rows in listed]
    numbers = listed[0].new_tensor([len(rows) for rows in listed])
    return {SAMPLES: torch.stack(padded), NUMBER: numbers}


def _given(side: int, x: Tensor, place: Tensor) -> Tensor:
    """Return the rows (samples, 1 + C) float64 of one tile (C, h, w)."""
    first_row, first_column, height, width = (int(value) for value in place[:, 0, 0].tolist())
    rows, row_numbers = taps(height, side, x.device).within(first_row, x.shape[1])
    columns, column_numbers = taps(width, side, x.device).within(first_column, x.shape[2])
    # A sample is rounded when all tiles have given their share of it.
    given = interpolated(x[None].double(), rows, columns)[0].flatten(1).T
    numbers = (row_numbers[:, None] * side + column_numbers).flatten()
    return torch.cat([numbers[:, None].double(), given], dim=1)


def merge(side: int, earlier: Sums, following: Sums) -> Sums:
    """Return what earlier tiles and the next one give to all samples, added up in place."""
    total = earlier[ALL] if ALL in earlier else _all(side, earlier)
    _add(total[0], following[SAMPLES][0], int(following[NUMBER]))
    return {ALL: total}


def of_tile(by_all: Sums, _: Sums, own: Sums) -> Sums:
    """Return ∂D/∂ of one tile's list, given that of all samples."""
    if SAMPLES in by_all:
        return by_all  # of the only tile
    used = own[SAMPLES][0, : int(own[NUMBER])]
    by_own = torch.zeros_like(own[SAMPLES])
    by_own[0, : len(used), 1:] = by_all[ALL][0, used[:, 0].long()]
    return {SAMPLES: by_own}


def cube_of(sums: Sums, side: int) -> Tensor:
    """Return the samples (N, C, rows, columns) float64 of images."""
    total = sums[ALL] if ALL in sums else _all(side, sums)
    return total.transpose(1, 2).reshape(len(total), side, side, side)


def _all(side: int, sums: Sums) -> Tensor:
    """Return all samples (N, rows · columns, C) of lists."""
    empty = sums[SAMPLES].new_zeros(side**2, side)
    each = zip(sums[SAMPLES], sums[NUMBER].reshape(-1), strict=True)
    return torch.stack([_add(empty.clone(), rows, int(number)) for rows, number in each])


def _add(total: Tensor, rows: Tensor, number: int) -> Tensor:
    """Add the first `number` rows to the samples that they name."""
    used = rows[:number]
    return total.index_add_(0, used[:, 0].long(), used[:, 1:])
