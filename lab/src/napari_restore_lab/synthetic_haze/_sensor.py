"""Sensor noise and compression."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float32]


def degrade(picture: Array, rng: np.random.Generator) -> Array:
    """Add sensor noise to (h, w, 3) display values, quantise to 8 bits, and apply JPEG to half.

    Noise has σ of 0.002 to 0.01 of the range, the quality of JPEG is 70 to 95.
    """
    sigma = rng.uniform(0.002, 0.01)
    noise = rng.standard_normal(picture.shape, np.float32) * np.float32(sigma)
    codes = np.clip((picture + noise) * 255 + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        file = io.BytesIO()
        quality = int(rng.integers(70, 96))
        Image.fromarray(codes).save(file, "JPEG", quality=quality)
        codes = np.asarray(Image.open(file))
    return codes.astype(np.float32) / np.float32(255)
