"""How sure a mean over few boxes is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

LEVEL = 0.95
"""Of the intervals."""
RESAMPLES = 10_000
SEED = 20_000
PIECE = 1 << 22
"""Drawn values that are held at a time."""


@dataclass(frozen=True)
class Mean:
    """A mean with its interval, in the unit of the values."""

    n: int
    mean: float | None
    """None without any value."""
    low: float | None
    """Ends of the interval; None for fewer than two values, which tell nothing of their spread."""
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        """As JSON."""
        return asdict(self)


def mean_of(values: Sequence[float]) -> Mean:
    """The mean of values with its percentile bootstrap interval (Efron).

    `RESAMPLES` times as many values are drawn from them, with repetition and a fixed seed; the interval
    holds the middle 95 % of the means of these. It is right where the values are independent.
    """
    known = np.asarray(values, np.float64)
    n = known.size
    if n == 0:
        return Mean(0, None, None, None)
    mean = float(known.mean())
    if n == 1:
        return Mean(1, mean, None, None)
    rng = np.random.default_rng(SEED)
    means = np.empty(RESAMPLES)
    step = max(1, PIECE // n)
    for start in range(0, RESAMPLES, step):
        part = means[start : start + step]
        part[:] = known[rng.integers(0, n, (len(part), n))].mean(axis=1)
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(means, (tail, 100 - tail))
    return Mean(n, mean, float(low), float(high))
