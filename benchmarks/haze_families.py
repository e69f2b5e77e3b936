"""Families of haze for scores, made by numpy alone: nothing here is shared with training.

Each family is a function (generator, (h, w)) → optical depth at 550 nm (h, w), at
least 0. `draw` gives the haze of one scene in one family; it follows from the scene's
name, the family and the number of the draw.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

Array = np.ndarray
Rng = np.random.Generator

DEEPEST = 2.2
"""Largest optical depth."""
THICKNESS = ((0.1, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.3))
"""Ranges of a layer's mean optical depth; draw n takes range n modulo 4."""
FAR = ((0.3, 0.7), (0.7, 1.2), (1.2, 1.8), (1.8, 2.4))
"""The same of the depth at the far end of a scene that recedes."""


class Hazed(NamedTuple):
    """A hazy picture and what was done to it."""

    hazy: Array
    """(h, w, 3) float32, 8-bit display values from 0 to 1."""
    depth: Array
    """(h, w) float32 at 550 nm."""
    airlight: Array
    """(3,) display values from 0 to 1."""
    exponent: float
    linear: bool
    """Whether light adds up in linear light or in display values."""


def _power_law(rng: Rng, shape: tuple[int, int], slope: float) -> Array:
    """Gaussian field of unit variance, amplitude f^−slope, with the picture's own pixels."""
    side = 2 ** int(np.ceil(np.log2(max(shape))))
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    spectrum = rng.standard_normal((2, side, side // 2 + 1))
    field = np.fft.irfft2((spectrum[0] + 1j * spectrum[1]) * frequency**-slope, s=(side, side))
    field = field[: shape[0], : shape[1]]
    return (field - field.mean()) / max(float(field.std()), 1e-9)


def even(rng: Rng, shape: tuple[int, int], level: int) -> Array:
    return np.full(shape, rng.uniform(*THICKNESS[level]))


def _layer(rng: Rng, shape: tuple[int, int], level: int, slope: float) -> Array:
    field = _power_law(rng, shape, slope)
    shaped = np.exp(rng.uniform(0.3, 0.8) * field)
    if rng.random() < 0.5:
        shaped = np.clip(0.5 + rng.uniform(0.25, 0.5) * field, 0, None)
    return shaped / shaped.mean() * rng.uniform(*THICKNESS[level])


def smooth(rng: Rng, shape: tuple[int, int], level: int) -> Array:
    return _layer(rng, shape, level, rng.uniform(2.5, 3.2))


def fine(rng: Rng, shape: tuple[int, int], level: int) -> Array:
    return _layer(rng, shape, level, rng.uniform(1.4, 2.2))


def filaments(rng: Rng, shape: tuple[int, int], level: int) -> Array:
    """Threads along the zero lines of a field, on a thin veil, more in some parts than in others."""
    lines = np.exp(-np.abs(_power_law(rng, shape, 2.0)) / rng.uniform(0.1, 0.3))
    where = 1 / (1 + np.exp(-2 * _power_law(rng, shape, 2.8)))
    shaped = lines * where + rng.uniform(0, 0.2)
    return shaped / shaped.mean() * rng.uniform(*THICKNESS[level])


def _rows(shape: tuple[int, int]) -> tuple[Array, Array]:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y + 0.5) / shape[0], (x + 0.5) / shape[1]


def horizon(rng: Rng, shape: tuple[int, int], level: int) -> Array:
    """Flat ground in perspective: distance goes with 1 / (rows below the horizon)."""
    y, x = _rows(shape)
    line = rng.uniform(0.1, 0.55) + rng.uniform(-0.06, 0.06) * (x - 0.5)
    nearest = rng.uniform(0.05, 0.25)
    distance = np.where(y > line, nearest / (y - line + nearest), 1.0)
    return distance * rng.uniform(*FAR[level])


def planes(rng: Rng, shape: tuple[int, int], level: int) -> Array:
    """Slopes and walls without a horizon: the nearer of two tilted planes."""
    y, x = _rows(shape)
    made = []
    for _ in range(2):
        angle = rng.uniform(0, 2 * np.pi)
        along = (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
        made.append(rng.uniform(0.4, 0.8) + rng.uniform(0.3, 0.9) * along)
    return np.clip(np.minimum(*made), 0, 1) * rng.uniform(*FAR[level])


def segments(rng: Rng, shape: tuple[int, int], level: int) -> Array:
    """Pieces of any shape, each at a distance of its own that follows no brightness."""
    count = int(rng.integers(6, 40))
    y, x = _rows(shape)
    bent = 0.06 * np.stack([_power_law(rng, shape, 2.2) for _ in range(2)], -1)
    points = rng.uniform(0, 1, (count, 2))
    _, piece = cKDTree(points).query(np.stack([y, x], -1) + bent)
    away = 0.5 * rng.uniform(0, 1, count) + 0.5 * (1 - points[:, 0])
    return away[piece] * rng.uniform(*FAR[level])


Family = Callable[[Rng, tuple[int, int], int], Array]
FAMILIES: dict[str, dict[str, Family]] = {
    "aerial": {"even": even, "smooth": smooth, "fine": fine, "filaments": filaments},
    "natural": {"horizon": horizon, "planes": planes, "segments": segments, "layer": smooth},
}


def draw(clear: Array, name: str, kind: str, family: str, number: int) -> Hazed:
    """`clear` (h, w, 3) display values 0 to 1 under the haze of `family`, draw `number`.

    Half of all draws are in linear light, a third is grey; all have noise and 8 bits, a
    third of them has been a JPEG.
    """
    words = sha256(f"{family}/{number}/{PurePath(name).stem}".encode()).digest()
    rng = np.random.default_rng(np.frombuffer(words, "<u4").tolist())
    # In turn over the draws of a scene: it is seen in both kinds of light and several thicknesses.
    turn = sha256(PurePath(name).stem.encode()).digest()[0] + number
    linear, level = bool(turn % 2), (turn // 2) % 4
    exponent = 0.0 if rng.random() < 1 / 3 else float(rng.uniform(0.2, 1.2))
    airlight = np.clip(rng.uniform(0.6, 1.0) + rng.uniform(-0.05, 0.05, 3), 0.4, 1.0)
    if (clear == clear[..., :1]).all():
        airlight, exponent = np.full(3, airlight.mean()), 0.0
    depth = np.clip(FAMILIES[kind][family](rng, clear.shape[:2], level), 0, DEEPEST)
    t = np.exp(-depth[..., None] * (550 / np.array([650, 550, 450])) ** exponent)
    if linear:
        hazy = _display(_light(clear) * t + _light(airlight) * (1 - t))
    else:
        hazy = clear * t + airlight * (1 - t)
    hazy = hazy + 0.004 * rng.standard_normal(hazy.shape)
    codes = np.clip(hazy * 255 + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 1 / 3:
        codes = _jpeg(codes, int(rng.integers(75, 96)))
    return Hazed(
        codes.astype(np.float32) / np.float32(255),
        depth.astype(np.float32),
        airlight.astype(np.float32),
        exponent,
        linear,
    )


def _jpeg(codes: Array, quality: int) -> Array:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(codes).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _light(v: Array) -> Array:
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def _display(v: Array) -> Array:
    return np.where(v <= 0.0031308, v * 12.92, 1.055 * np.maximum(v, 0) ** (1 / 2.4) - 0.055)
