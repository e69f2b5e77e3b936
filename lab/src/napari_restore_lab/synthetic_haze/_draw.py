"""Draws the haze of one scene: optical depth, distribution, airlight."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_restore.extension import BadParameter
from napari_restore_lab._questions import SceneKind
from napari_restore_lab.synthetic_haze._fields import SPECTRA
from napari_restore_lab.synthetic_haze._sampled import cell_means, cells_of, enlarged
from napari_restore_lab.synthetic_haze._scatter import Haze

Array = npt.NDArray[np.float32]

CELL = 4
"""Pixels per cell of the guide of a synthetic distance."""
MOST_CELLS = 4096
"""Most cells along the longer side of a field, limited by memory."""
THICKEST = 2.2
"""Largest optical depth: a transmission of one ninth."""
STRENGTH = (0.35, 0.92)
"""Default range of exp(−mean optical depth)."""


def draw_haze(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    scene: SceneKind,
    spectrum: str,
    extent: float = 1.0,
    distance: Array | None = None,
    guide: Array | None = None,
    strength: tuple[float, float] = STRENGTH,
) -> Haze:
    """Draw haze for an image.

    Parameters
    ----------
    rng
        Source of all randomness.
    shape
        (h, w) in pixels.
    scene
        Aerial haze is a field of the spectrum. Natural haze grows with distance.
    spectrum
        A name of `SPECTRA`; natural haze is modulated by it.
    extent
        Side of the virtual scene over that of the picture, at least 1.
    distance
        (h, w), 0 near to 1 far, of a natural scene; else synthetic: a ramp to a
        horizon, with noise.
    guide
        (h, w) luminance 0 to 1; a synthetic distance then also follows its coarse structure,
        as distant objects often differ in brightness from near ones.
    strength
        Range of exp(−mean optical depth) of aerial scenes. For natural ones the
        transmission of the far end is drawn from it, times 0.4 to 1, at least 0.08.
    """
    if spectrum not in SPECTRA:
        raise BadParameter(
            f"There is no spectrum {spectrum!r}.", f"There are: {', '.join(SPECTRA)}."
        )
    if scene == "aerial":
        field = _aerial(rng, shape, spectrum, extent, strength)
        return Haze(field, _airlight(rng, 0.72, 1.0), _exponent(rng, 1.3), bool(rng.random() < 0.5))
    field = _natural(rng, shape, spectrum, extent, distance, guide, strength)
    return Haze(field, _airlight(rng, 0.62, 1.0), _exponent(rng, 0.6), bool(rng.random() < 0.5))


def _aerial(
    rng: np.random.Generator,
    shape: tuple[int, int],
    spectrum: str,
    extent: float,
    strength: tuple[float, float],
) -> Array:
    """Draw the optical depth of a layer: a constant plus a field."""
    field = SPECTRA[spectrum].draw(rng, _cells(shape, spectrum), extent)
    mean = -np.log(rng.uniform(*strength))
    uneven = rng.uniform(0, 1) if rng.random() < 0.7 else 1.0
    tau = mean * ((1 - uneven) + uneven * field / max(0.2, float(field.mean())))
    return enlarged(np.clip(tau, 0, THICKEST).astype(np.float32), shape)


def _natural(
    rng: np.random.Generator,
    shape: tuple[int, int],
    spectrum: str,
    extent: float,
    distance: Array | None,
    guide: Array | None,
    strength: tuple[float, float],
) -> Array:
    """Draw an optical depth that grows with distance, with small variations."""
    far = -np.log(max(0.08, rng.uniform(*strength) * rng.uniform(0.4, 1.0)))
    if distance is None:
        distance = _synthetic_ramp(rng, shape, guide)
    field = enlarged(SPECTRA[spectrum].draw(rng, _cells(shape, spectrum), extent), shape)
    uneven = rng.uniform(0, 0.5)
    tau = far * distance * (1 + uneven * (2 * field - 1))
    if rng.random() < 0.3:
        # A constant part, also for near objects.
        tau = tau + rng.uniform(0, 0.3)
    thickness: Array = np.clip(tau, 0, THICKEST).astype(np.float32)
    return thickness


def _synthetic_ramp(rng: np.random.Generator, shape: tuple[int, int], guide: Array | None) -> Array:
    """Draw a distance, 0 near to 1 far: ground to a horizon, and objects above it."""
    height, width = shape
    tilt = rng.uniform(-0.08, 0.08) * np.linspace(-0.5, 0.5, width)
    y = np.linspace(0, 1, height)[:, None] + tilt[None, :]
    horizon = rng.uniform(0.0, 0.6)
    ground = np.clip((y - horizon) / (1 - horizon), 0, 1)
    distance = (1 - ground) ** rng.uniform(0.8, 3.0)
    wall = enlarged(SPECTRA["octaves"].draw(rng, _cells(shape, "octaves"), 1.0), shape)
    distance = distance * (1 + rng.uniform(0, 0.5) * (2 * wall - 1))
    if guide is not None:
        parts = enlarged(cell_means(guide, CELL), shape)
        distance = distance + rng.uniform(0.2, 0.9) * (parts - float(parts.mean()))
    low = rng.uniform(0, 0.3)
    result: Array = (low + (1 - low) * np.clip(distance, 0, 1.1)).astype(np.float32)
    return result


def _airlight(rng: np.random.Generator, low: float, high: float) -> Array:
    """Draw a bright grey with a tint, occasionally a stronger one towards blue or amber."""
    tint = rng.uniform(-0.05, 0.05, 3)
    if rng.random() < 0.2:
        tint += rng.uniform(-0.09, 0.09) * np.array([1.0, 0.2, -1.0])
    colour: Array = np.clip(rng.uniform(low, high) + tint, 0.4, 1.0).astype(np.float32)
    return colour


def _exponent(rng: np.random.Generator, most: float) -> float:
    return float(rng.uniform(0, most)) if rng.random() < 0.8 else 0.0


def _cells(shape: tuple[int, int], spectrum: str) -> tuple[int, int]:
    # Large images need larger cells.
    return cells_of(shape, max(SPECTRA[spectrum].cell, -(-max(shape) // MOST_CELLS)))
