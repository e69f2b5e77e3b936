"""Fields with structure at every scale: fine, filaments, billows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import grid_sample

from napari_restore.training.haze._sampled import spread, value_noise

Array = npt.NDArray[np.float32]

FINEST = 1024
"""Cells across a scene of the finest octave: one at most every 1.5 pixels below 1500 pixels."""


def fine(rng: np.random.Generator, shape: tuple[int, int], extent: float) -> Array:
    """Draw power-law noise down to the pixel, of amplitude f^−1.4 to f^−2.2."""
    slope = rng.uniform(1.4, 2.2)
    cells, stretch = np.exp(rng.uniform(0, np.log(4.0))), np.exp(rng.uniform(-0.5, 0.5))
    total, power = np.zeros(shape, np.float32), 0.0
    # In two dimensions the octave at f has amplitude f · f^−slope.
    for octave, noise in enumerate(_octaves(rng, shape, cells / extent, stretch)):
        weight = 2 ** (octave * (1 - slope))
        total += np.float32(weight) * noise
        power += weight**2
    return spread(total / np.float32(np.sqrt(power)))


def filaments(rng: np.random.Generator, shape: tuple[int, int], extent: float) -> Array:
    """Draw thin cloud: bright threads at zero crossings of noise, warped by larger noise."""
    threshold, sharpness = rng.uniform(0.0, 0.55), rng.uniform(1.0, 4.0)
    cells, stretch = np.exp(rng.uniform(np.log(1.5), np.log(5.0))), np.exp(rng.uniform(-1, 1))
    loss, bend = rng.uniform(0.4, 0.75), rng.uniform(0.0, 0.25)
    total, most = np.zeros(shape, np.float32), 0.0
    for octave, noise in enumerate(_octaves(rng, shape, cells / extent, stretch, most=5)):
        total += np.float32(loss**octave) * np.exp(-np.float32(sharpness) * np.abs(noise))
        most += loss**octave
    field = _bent(rng, total / np.float32(most), bend / extent, 2.0 * cells / extent)
    threads: Array = np.clip((field - threshold) / (1 - threshold), 0, 1)
    return threads


def billows(rng: np.random.Generator, shape: tuple[int, int], extent: float) -> Array:
    """Draw round lumps with thin gaps.

    Reserved for scores: not used for training.
    """
    cells, stretch = np.exp(rng.uniform(np.log(2.0), np.log(6.0))), np.exp(rng.uniform(-0.4, 0.4))
    gap = rng.uniform(0.0, 0.3)
    total = np.zeros(shape, np.float32)
    for octave, noise in enumerate(_octaves(rng, shape, cells / extent, stretch, most=6)):
        total += np.float32(0.5**octave) * np.abs(noise)
    lumps: Array = np.clip(total / np.float32(2.0) - np.float32(gap), 0, 1)
    return lumps


def _octaves(
    rng: np.random.Generator,
    shape: tuple[int, int],
    cells: float,
    stretch: float,
    most: int = 12,
) -> list[Array]:
    """Draw octaves of value noise of unit variance, each with twice the cells, down to the pixel.

    A larger image has more octaves; the state of `rng` afterwards is the same.
    """
    own = np.random.default_rng(rng.integers(2**63))
    made = []
    for octave in range(most):
        across = cells * 2**octave
        if octave and across > min(FINEST, max(shape) / 1.5):
            break
        made.append(value_noise(own, shape, across, stretch))
    return made


def _bent(rng: np.random.Generator, field: Array, most: float, cells: float) -> Array:
    """Warp `field` by random offsets of up to about `most` of its side."""
    height, width = field.shape
    away = [value_noise(rng, field.shape, cells, 1.0) * np.float32(2 * most) for _ in range(2)]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] + away[0]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] + away[1]
    grid = torch.from_numpy(np.stack([x, y], axis=-1))[None]
    out = grid_sample(
        torch.from_numpy(field)[None, None], grid, padding_mode="reflection", align_corners=True
    )
    values: Array = out[0, 0].numpy()
    return values
