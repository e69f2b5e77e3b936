"""Bootstrap confidence intervals of means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

LEVEL = 0.95
"""Confidence level of the intervals."""
RESAMPLES = 10_000
SEED = 20_000
CHUNK_VALUES = 1 << 22
"""Resampled values in memory at a time."""


@dataclass(frozen=True)
class Mean:
    """A mean with its interval, in the unit of the values."""

    n: int
    mean: float | None
    """None without any value."""
    low: float | None
    """Limits of the interval; None for fewer than two values."""
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        """Return the fields as JSON."""
        return asdict(self)


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of values with its percentile bootstrap interval (Efron).

    The values are resampled `RESAMPLES` times with replacement and a fixed seed; the interval contains
    the central 95 % of the means. It assumes independent values.
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
    step = max(1, CHUNK_VALUES // n)
    for start in range(0, RESAMPLES, step):
        part = means[start : start + step]
        part[:] = known[rng.integers(0, n, (len(part), n))].mean(axis=1)
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(means, (tail, 100 - tail))
    return Mean(n, mean, float(low), float(high))
