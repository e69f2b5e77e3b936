"""Low light: too little light on the sensor, its noise, white balance and compression; and white noise."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from napari_restore.extension import light_of_srgb, srgb_of_light

Array = npt.NDArray[np.float32]

FULL_WELL = (2000.0, 20000.0)
"""Range of the electrons of a white pixel at full exposure; log-uniform."""
READ_NOISE = (1.0, 8.0)
"""Range of the noise of reading in electrons; log-uniform."""
BALANCE = 0.12
"""Largest relative error of red and blue against green."""
QUALITY = (70, 96)
"""Range of the quality of JPEG, the upper end excluded."""


@dataclass(frozen=True)
class LowLight:
    """How an image was taken with too little light."""

    factor: float
    """By how much there is too little: linear light is divided by it."""
    electrons: float
    """Electrons of a white pixel at full exposure."""
    read: float
    """Standard deviation of the noise of reading, in electrons."""
    balance: tuple[float, float, float]
    """Factors of red, green and blue in linear light."""
    quality: int | None
    """Of JPEG; None: not compressed."""


def draw_low_light(
    rng: np.random.Generator, factor: tuple[float, float], compressed: float
) -> LowLight:
    """Draw low light of a log-uniform `factor`, JPEG with the probability `compressed`."""
    red, blue = 1 + rng.uniform(-BALANCE, BALANCE, 2)
    chosen = log_uniform(rng, factor)
    electrons, read = log_uniform(rng, FULL_WELL), log_uniform(rng, READ_NOISE)
    quality = int(rng.integers(*QUALITY)) if rng.random() < compressed else None
    return LowLight(chosen, electrons, read, (float(red), 1.0, float(blue)), quality)


def darken(clear: Array, light: LowLight, rng: np.random.Generator) -> Array:
    """Return (h, w, 3) display values 0 to 1 as taken with so little light, in 8 bits.

    Noise is Gaussian with the variance of photons and of reading (Foi et al., IEEE TIP 17, 2008).
    """
    scale = np.float32(light.electrons / light.factor) * np.asarray(light.balance, np.float32)
    seen = light_of_srgb(clear) * scale
    spread = np.sqrt(seen + np.float32(light.read**2))
    seen = seen + spread * rng.standard_normal(seen.shape, np.float32)
    dark = quantised(srgb_of_light(np.maximum(seen / np.float32(light.electrons), 0)))
    return dark if light.quality is None else compressed(dark, light.quality)


def compressed(picture: Array, quality: int, subsampling: int = 2) -> Array:
    """Return (h, w, 3) display values 0 to 1 after JPEG, by default with colours at half the size."""
    file, codes8 = io.BytesIO(), np.rint(picture * 255).astype(np.uint8)
    Image.fromarray(codes8).save(file, "JPEG", quality=quality, subsampling=subsampling)
    codes: Array = np.asarray(Image.open(file), np.float32) / np.float32(255)
    return codes


def log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Draw a number whose logarithm is uniform between `limits`."""
    return float(np.exp(rng.uniform(*np.log(limits))))


def add_noise(clear: Array, sigma: float, rng: np.random.Generator) -> Array:
    """Add noise to (h, w, 3) display values 0 to 1; `sigma` is in 255ths of the range.

    The result is rounded to 8 bits and clipped, as in a file: below and above there is nothing.
    """
    noise = rng.standard_normal(clear.shape, np.float32) * np.float32(sigma / 255)
    return quantised(clear + noise)


def quantised(picture: Array) -> Array:
    """Return display values as an 8-bit file holds them."""
    codes: Array = np.rint(np.clip(picture, 0, 1) * np.float32(255)) / np.float32(255)
    return codes
