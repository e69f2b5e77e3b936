"""How linear light becomes values for a screen: the curve of sRGB, and one for light of any range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def light_of_srgb(display: Floats) -> Floats:
    """Return linear light of display values 0 to 1, of any shape (sRGB, IEC 61966-2-1)."""
    return np.where(
        display <= 0.04045,
        display / np.float32(12.92),
        ((np.maximum(display, 0) + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4),
    )


def srgb_of_light(light: Floats) -> Floats:
    """Return display values of linear light, the inverse of `light_of_srgb`."""
    return np.where(
        light <= 0.0031308,
        light * np.float32(12.92),
        np.float32(1.055) * np.maximum(light, 0) ** np.float32(1 / 2.4) - np.float32(0.055),
    )


@dataclass(frozen=True)
class DisplayCurve:
    """Reinhard's global curve, then that of sRGB, for each band by itself.

    Light times `gain`, x, becomes x · (1 + x / white²) / (1 + x): shadows stay as they are, `white`
    becomes 1, and nothing below it is clipped. It needs no other pixels, so that any part is shown
    alike.

    Source: Reinhard, Stark, Shirley, Ferwerda, SIGGRAPH 2002, equation 4.
    """

    gain: float
    """Exposure of the picture on the screen."""
    white: float
    """Exposed light that is white on the screen, at least 1."""
    dtype: np.dtype[Any]
    """Of the photos that the light was measured by."""

    def shown(
        self, light: Array, dtype: npt.DTypeLike | None = None, alpha: Sequence[int] = ()
    ) -> Array:
        """Return light (..., C) as values of `dtype`, by default that of the photos.

        Integers use their whole range, floats 0 … 1. The bands `alpha`, in 0 … 1, are only scaled.
        """
        kind = np.dtype(dtype or self.dtype)
        known = np.nan_to_num(light.astype(np.float32), nan=0.0)
        x = (known * np.float32(self.gain)).clip(0, self.white)
        tone = x * (1 + x / np.float32(self.white**2)) / (1 + x)
        values = srgb_of_light(tone)
        if alpha:
            values[..., list(alpha)] = known[..., list(alpha)]
        values = values.clip(0, 1)
        if kind.kind == "f":
            return values.astype(kind)
        return np.rint(values * np.float64(np.iinfo(kind).max)).astype(kind)


def curve_of(exposures: Sequence[float], dtype: np.dtype[Any]) -> DisplayCurve:
    """Return the curve for light of frames with these EV, of which 0 EV has 1 as its white."""
    # The screen is exposed as the middle of the bracket, and white where the darkest frame is.
    middle = (min(exposures) + max(exposures)) / 2
    return DisplayCurve(2.0**middle, max(1.0, 2.0 ** (middle - min(exposures))), dtype)
