"""Bands that a model does not take, corrected with the transmission it estimated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.models._context import Context

DARK_PERCENT = 0.1
"""Per cent of a band's valid pixels that are its dark objects …"""
DARK_LEFT = 0.01
"""… and what is left of them, 1 being white: hardly any ground is darker (Chavez, 1988)."""
DEADBAND = 0.03
"""Haze share 1 − t up to which nothing is changed."""
HAZE_EXPONENT = 1.0
"""Falloff of haze's optical depth with wavelength: 0.5 (thick) to 1.6 (thin)."""


def transmission_at(
    transmission: npt.NDArray[np.float32],
    reference: float,
    wavelength: float,
    exponent: float = HAZE_EXPONENT,
) -> npt.NDArray[np.float32]:
    """Return the transmission at `wavelength` from that at `reference`, in nm: T_λ = t^((λref / λ)^q)."""
    # Ångström's law for the optical depth −ln t; longer waves are scattered less.
    t = np.maximum(transmission, np.float32(1e-6))
    return np.power(t, np.float32((reference / wavelength) ** exponent))


def path_limit(
    context: Context, to_model: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> npt.NDArray[np.float32]:
    """Return (bands,) how much of a band's light, in model range, haze can be at most."""
    # No more than its darkest pixels have (Chavez, "An improved dark-object subtraction technique",
    # 1988): clear snow is bright where the model looks, and dark in short-wave infrared.
    dark = np.array([context.percentile(DARK_PERCENT, (b,)) for b in range(context.bands)])
    return np.maximum(to_model(dark) - DARK_LEFT, 0).astype(np.float32)


def correct_band(
    values: npt.NDArray[np.float32],
    transmission: npt.NDArray[np.float32],
    airlight: float,
    reference: float,
    wavelength: float,
    *,
    exponent: float = HAZE_EXPONENT,
    deadband: float = DEADBAND,
    limit: float = np.inf,
) -> npt.NDArray[np.float32]:
    """Return the band `values` (h, w) in model range without haze.

    `transmission` (h, w) is the model's, at `reference` nm; `airlight` is this band's, of which haze
    adds no more than `limit`, see `path_limit`. Where the
    model changed nothing (1 − t ≤ `deadband`) the values are unchanged, bit for bit. None falls
    below 0, no light: where it is dark, what the transmission of other wavelengths says is too much.
    """
    t = transmission_at(transmission, reference, wavelength, exponent)
    if deadband > 0:
        gate = np.clip((1 - transmission - deadband) / deadband, 0, 1)
    else:
        gate = transmission < 1
    # Haze that adds less light takes less away.
    t = np.maximum(t, np.float32(1 - min(1.0, limit / max(airlight, 1e-6))))
    restored: npt.NDArray[np.float32] = values + gate * (1 / t - 1) * (values - airlight)
    return np.maximum(restored.astype(np.float32, copy=False), np.minimum(values, 0))
