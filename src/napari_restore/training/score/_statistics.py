"""What many values say: their spread, and whether one method is better than another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

EQUAL = 100.0
"""dB that count where an image equals its reference and PSNR is infinite."""
MOST_EXACT = 14
"""Images up to which all signs are tried; 2^14 of them."""
DRAWS = 20_000
"""Random signs for more images; p is then known to about 0.003 near 0.05."""
SEED = 20_000


@dataclass(frozen=True)
class Spread:
    """Of one metric of one method."""

    n: int
    mean: float
    median: float
    std: float
    """Of the sample (n − 1); NaN for a single image."""
    min: float
    max: float

    def to_dict(self) -> dict[str, float]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """How much better a method is than another on the same images."""

    n: int
    difference: float
    """Mean of value − other value."""
    better: int
    """Images on which it is better."""
    p: float
    """Two-sided, of `sign_flip_test`; NaN without images."""

    def to_dict(self) -> dict[str, float]:
        """As JSON."""
        return asdict(self)


def spread_of(values: Sequence[float]) -> Spread:
    """Mean, median and so on of the values that are numbers; infinite ones count as `EQUAL`."""
    numbers = _finite(values)
    numbers = numbers[~np.isnan(numbers)]
    if not numbers.size:
        return Spread(0, *[float("nan")] * 5)
    return Spread(
        n=int(numbers.size),
        mean=float(numbers.mean()),
        median=float(np.median(numbers)),
        std=float(numbers.std(ddof=1)) if numbers.size > 1 else float("nan"),
        min=float(numbers.min()),
        max=float(numbers.max()),
    )


def compare(
    values: Sequence[float], others: Sequence[float], *, higher_is_better: bool
) -> Comparison:
    """Two methods on the same images, in the same order; images with a NaN do not count."""
    apart = _finite(values) - _finite(others)
    apart = apart[~np.isnan(apart)]
    if not apart.size:
        return Comparison(0, float("nan"), 0, float("nan"))
    better = apart > 0 if higher_is_better else apart < 0
    return Comparison(
        int(apart.size), float(apart.mean()), int(better.sum()), sign_flip_test(apart)
    )


def sign_flip_test(differences: npt.ArrayLike) -> float:
    """Two-sided p of paired differences under "as often better as worse, by as much".

    If two methods are equally good, each difference might as well have the other sign:
    p is the share of all sign changes under which the mean is at least as far from 0
    (Fisher's randomisation test). Up to `MOST_EXACT` images all are tried; above,
    `DRAWS` random ones of a fixed seed, with the observed one among them. With n
    images p cannot fall below 2^(1 − n).
    """
    values = np.asarray(differences, np.float64)
    n = values.size
    if n == 0:
        return float("nan")
    # Rounding must not tell equal sums apart.
    observed = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    if n <= MOST_EXACT:
        bits = np.arange(2**n)[:, None] >> np.arange(n)[None, :] & 1
        sums = (1 - 2 * bits) @ values
        return float(np.mean(np.abs(sums) >= observed))
    rng = np.random.default_rng(SEED)
    hits, left = 1, DRAWS
    while left:
        count = min(left, max(1, 2**22 // n))
        signs = 1 - 2 * rng.integers(0, 2, (count, n), np.int8)
        hits += int(np.sum(np.abs(signs @ values) >= observed))
        left -= count
    return hits / (DRAWS + 1)


def _finite(values: Sequence[float]) -> Array:
    numbers = np.asarray(values, np.float64)
    return np.where(np.isinf(numbers), np.sign(numbers) * EQUAL, numbers)
