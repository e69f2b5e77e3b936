"""Synthetic distances, 0 near to 1 far, by several generators."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from napari_restore_lab.synthetic_haze._fields import SPECTRA
from napari_restore_lab.synthetic_haze._sampled import cell_means, cells_of, enlarged, value_noise

Array = npt.NDArray[np.float32]
Maker = Callable[[np.random.Generator, tuple[int, int], Array], Array]

CELL = 4
"""Pixels per cell of smooth fields."""


def ramp(rng: np.random.Generator, shape: tuple[int, int], guide: Array) -> Array:
    """Draw ground to a horizon; above it a constant or decreasing distance."""
    y = _rows(rng, shape)
    horizon = rng.uniform(0.0, 0.7)
    ground = np.clip((y - horizon) / (1 - horizon), 0, 1)
    far = (1 - ground) ** rng.uniform(0.6, 4.0)
    above = np.clip((horizon - y) / max(horizon, 1e-3), 0, 1)
    thin = rng.uniform(0, 0.8) if rng.random() < 0.5 else 0.0
    distance: Array = (far * (1 - thin * above)).astype(np.float32)
    return distance


def planes(rng: np.random.Generator, shape: tuple[int, int], guide: Array) -> Array:
    """Draw up to four tilted planes, the nearest visible: streets, rooms, slopes."""
    y, x = _grid(shape)
    nearest = np.full(shape, np.inf)
    for _ in range(int(rng.integers(1, 5))):
        angle, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1.2)
        plane = rng.uniform(0.1, 1.0) + tilt * (
            np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)
        )
        nearest = np.minimum(nearest, np.clip(plane, 0, 1))
    return nearest.astype(np.float32)


def ridges(rng: np.random.Generator, shape: tuple[int, int], guide: Array) -> Array:
    """Draw hills behind each other, with jagged outlines."""
    y, _ = _grid(shape)
    count = int(rng.integers(2, 8))
    lines = np.sort(rng.uniform(0.05, 0.95, count))
    away = np.sort(rng.uniform(0, 1, count + 1))[::-1]
    distance = np.full(shape, away[0], np.float32)
    for line, value in zip(lines, away[1:], strict=True):
        steps = rng.standard_normal(int(rng.integers(8, 80)))
        walk = np.cumsum(steps) / np.sqrt(len(steps))
        top = line + rng.uniform(0.01, 0.1) * np.interp(
            np.linspace(0, len(walk) - 1, shape[1]), np.arange(len(walk)), walk
        )
        distance[y > top[None, :]] = value
    return distance


def segments(rng: np.random.Generator, shape: tuple[int, int], guide: Array) -> Array:
    """Draw a distance for each segment of the image, independent of its brightness."""
    count = int(rng.integers(3, 9))
    smooth = enlarged(cell_means(guide, int(rng.integers(2, 7))), shape)
    bounds = np.quantile(smooth, np.sort(rng.uniform(0.02, 0.98, count - 1)))
    part = np.searchsorted(bounds, smooth)
    if rng.random() < 0.6:
        # Equal brightness in different places means different objects.
        noise = value_noise(rng, shape, np.exp(rng.uniform(0, np.log(6))), 1.0)
        part = part + count * (noise > 0) + 2 * count * (noise > 1)
    away = rng.uniform(0, 1, 4 * count).astype(np.float32)
    distance = away[part]
    if rng.random() < 0.5:
        share = np.float32(rng.uniform(0.2, 0.8))
        distance = share * distance + (1 - share) * ramp(rng, shape, guide)
    return distance


def bright(rng: np.random.Generator, shape: tuple[int, int], guide: Array) -> Array:
    """Draw a ramp that also follows the coarse brightness of the image, with either sign."""
    parts = enlarged(cell_means(guide, CELL), shape)
    sign = 1 if rng.random() < 0.65 else -1
    wall = enlarged(SPECTRA["octaves"].draw(rng, cells_of(shape, CELL), 1.0), shape)
    far = ramp(rng, shape, guide) * (1 + rng.uniform(0, 0.5) * (2 * wall - 1))
    far = far + sign * rng.uniform(0.1, 0.9) * (parts - parts.mean())
    distance: Array = np.clip(far, 0, 1.1).astype(np.float32)
    return distance


DISTANCES: dict[str, Maker] = {
    maker.__name__: maker for maker in (ramp, planes, ridges, segments, bright)
}


def synthetic_distance(
    rng: np.random.Generator,
    shape: tuple[int, int],
    guide: Array,
    weights: Mapping[str, float] | None = None,
) -> Array:
    """Draw from one of `DISTANCES`; `guide` (h, w) is the picture's luminance, 0 to 1.

    `weights` by name; those that are not named are not drawn. By default all are alike.
    """
    names = tuple(DISTANCES if weights is None else weights)
    shares = np.array([1.0 if weights is None else weights[name] for name in names])
    name = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    return DISTANCES[name](rng, shape, guide)


def _grid(shape: tuple[int, int]) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    y, x = np.meshgrid(np.linspace(0, 1, shape[0]), np.linspace(0, 1, shape[1]), indexing="ij")
    return y, x


def _rows(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.floating]:
    """Return the vertical position of pixels, 0 to 1, with a small camera roll."""
    y, x = _grid(shape)
    down: npt.NDArray[np.floating] = y + rng.uniform(-0.1, 0.1) * (x - 0.5)
    return down
