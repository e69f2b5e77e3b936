"""White Gaussian noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


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
