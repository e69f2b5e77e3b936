"""The scattering model: what haze of a known depth does to a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

WAVELENGTHS = (650.0, 550.0, 450.0)
"""nm, of red, green and blue."""
REFERENCE = 550.0
"""nm, at which optical depths are given."""


@dataclass(frozen=True)
class Haze:
    """Everything that turns one clear picture into a hazy one."""

    depth: Array
    """(h, w), at least 0: optical depth at 550 nm."""
    airlight: Array
    """(3,) red, green, blue in display values 0 to 1."""
    exponent: float
    """g of Ångström's law: the depth at λ is depth · (550 / λ)^g."""
    linear: bool
    """Whether light adds up before the display curve (physics) or in display values (RESIDE)."""


def transmission_of(haze: Haze) -> Array:
    """(h, w, 3) share of the scene's own light that arrives, red, green, blue."""
    falloff = (REFERENCE / np.asarray(WAVELENGTHS)) ** haze.exponent
    t: Array = np.exp(-haze.depth[..., None] * falloff.astype(np.float32))
    return t


def add_haze(clear: Array, haze: Haze) -> Array:
    """The picture (h, w, 3), display values 0 to 1, seen through `haze`.

    x = J · t + A · (1 − t) (Koschmieder 1924; Narasimhan and Nayar, IJCV 48, 2002),
    per channel; where there is no haze the picture comes back bit for bit.
    """
    t = transmission_of(haze)
    if haze.linear:
        light, veil = to_linear(clear), to_linear(haze.airlight)
        hazy = to_display(light * t + veil * (1 - t))
    else:
        hazy = clear * t + haze.airlight * (1 - t)
    result: Array = np.where(haze.depth[..., None] > 0, hazy, clear).astype(np.float32)
    return result


def to_linear(display: Array) -> Array:
    """Linear light of display values 0 to 1 (IEC 61966-2-1)."""
    light: Array = np.where(
        display <= 0.04045,
        display / np.float32(12.92),
        ((np.maximum(display, 0) + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4),
    )
    return light


def to_display(light: Array) -> Array:
    """The inverse of `to_linear`."""
    display: Array = np.where(
        light <= 0.0031308,
        light * np.float32(12.92),
        np.float32(1.055) * np.maximum(light, 0) ** np.float32(1 / 2.4) - np.float32(0.055),
    )
    return display
