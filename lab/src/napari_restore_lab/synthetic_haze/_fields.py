"""Smooth random fields: the spatial distribution of haze."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import grid_sample

from napari_restore_lab.synthetic_haze._sampled import sampled, spread, value_noise

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


Array = npt.NDArray[np.float32]
Draw = Callable[[np.random.Generator, tuple[int, int], float], Array]

GRID = 96
"""Side of the lattice of power-law fields of a whole scene."""


@dataclass(frozen=True)
class Spectrum:
    """A family of fields.

    `draw(rng, (h, w), extent)` returns (h, w) float32, about 0 to 1: a part of a field over
    a scene `extent` times as large. Haze must extend beyond a crop; otherwise a network learns
    that bright and even regions are hazy.
    """

    name: str
    description: str
    draw: Draw
    cell: int = 4
    """Pixels per cell of its grid."""
    for_scores: bool = False
    """Not used for training by default, so that scores are on unseen haze."""


def octaves(rng: np.random.Generator, shape: tuple[int, int], extent: float) -> Array:
    """Draw three to five octaves of value noise, each weaker than the one before."""
    count = int(rng.integers(3, 6))
    persistence = rng.uniform(0.3, 0.7)
    cells = np.exp(rng.uniform(np.log(1.0), np.log(6.0)))
    stretch = np.exp(rng.uniform(-0.5, 0.5))
    total, power = np.zeros(shape, np.float32), 0.0
    for octave in range(count):
        weight = persistence**octave
        total += weight * value_noise(rng, shape, cells * 2**octave / extent, stretch)
        power += weight**2
    return spread(total / np.sqrt(power))


def power_law(rng: np.random.Generator, shape: tuple[int, int], extent: float) -> Array:
    """Draw Gaussian noise whose power falls as f^−β, β from 2.2 to 3.4 (clouds: 8/3 to 3)."""
    beta = rng.uniform(2.2, 3.4)
    angle, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 0.9))
    fy, fx = np.meshgrid(np.fft.fftfreq(GRID), np.fft.rfftfreq(GRID), indexing="ij")
    along = fx * np.cos(angle) + fy * np.sin(angle)
    across = fy * np.cos(angle) - fx * np.sin(angle)
    frequency = np.hypot(along * stretch, across / stretch)
    frequency[0, 0] = np.inf
    amplitude = frequency ** (-beta / 2)
    phase = rng.standard_normal((2, *frequency.shape))
    field = np.fft.irfft2((phase[0] + 1j * phase[1]) * amplitude, s=(GRID, GRID))
    field = (field / field.std()).astype(np.float32)
    return spread(_window(rng, field, shape, extent))


def thin_cloud(rng: np.random.Generator, shape: tuple[int, int], extent: float) -> Array:
    """Draw wisps: noise above a threshold."""
    field = octaves(rng, shape, extent)
    low = rng.uniform(0.2, 0.6)
    wisps: Array = np.clip((field - low) / (1 - low), 0, 1) ** np.float32(rng.uniform(0.7, 1.6))
    return wisps


def even(rng: np.random.Generator, shape: tuple[int, int], extent: float) -> Array:
    """Draw a constant with a slope."""
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.6) / extent
    y, x = np.meshgrid(
        np.linspace(-0.5, 0.5, shape[0]), np.linspace(-0.5, 0.5, shape[1]), indexing="ij"
    )
    field: Array = (0.5 + slope * (x * np.cos(angle) + y * np.sin(angle))).astype(np.float32)
    return field


def plumes(rng: np.random.Generator, shape: tuple[int, int], extent: float) -> Array:
    """Draw long soft banks with one steep side, as of smoke and fog.

    Reserved for scores: not used for training.
    """
    origin = rng.uniform(0, 1 - 1 / extent, 2) if extent > 1 else np.zeros(2)
    y, x = np.meshgrid(
        origin[0] + (np.arange(shape[0]) + 0.5) / shape[0] / extent,
        origin[1] + (np.arange(shape[1]) + 0.5) / shape[1] / extent,
        indexing="ij",
    )
    total = np.zeros(shape)
    for _ in range(int(rng.integers(4, 11))):
        cy, cx = rng.uniform(-0.1, 1.1, 2)
        angle = rng.uniform(0, np.pi)
        length, width = rng.uniform(0.15, 0.7), rng.uniform(0.05, 0.25)
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        across = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        bank = np.exp(-((along / length) ** 2) - (across / width) ** 2)
        edge = 1 / (1 + np.exp(-across / rng.uniform(0.01, 0.06)))
        total += rng.uniform(0.3, 1.0) * bank * edge
    field: Array = np.clip(total / 1.2, 0, 1).astype(np.float32)
    return field


SPECTRA: dict[str, Spectrum] = {
    s.name: s
    for s in (
        Spectrum("octaves", "three to five octaves of value noise", octaves),
        Spectrum("power", "power-law noise, as clouds have it", power_law),
        Spectrum("thin-cloud", "wisps of thin cloud over clear ground", thin_cloud),
        Spectrum("even", "the same everywhere, or a slope", even),
        Spectrum("plumes", "long banks with one steep side", plumes, for_scores=True),
        Spectrum("fine", "power-law noise down to the pixel", fine, cell=1),
        Spectrum("filaments", "thin cloud in threads", filaments, cell=2),
        Spectrum("billows", "round lumps with thin gaps", billows, cell=2, for_scores=True),
    )
}


def _window(rng: np.random.Generator, field: Array, shape: tuple[int, int], extent: float) -> Array:
    """Return a part 1/`extent` as wide as the periodic `field`, at `shape`."""
    tiled = np.tile(field, (3, 3))
    side = field.shape[0]
    y0, x0 = rng.uniform(0, side, 2)
    longest = max(shape)
    step = side / extent / longest
    y = y0 + side / 2 + np.arange(shape[0], dtype=np.float32) * np.float32(step)
    x = x0 + side / 2 + np.arange(shape[1], dtype=np.float32) * np.float32(step)
    return sampled(tiled[None, None], y, x)
