"""A tone curve: the smooth line through points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[Any]


class ToneCurve:
    """The smooth curve through points (x, y), x increasing: monotone where they are.

    Before the first and after the last it is level. Source: cubic Hermite pieces with the slopes of
    Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5 (1984) 300, at the ends as Moler, "Numerical
    Computing with MATLAB" (2004), 3.6.
    """

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        self._x, self._y = (np.array(values, np.float64) for values in zip(*points, strict=True))
        self._slopes = _slopes(self._x, self._y)

    def __call__(self, values: Floats) -> Floats:
        x, y, m = (v.astype(values.dtype) for v in (self._x, self._y, self._slopes))
        at = np.clip(values, x[0], x[-1])
        left = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
        step = (x[1:] - x[:-1])[left]
        t = (at - x[left]) / step
        rise = y[left + 1] - y[left]
        first, last = m[left] * step, m[left + 1] * step
        curved: Floats = y[left] + t * (
            first + t * (3 * rise - 2 * first - last + t * (first + last - 2 * rise))
        )
        return curved


def _slopes(x: Floats, y: Floats) -> Floats:
    steps = np.diff(x)
    rises = np.diff(y) / steps
    if len(x) == 2:
        return np.repeat(rises, 2)
    slopes = np.zeros(len(x))
    weights = 2 * steps[1:] + steps[:-1], steps[1:] + 2 * steps[:-1]
    alike = rises[1:] * rises[:-1] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weights[0] + weights[1]) / (weights[0] / rises[:-1] + weights[1] / rises[1:])
    slopes[1:-1] = np.where(alike, mean, 0)
    slopes[0] = _end(steps[0], steps[1], rises[0], rises[1])
    slopes[-1] = _end(steps[-1], steps[-2], rises[-1], rises[-2])
    return slopes


def _end(near: float, far: float, first: float, second: float) -> float:
    slope = ((2 * near + far) * first - near * second) / (near + far)
    if slope * first <= 0:
        return 0.0
    if first * second <= 0 and abs(slope) > abs(3 * first):
        return 3 * first
    return slope
