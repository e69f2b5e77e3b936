"""Measures of how far a map spreads, and a smooth density of its mass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region
from napari_restore.explain.attribution._sums import Summed

Floats = npt.NDArray[np.floating]
RINGS = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
"""Edges in pixels from the box of the rings over which the mass is summed."""
EPSILON = 1e-7
"""Added to every magnitude, relative to the largest, as in the code of LAM."""
CHUNK_VALUES = 1 << 18
"""Values that are converted to float64 at a time."""
AREA_SHARE = 0.95
"""Share of the mass of which the area counts the pixels."""


def largest(values: Floats) -> float:
    """Return the largest magnitude of the finite values; 0 where there are none."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def diffusion_index(mass: Floats) -> float | None:
    """Return 100 · (1 − Gini) of (h, w) magnitudes: 100 if all are equal, near 0 for one pixel (LAM); None of zeros."""
    return _index(np.sort(mass, axis=None))


def spread(mass: Floats) -> tuple[float | None, int]:
    """Return `diffusion_index` and area, sorting `mass` in place: a copy of a map may be a gigabyte."""
    ordered = mass.reshape(-1)
    ordered.sort()
    return _index(ordered), _area(ordered)


def _index(ordered: Floats) -> float | None:
    largest = float(ordered[-1]) if ordered.size else 0.0
    if largest == 0:
        return None
    n = ordered.size
    weighted = total = 0.0
    # In pieces: a map may have 10⁹ pixels.
    for start in range(0, n, CHUNK_VALUES):
        piece = ordered[start : start + CHUNK_VALUES].astype(np.float64) / largest + EPSILON
        ranks = 2 * np.arange(start + 1, start + len(piece) + 1, dtype=np.float64) - n - 1
        # No product of a library that divides it among threads: equal bits on all machines.
        weighted += float((ranks * piece).sum())
        total += float(piece.sum())
    return 100 * (1 - weighted / (n * total))


def _area(ordered: Floats) -> int:
    """Return the number of largest pixels whose sum stays below `AREA_SHARE` of the mass (area of LAM)."""
    ordered = ordered[::-1]
    goal = AREA_SHARE * float(ordered.sum(dtype=np.float64))
    cumulated, count = 0.0, 0
    for start in range(0, ordered.size, CHUNK_VALUES) if goal else ():
        sums = cumulated + np.cumsum(ordered[start : start + CHUNK_VALUES], dtype=np.float64)
        count += int(np.searchsorted(sums, goal, side="left"))
        cumulated = float(sums[-1])
        if cumulated >= goal:
            break
    return count


def beside(at: npt.NDArray[Any], low: int, high: int) -> npt.NDArray[Any]:
    """Return how far pixels (n,) lie from those in [low, high), in pixels; 0 within."""
    away: npt.NDArray[Any] = np.maximum(np.maximum(low - at, at - high + 1), 0)
    return away


def rings(
    mass: Floats,
    region: Region,
    box: Region,
    edges: Sequence[int] = RINGS,
    step: int = 1,
    corner: tuple[int, int] = (0, 0),
) -> dict[str, float]:
    """Return shares of the mass in the box and by distance from it in pixels; they sum to 1.

    Names are ``"box"``, ``"0-8"`` … and ``"2048-"``. The distance is the larger one of the
    horizontal and vertical ones. With `step`, `mass` and `region` are of an overview whose pixels stand for blocks
    of so many, counted from `corner`. All are 0 for a map of zeros.
    """
    y = corner[0] + step * np.arange(region.y0, region.y1) + step // 2
    x = corner[1] + step * np.arange(region.x0, region.x1) + step // 2
    down, across = beside(y, box.y0, box.y1), beside(x, box.x0, box.x1)

    def within(distance: float) -> float:
        # Sums over growing boxes avoid an array of distances.
        rows = np.flatnonzero(down <= distance)
        columns = np.flatnonzero(across <= distance)
        if not len(rows) or not len(columns):
            return 0.0
        inner = mass[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return float(inner.sum(dtype=np.float64))

    inside = [within(edge) for edge in edges]
    total = float(mass.sum(dtype=np.float64))
    shares = {"box": inside[0]}
    for low, high, before, after in zip(edges, edges[1:], inside, inside[1:], strict=False):
        shares[f"{low}-{high}"] = after - before
    shares[f"{edges[-1]}-"] = total - inside[-1]
    return {name: value / total if total else 0.0 for name, value in shares.items()}


def contribution_area(mass: Floats) -> Floats:
    """Return the weighted Gaussian density of the map, (h, w) with maximum 1 (LAM).

    `scipy.stats.gaussian_kde` with these weights and Scott's factor, as one convolution: its
    kernels all have the covariance κ² · Cov_w, κ = n_eff^(−1/6), n_eff = (Σw)² / Σw².
    Zeros for a map of zeros.
    """
    mass = mass.astype(np.float64)
    total = mass.sum()
    if total == 0:
        return np.zeros_like(mass)
    weights = mass / total
    effective = 1 / np.square(weights).sum()
    y, x = (np.arange(n, dtype=np.float64) for n in mass.shape)
    rows, columns = weights.sum(axis=1), weights.sum(axis=0)
    y, x = y - rows @ y, x - columns @ x
    # Unbiased, as in scipy.
    scale = effective ** (-1 / 3) / max(1 - 1 / effective, 1e-12)
    variance_y, variance_x = rows @ y**2, columns @ x**2
    shared = y @ weights @ x
    # A map on one line or pixel has a singular covariance: add a small width.
    covariance = scale * np.array([[variance_y, shared], [shared, variance_x]])
    covariance += 1e-3 * np.eye(2)
    return _convolved(weights, covariance)


def _convolved(weights: Floats, covariance: Floats) -> Floats:
    """Convolve (h, w) weights with a Gaussian of `covariance`, by FFT; the maximum is 1."""
    height, width = weights.shape
    inverse = np.linalg.inv(covariance)
    reach = [int(np.ceil(4.5 * np.sqrt(covariance[k, k]))) for k in range(2)]
    reach = [min(r, n) for r, n in zip(reach, weights.shape, strict=True)]
    y = np.arange(-reach[0], reach[0] + 1, dtype=np.float64)[:, None]
    x = np.arange(-reach[1], reach[1] + 1, dtype=np.float64)
    kernel = np.exp(
        -0.5 * (inverse[0, 0] * y * y + 2 * inverse[0, 1] * y * x + inverse[1, 1] * x * x)
    )
    shape = [n + 2 * r for n, r in zip(weights.shape, reach, strict=True)]
    spread = np.fft.irfft2(np.fft.rfft2(weights, shape) * np.fft.rfft2(kernel, shape), shape)
    density = spread[reach[0] : reach[0] + height, reach[1] : reach[1] + width]
    density = np.maximum(density, 0)
    normalised: Floats = density / density.max()
    return normalised


def shares_of(total: Summed, frames: int) -> list[dict[str, float]]:
    """Return the sum of each frame's shares, and its share of the magnitude of all, 0 … 1.

    `total` has the bands of all frames, dark to bright. The magnitude is that of a pixel of a frame.
    """
    sums, mass = np.zeros(frames), np.zeros(frames)
    for strip in total.strips():
        part = total.finite(strip)
        by_frame = part.reshape(frames, -1, *part.shape[1:]).sum(axis=1)
        sums += by_frame.sum(axis=(1, 2))
        mass += np.abs(by_frame).sum(axis=(1, 2))
    mass /= max(mass.sum(), np.finfo(np.float64).tiny)
    return [{"sum": float(s), "mass": float(m)} for s, m in zip(sums, mass, strict=True)]
