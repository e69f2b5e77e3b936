"""Bands that a model does not take, corrected with the transmission it estimated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

HAZE_EXPONENT = 1.0
"""Falloff of haze's optical depth with wavelength: 0.5 (thick) to 1.6 (thin)."""


def transmission_at(
    transmission: npt.NDArray[np.float32],
    reference: float,
    wavelength: float,
    exponent: float = HAZE_EXPONENT,
) -> npt.NDArray[np.float32]:
    """Return the transmission at `wavelength` from that at `reference`, both in nm.

    T_λ = t^((λref / λ)^q). Ångström's law for the optical depth −ln t; longer waves are scattered
    less.
    """
    t = np.maximum(transmission, np.float32(1e-6))
    power: npt.NDArray[np.float32] = np.power(t, np.float32((reference / wavelength) ** exponent))
    return power


def correct_band(
    values: npt.NDArray[np.float32],
    transmission: npt.NDArray[np.float32],
    airlight: float,
    reference: float,
    wavelength: float,
    *,
    exponent: float = HAZE_EXPONENT,
    deadband: float = 0.03,
) -> npt.NDArray[np.float32]:
    """Return the band `values` (h, w) in model range without haze.

    `transmission` (h, w) is the model's, at `reference` nm; `airlight` is this band's. Where the
    model changed nothing (1 − t ≤ `deadband`) the values are unchanged, bit for bit. None falls
    below 0, no light: where it is dark, what the transmission of other wavelengths says is too much.
    """
    t = transmission_at(transmission, reference, wavelength, exponent)
    if deadband > 0:
        gate = np.clip((1 - transmission - deadband) / deadband, 0, 1)
    else:
        gate = transmission < 1
    restored: npt.NDArray[np.float32] = values + gate * (1 / t - 1) * (values - airlight)
    return np.maximum(restored.astype(np.float32, copy=False), np.minimum(values, 0))
