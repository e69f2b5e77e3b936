"""Fog for training: opaque in places, drifting, unevenly lit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_restore_lab._questions import SceneKind
from napari_restore_lab.synthetic_haze._sampled import cells_of, enlarged, value_noise
from napari_restore_lab.synthetic_haze._scatter import Haze

Array = npt.NDArray[np.float32]

OPAQUE = (0.02, 0.5)
"""Range of the transmission of the thickest fog …"""
BEFORE = (0.75, 1.0)
"""… and of that of the thinnest: a veil lies before everything."""
FOG_GREY = (0.3, 0.7)
"""Range of the median luminance that a camera exposes fog to."""
CELL = 4
"""Pixels per cell of the fields."""


def draw_fog(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    scene: SceneKind,
    extent: float,
    distance: Array,
) -> Haze:
    """Draw fog for an image, as `draw_haze`, to be `metered` after it.

    In natural scenes it grows with `distance`, (h, w), 0 near to 1 far; from above it is a layer.
    """
    cells = cells_of(shape, CELL)
    bank = _banks(rng, cells, extent)
    if scene == "natural" and rng.random() < 0.75:
        far = enlarged(distance, cells) ** np.float32(np.exp(rng.uniform(-0.7, 0.7)))
        drift = np.float32(rng.uniform(0.2, 0.9))
        bank = far * (1 - drift + drift * bank)
    thin, thick = (-np.log(rng.uniform(*some)) for some in (BEFORE, OPAQUE))
    depth = enlarged((thin + (thick - thin) * bank).astype(np.float32), shape)
    light = enlarged_colours(_light(rng, cells, scene), shape)
    share = 1 - np.exp(-depth)
    mean = (light * share[..., None]).sum((0, 1)) / max(float(share.sum()), 1e-6)
    exponent = 0.0 if rng.random() < 0.6 else float(rng.uniform(0, 0.4))
    return Haze(depth, mean.astype(np.float32), exponent, bool(rng.random() < 0.5), light)


def enlarged_colours(field: Array, shape: tuple[int, int]) -> Array:
    """Resize (h, w, 3) bilinearly to `shape`."""
    return np.stack([enlarged(field[..., band], shape) for band in range(3)], axis=-1)


def _banks(rng: np.random.Generator, cells: tuple[int, int], extent: float) -> Array:
    """Draw drifting fog, 0 to 1: banks with sharp or soft edges, uneven within."""
    coarse = np.exp(rng.uniform(np.log(0.7), np.log(5.0))) / extent
    stretch = float(np.exp(rng.uniform(-0.6, 0.6)))
    field = np.zeros(cells, np.float32)
    rough = rng.uniform(0.3, 0.65)
    for octave in range(5):
        part = value_noise(rng, cells, max(0.3, coarse * 2**octave), stretch)
        field += np.float32(rough**octave) * part
    field /= max(float(field.std()), 0.05)
    level = rng.uniform(-0.6, 1.8)
    edge = np.exp(rng.uniform(np.log(0.15), np.log(3.0)))
    bank: Array = np.clip((field - level) / edge + 0.5, 0, 1)
    bank = bank * bank * (3 - 2 * bank)
    fill = np.float32(rng.uniform(0, 0.4) if rng.random() < 0.5 else 0.0)
    inner = value_noise(rng, cells, max(0.5, 3 * coarse), 1.0)
    bank = bank * np.clip(1 + np.float32(rng.uniform(0, 0.25)) * inner, 0.2, 1.5)
    result: Array = np.clip(fill + (1 - fill) * bank, 0, 1).astype(np.float32)
    return result


def _light(rng: np.random.Generator, cells: tuple[int, int], scene: SceneKind) -> Array:
    """Draw the airlight (h, w, 3): a smooth field of two or three, and perhaps a sun behind."""
    count = int(rng.integers(1, 4))
    grey = rng.uniform(0.5, 0.95)
    colours = [_colour(rng, grey * np.exp(rng.normal(0, 0.12))) for _ in range(count)]
    logits = np.stack([2.5 * value_noise(rng, cells, rng.uniform(0.5, 1.6), 1.0) for _ in colours])
    weights = np.exp(logits - logits.max(axis=0))
    weights /= weights.sum(axis=0)
    light = np.einsum("khw,kc->hwc", weights, np.stack(colours))
    if rng.random() < (0.4 if scene == "natural" else 0.15):
        y, x = np.meshgrid(*(np.linspace(0, 1, side) for side in cells), indexing="ij")
        cy, cx = rng.uniform(-0.2, 0.6), rng.uniform(-0.1, 1.1)
        glow = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * rng.uniform(0.08, 0.5) ** 2))
        warm = 1 + rng.uniform(0, 0.25) * np.array([1.0, 0.2, -1.0])
        light = light * (1 + rng.uniform(0.1, 0.7) * glow[..., None] * warm)
    result: Array = np.clip(light, 0.2, 1.0).astype(np.float32)
    return result


def _colour(rng: np.random.Generator, grey: float) -> npt.NDArray[np.floating]:
    """Draw a nearly grey light, at times warm or blue."""
    tint = rng.normal(0, 0.012, 3)
    if rng.random() < 0.3:
        tint = tint + rng.uniform(-0.07, 0.07) * np.array([1.0, 0.1, -1.0])
    return grey * (1 + tint)
