"""Bootstrap confidence intervals of means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

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


def mean_of(values: Sequence[float], seed: int = SEED) -> Mean:
    """Return the mean of values with its percentile bootstrap interval (Efron).

    The values are resampled `RESAMPLES` times with replacement and a fixed seed; the interval contains
    the central 95 % of the means. It assumes independent values.
    """
    return means_of([values], seed)[0]


def means_of(columns: Sequence[Sequence[float | None]], seed: int = SEED) -> list[Mean]:
    """Return `mean_of` of each of several columns of the same length; None is left out.

    Columns that are known for the same items share their resamples.
    """
    table = np.array(columns, np.float64)
    by_known: dict[bytes, list[int]] = {}
    for number, column in enumerate(table):
        by_known.setdefault(np.isnan(column).tobytes(), []).append(number)
    found: dict[int, Mean] = {}
    for numbers in by_known.values():
        some = table[numbers]
        found |= zip(numbers, _means(some[:, ~np.isnan(some[0])], seed), strict=True)
    return [found[number] for number in range(len(table))]


def _means(known: npt.NDArray[np.float64], seed: int) -> list[Mean]:
    """Return the means of the rows of `known` (columns, n)."""
    columns, n = known.shape
    if n == 0:
        return [Mean(0, None, None, None)] * columns
    averages = known.mean(axis=1)
    if n == 1:
        return [Mean(1, float(mean), None, None) for mean in averages]
    rng = np.random.default_rng(seed)
    means = np.empty((RESAMPLES, columns))
    step = max(1, CHUNK_VALUES // n)
    for start in range(0, RESAMPLES, step):
        part = means[start : start + step]
        drawn = rng.integers(0, n, (len(part), n)) + n * np.arange(len(part))[:, None]
        # How often each value was drawn: the same for all columns.
        counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        part[:] = counts @ known.T / n
    tail = 50 * (1 - LEVEL)
    lows, highs = np.percentile(means, (tail, 100 - tail), axis=0)
    return [
        Mean(n, float(mean), float(low), float(high))
        for mean, low, high in zip(averages, lows, highs, strict=True)
    ]
