"""Augmentations of clear crops: exposure, colour, even haze, sky, and mixing of crops."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_restore.training.data._recipe import Recipe
from napari_restore.training.haze import LUMA

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Generator = np.random.Generator

BRIGHTEST = 1.05
"""Largest luma of the brightest hundredth of an image after exposure."""
LIFT = 3.0
"""Largest factor of exposure for the median luma of a dark image."""
MAX_EVEN_HAZE = 0.2
"""Largest share of even haze that stays in a clear image."""
GAMMA_LIMITS = (0.6, 1.6)
"""Limits of the exponent of exposure, where a gain alone would clip."""


def exposed(clear: Array, target: float, median: float, bright: float) -> Array:
    """Return (h, w, 3) exposed so that the median luma of the whole image is `target`.

    A gain as far as its brightest parts (luma `bright`) allow, a power for the remainder: a gain
    preserves black, as exposure does, while a power lifts it, as haze does.
    """
    median = float(np.clip(median, 0.01, 0.99))
    # A stronger lift would turn night images uniformly grey.
    target = min(target, LIFT * median)
    gain = float(np.clip(target / median, 0.4, max(1.0, BRIGHTEST / max(bright, 0.05))))
    reached = min(0.99, median * gain)
    gamma = float(np.clip(np.log(target) / np.log(reached), *GAMMA_LIMITS))
    lit: Array = np.clip(clear * np.float32(gain), 0, 1)
    if abs(gamma - 1) > 0.02:
        lit **= np.float32(gamma)
    return lit


def changed_colours(clear: Array, rng: Generator, recipe: Recipe) -> Array:
    """Return (h, w, 3) with random white balance, saturation and gamma."""
    gains = (1 + rng.uniform(-recipe.gain, recipe.gain, 3)).astype(np.float32)
    low, high = np.log(recipe.saturation)
    saturation = np.float32(np.exp(rng.uniform(low, high)))
    low, high = np.log(recipe.gamma)
    gamma = np.float32(np.exp(rng.uniform(low, high)))
    out: Array = clear * gains
    grey = (out @ LUMA)[..., None] * (1 - saturation)
    out *= saturation
    out += grey
    np.clip(out, 0, 1, out=out)
    out **= gamma
    return out


def with_even_haze(clear: Array, rng: Generator) -> Array:
    """Return (h, w, 3) under thin, even, nearly grey haze, which lifts black."""
    part = rng.uniform(0, MAX_EVEN_HAZE)
    veil = rng.uniform(0.7, 1.0) * (1 + rng.uniform(-0.1, 0.1, 3))
    out: Array = clear * np.float32(1 - part)
    out += (part * veil).astype(np.float32)
    return np.clip(out, 0, 1, out=out)


def cut_and_paste(
    clear: Array, valid: Mask, other: Array, other_valid: Mask, rng: Generator
) -> tuple[Array, Mask]:
    """Combine two crops: along a straight edge, or one as a patch in the other."""
    height, width = valid.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    if rng.random() < 0.5:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4)
        chosen = x * np.cos(angle) + y * np.sin(angle) > offset
    else:
        cy, cx = rng.uniform(-0.6, 0.6, 2)
        hy, hx = rng.uniform(0.2, 0.7, 2)
        chosen = (np.abs(y - cy) < hy) & (np.abs(x - cx) < hx)
    return np.where(chosen[..., None], other, clear), np.where(chosen, other_valid, valid)


def synthetic_sky(clear: Array, valid: Mask, rng: Generator) -> tuple[Array, Mask, Array]:
    """Replace the upper part of an image by a synthetic sky above a ridge.

    Returns image (h, w, 3), validity (h, w) and distance (h, w), 0 near to 1 far: the ground recedes
    to the ridge; the sky has one distance, or a decreasing one upwards, as air thins out.
    """
    height, width = valid.shape
    horizon = float(rng.uniform(0.15, 0.6)) * height
    knots = np.cumsum(rng.standard_normal(int(rng.integers(4, 40)))) * rng.uniform(0, 0.03)
    # The ridge does not reach below the horizon.
    knots -= knots.max()
    ridge = np.interp(np.linspace(0, len(knots) - 1, width), np.arange(len(knots)), knots)
    ridge = np.clip(horizon + ridge * height, 2, horizon)
    rows = np.arange(height, dtype=np.float32)[:, None]
    cover = np.clip(ridge[None, :] - rows + 0.5, 0, 1).astype(np.float32)
    sky = _sky(rng, np.clip(1 - rows / np.float32(ridge.max()), 0, 1), width)
    picture = cover[..., None] * sky + (1 - cover[..., None]) * clear
    # The ground ends at the horizon; objects above it have the distance of the horizon.
    ground = np.clip((rows - horizon) / (height - horizon), 0, 1)
    distance = (1 - ground) ** rng.uniform(0.8, 3.0)
    thin = float(rng.uniform(0.0, 0.7))
    above = 1 - thin * np.clip((ridge[None, :] - rows) / ridge[None, :], 0, 1)
    far = np.where(cover > 0.5, above, distance).astype(np.float32)
    return picture.astype(np.float32), valid | (cover > 0.99), far


def _sky(rng: Generator, up: npt.NDArray[np.floating], width: int) -> Array:
    """Draw a sky (h, width, 3) from the horizon (`up` (h, 1) 0) to the zenith (1): blue, grey or warm."""
    kind = rng.random()
    if kind < 0.7:
        zenith = np.array([rng.uniform(0.08, 0.4), rng.uniform(0.25, 0.6), rng.uniform(0.55, 0.95)])
        pale = rng.uniform(0.1, 0.8)
        low = zenith + (np.array([0.85, 0.9, 0.95]) - zenith) * pale
    elif kind < 0.88:
        grey = rng.uniform(0.45, 0.95)
        zenith = grey + rng.uniform(-0.03, 0.05, 3)
        low = zenith + rng.uniform(-0.08, 0.12)
    else:
        zenith = np.array([rng.uniform(0.1, 0.4), rng.uniform(0.15, 0.4), rng.uniform(0.35, 0.7)])
        low = np.array([rng.uniform(0.8, 1.0), rng.uniform(0.45, 0.75), rng.uniform(0.25, 0.6)])
    curve = up ** rng.uniform(0.5, 1.5)
    across = 1 + rng.uniform(-0.08, 0.08) * np.linspace(-1, 1, width)
    colour = low + (zenith - low) * curve[..., None]
    sky: Array = np.clip(colour * across[None, :, None], 0, 1).astype(np.float32)
    return sky
