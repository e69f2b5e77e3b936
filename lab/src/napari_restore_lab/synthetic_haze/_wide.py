"""Haze for training from many distributions, so that no generator reveals its amount."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_restore.extension import light_of_srgb, srgb_of_light
from napari_restore_lab._questions import SceneKind
from napari_restore_lab.synthetic_haze._draw import THICKEST
from napari_restore_lab.synthetic_haze._fields import SPECTRA
from napari_restore_lab.synthetic_haze._sampled import cells_of, enlarged
from napari_restore_lab.synthetic_haze._scatter import Haze
from napari_restore_lab.synthetic_haze._synthetic_distance import synthetic_distance

Array = npt.NDArray[np.float32]

LAYERS = 0.2
"""Share of natural scenes under a layer that does not grow with distance."""
KNOWN = 0.85
"""Share of natural scenes with known distances that use them."""
DARKEST_AIRLIGHT = 0.3
MIDDLE_GREY = (0.3, 0.62)
"""Range of the median luminance that a camera exposes haze to."""


def draw_wide(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    scene: SceneKind,
    spectrum: str,
    extent: float,
    distance: Array | None,
    guide: Array,
    distances: Mapping[str, float] | None = None,
) -> Haze:
    """Draw haze for an image, as `draw_haze`, with wider distributions of depth and light.

    Synthetic distances may follow `guide`, (h, w) luminance 0 to 1; `distances` are the weights of
    their kinds, see `synthetic_distance`.
    """
    field = _field(rng, shape, spectrum, extent)
    if scene == "aerial" or rng.random() < LAYERS:
        depth = _layer(rng, field)
    else:
        if distance is None or rng.random() > KNOWN:
            distance = synthetic_distance(rng, shape, guide, distances)
        depth = _receding(rng, field, distance)
    return Haze(
        np.clip(depth, 0, THICKEST).astype(np.float32),
        _airlight(rng, scene),
        _exponent(rng),
        bool(rng.random() < 0.5),
    )


def metered(
    rng: np.random.Generator,
    clear: Array,
    hazy: Array,
    haze: Haze,
    median: float,
    grey: tuple[float, float] = MIDDLE_GREY,
) -> tuple[Array, Haze]:
    """Expose a clear image (h, w, 3) and its haze as a camera metered for the haze.

    The `median` luminance of the hazy image becomes a `grey`, and its colours may be balanced.
    Both are camera settings, so they apply to the clear image as well, which becomes darker.
    """
    target = rng.uniform(*grey)
    seen = max(median, 0.02)
    if haze.linear:
        wanted, found = light_of_srgb(np.array([target, seen], np.float32))
        gain = float(wanted / found)
    else:
        gain = target / seen
    colours = np.ones(3)
    if rng.random() < 0.5:
        average = hazy.reshape(-1, 3).mean(axis=0) + 1e-3
        colours = (average.mean() / average) ** rng.uniform(0, 1)
    gains = float(np.clip(gain, 0.15, 1.5)) * np.clip(colours, 0.8, 1.25)

    def exposed(values: Array) -> Array:
        if haze.linear:
            lit = srgb_of_light(light_of_srgb(values) * gains.astype(np.float32))
        else:
            lit = values * gains.astype(np.float32)
        return np.clip(lit, 0, 1).astype(np.float32)

    light = None if haze.light is None else exposed(haze.light)
    return exposed(clear), replace(haze, airlight=exposed(haze.airlight), light=light)


def _field(rng: np.random.Generator, shape: tuple[int, int], spectrum: str, extent: float) -> Array:
    """Draw a field (h, w), at least 0, with a mean of about 1 and various tails."""
    family = SPECTRA[spectrum]
    field = family.draw(rng, cells_of(shape, family.cell), extent)
    kind = rng.random()
    if kind < 0.4:
        shaped = field / max(0.2, float(field.mean()))
    elif kind < 0.7:
        power = np.exp(rng.uniform(np.log(0.4), np.log(4.0)))
        shaped = np.clip(field, 0, 1) ** power
        shaped = shaped / max(0.1, float(shaped.mean()))
    else:
        # Log-distributed: thick cores, no fully clear pixels.
        strength = rng.uniform(0.5, 4.0)
        shaped = np.exp(strength * (field - float(field.mean())))
        shaped = shaped / float(shaped.mean())
    return enlarged(shaped.astype(np.float32), shape)


def _thickness(rng: np.random.Generator) -> float:
    """Draw a mean optical depth: uniform in transmission, logarithm or depth, or mostly thin.

    The median is 0.6: for ambiguous images a network predicts the median of its training data.
    """
    kind = int(rng.integers(4))
    if kind == 0:
        return float(-np.log(rng.uniform(0.1, 0.95)))
    if kind == 1:
        return float(np.exp(rng.uniform(np.log(0.12), np.log(2.0))))
    if kind == 2:
        return float(rng.uniform(0.05, 1.6))
    return float(abs(rng.normal(0, 0.85)) + 0.04)


def _layer(rng: np.random.Generator, field: Array) -> Array:
    """Draw the optical depth of a layer: a constant plus a field."""
    kind = rng.random()
    even = 0.0 if kind < 0.3 else rng.uniform(0, 1) if kind < 0.8 else rng.uniform(0.85, 1)
    depth: Array = np.float32(_thickness(rng)) * (np.float32(even) + np.float32(1 - even) * field)
    return depth


def _receding(rng: np.random.Generator, field: Array, distance: Array) -> Array:
    """Draw an optical depth that grows with distance, with variations."""
    kind = rng.random()
    if kind < 0.4:
        far = -np.log(rng.uniform(0.05, 0.85))
    elif kind < 0.8:
        far = np.exp(rng.uniform(np.log(0.25), np.log(3.0)))
    else:
        far = 2 * _thickness(rng)
    uneven = np.float32(rng.uniform(0, 0.6) if rng.random() < 0.7 else 0.0)
    bent = np.clip(distance, 0, None) ** np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    near = rng.uniform(0, 0.5) if rng.random() < 0.4 else 0.0
    depth: Array = (near + far * bent * (1 + uneven * (field - 1))).astype(np.float32)
    return depth


def _airlight(rng: np.random.Generator, scene: SceneKind) -> Array:
    """Draw an airlight: grey, tinted, or warm as under a low sun."""
    grey = rng.uniform(0.4, 1.0) if rng.random() < 0.4 else rng.uniform(0.7, 1.0)
    kind, tint = rng.random(), np.zeros(3)
    if kind > 0.25:
        tint = rng.uniform(-0.06, 0.06, 3)
    if kind > 0.65:
        tint = tint + rng.uniform(-0.12, 0.12) * np.array([1.0, 0.15, -1.0])
    if kind > 0.92 and scene == "natural":
        tint = tint + rng.uniform(0, 0.3) * np.array([0.6, -0.3, -1.0])
    colour: Array = np.clip(grey + tint, DARKEST_AIRLIGHT, 1.0).astype(np.float32)
    return colour


def _exponent(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.25:
        return 0.0
    return float(rng.uniform(0, 1.4) if kind < 0.75 else rng.uniform(0, 0.5))
