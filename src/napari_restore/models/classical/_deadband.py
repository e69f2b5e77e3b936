"""Deadband: where a model finds no haze, its output is its input, bit for bit."""

from __future__ import annotations

from torch import Tensor

DEADBAND = 0.03
"""Haze share 1 − t up to which nothing is changed."""


def soft_gate(haze: Tensor, deadband: float = DEADBAND) -> Tensor:
    """Return the strength of a change.

    It is exactly 0 up to `deadband`, rising linearly to 1 at twice that.
    """
    if deadband <= 0:
        return (haze > 0).to(haze.dtype)
    return ((haze - deadband) / deadband).clamp(0.0, 1.0)


def inversion_gain(transmission: Tensor, deadband: float = DEADBAND) -> Tensor:
    """Return g in J = x + g · (x − A), the inverse of x = J·t + A·(1 − t) behind the soft gate.

    Writing the correction as a change keeps x itself wherever g is 0.
    """
    return soft_gate(1.0 - transmission, deadband) * (transmission.reciprocal() - 1.0)
