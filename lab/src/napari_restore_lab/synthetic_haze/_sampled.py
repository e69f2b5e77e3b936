"""Interpolation of random lattices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import grid_sample, interpolate

Array = npt.NDArray[np.float32]


def value_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: float, stretch: float
) -> Array:
    """Draw bicubic noise of unit variance with about `cells` cells across."""
    rows, columns = cells * stretch, cells / stretch
    lattice = rng.standard_normal((1, 1, int(rows) + 5, int(columns) + 5), np.float32)
    y = rng.uniform(1, 2) + np.linspace(0, rows, shape[0], dtype=np.float32)
    x = rng.uniform(1, 2) + np.linspace(0, columns, shape[1], dtype=np.float32)
    return sampled(lattice, y, x)


def sampled(lattice: Array, y: npt.NDArray[np.floating], x: npt.NDArray[np.floating]) -> Array:
    """Interpolate the lattice (1, 1, H, W) at rows `y` and columns `x`, bicubic."""
    height, width = lattice.shape[2:]
    gy = torch.from_numpy((2 * y / (height - 1) - 1).astype(np.float32))
    gx = torch.from_numpy((2 * x / (width - 1) - 1).astype(np.float32))
    grid = torch.stack([gx[None, :].expand(len(y), -1), gy[:, None].expand(-1, len(x))], dim=-1)[
        None
    ]
    out = grid_sample(
        torch.from_numpy(lattice), grid, mode="bicubic", padding_mode="border", align_corners=True
    )
    values: Array = out[0, 0].numpy()
    return values


def cells_of(shape: tuple[int, int], cell: int) -> tuple[int, int]:
    """Return rows and columns of a grid of `cell` pixels that covers `shape`, at least 2 each."""
    return max(2, -(-shape[0] // cell)), max(2, -(-shape[1] // cell))


def cell_means(values: Array, cell: int) -> Array:
    """Return the means of whole cells of `cell` × `cell` pixels of values (h, w) or (h, w, C).

    An image that is narrower than a cell is one cell across.
    """
    tall, wide = (min(cell, side) for side in values.shape[:2])
    height, width = values.shape[0] // tall, values.shape[1] // wide
    cut = values[: height * tall, : width * wide]
    cells = cut.reshape(height, tall, width, wide, *values.shape[2:])
    means: Array = cells.mean(axis=(1, 3)).astype(np.float32)
    return means


def spread(field: Array) -> Array:
    """Map values of about unit variance to 0 … 1 by a logistic approximation of the normal CDF."""
    spread: Array = (1 / (1 + np.exp(np.float32(-1.7) * field))).astype(np.float32)
    return spread


def enlarged(field: Array, shape: tuple[int, int]) -> Array:
    """Resize (h, w) bilinearly to `shape`."""
    fine = interpolate(
        torch.from_numpy(np.ascontiguousarray(field))[None, None],
        shape,
        mode="bilinear",
        align_corners=False,
    )
    values: Array = fine[0, 0].numpy()
    return values
