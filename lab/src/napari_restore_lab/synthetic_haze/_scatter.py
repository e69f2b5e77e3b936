"""The scattering model of haze."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_restore.extension import light_of_srgb, srgb_of_light

Array = npt.NDArray[np.float32]

WAVELENGTHS = (650.0, 550.0, 450.0)
"""Wavelengths of red, green and blue in nm."""
REFERENCE = 550.0
"""Wavelength of optical depths in nm."""


@dataclass(frozen=True)
class Haze:
    """Parameters that turn a clear image into a hazy one."""

    depth: Array
    """(h, w), at least 0: optical depth at 550 nm."""
    airlight: Array
    """(3,) red, green, blue in display values 0 to 1; the mean of `light`, if there is one."""
    exponent: float
    """g of Ångström's law: the depth at λ is depth · (550 / λ)^g."""
    linear: bool
    """Whether light adds up before the display curve (physics) or in display values (RESIDE)."""
    light: Array | None = None
    """(h, w, 3) airlight of every pixel where it is uneven."""


def transmission_of(haze: Haze) -> Array:
    """Return the transmission of red, green and blue, (h, w, 3)."""
    falloff = (REFERENCE / np.asarray(WAVELENGTHS)) ** haze.exponent
    t: Array = np.exp(-haze.depth[..., None] * falloff.astype(np.float32))
    return t


def add_haze(clear: Array, haze: Haze) -> Array:
    """Return an image (h, w, 3), display values 0 to 1, under `haze`.

    x = J · t + A · (1 − t) (Koschmieder 1924; Narasimhan and Nayar, IJCV 48, 2002),
    per channel; pixels without haze are unchanged bit for bit.
    """
    t = transmission_of(haze)
    airlight = haze.airlight if haze.light is None else haze.light
    if haze.linear:
        light, veil = light_of_srgb(clear), light_of_srgb(airlight)
        hazy = srgb_of_light(light * t + veil * (1 - t))
    else:
        hazy = clear * t + airlight * (1 - t)
    result: Array = np.where(haze.depth[..., None] > 0, hazy, clear).astype(np.float32)
    return result
