"""The curve of sRGB between linear light and display values (IEC 61966-2-1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def light_of_srgb(display: Array) -> Array:
    """Return linear light of display values 0 to 1, of any shape."""
    light: Array = np.where(
        display <= 0.04045,
        display / np.float32(12.92),
        ((np.maximum(display, 0) + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4),
    )
    return light


def srgb_of_light(light: Array) -> Array:
    """Return display values of linear light, the inverse of `light_of_srgb`."""
    display: Array = np.where(
        light <= 0.0031308,
        light * np.float32(12.92),
        np.float32(1.055) * np.maximum(light, 0) ** np.float32(1 / 2.4) - np.float32(0.055),
    )
    return display
