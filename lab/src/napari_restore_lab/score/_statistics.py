"""Descriptive statistics of scores, and paired comparisons of methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

EQUAL = 100.0
"""PSNR in dB in place of infinity for equal images."""
MOST_EXACT = 14
"""Largest number of differences for the exact test over all 2^n signs."""
DRAWS = 20_000
"""Random sign vectors for more; the error of p is about 0.003 near 0.05."""
SEED = 20_000


@dataclass(frozen=True)
class Spread:
    """Statistics of one metric of one method."""

    n: int
    mean: float
    median: float
    std: float
    """Sample standard deviation (n − 1); NaN for a single image."""
    min: float
    max: float

    def to_dict(self) -> dict[str, float]:
        """Return the fields as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of two methods on the same scenes."""

    n: int
    """Scenes: clear pictures, however many hazy ones each has."""
    images: int
    difference: float
    """Mean over scenes of the mean of value − other value over a scene's images."""
    better: int
    """Scenes on which that mean is better."""
    p: float
    """Two-sided, of `sign_flip_test` over scenes; NaN without any."""

    def to_dict(self) -> dict[str, float]:
        """Return the fields as JSON."""
        return asdict(self)


def spread_of(values: Sequence[float]) -> Spread:
    """Return statistics of the values without NaN; infinite ones count as `EQUAL`."""
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
    values: Sequence[float],
    others: Sequence[float],
    scenes: Sequence[str],
    *,
    higher_is_better: bool,
) -> Comparison:
    """Compare two methods on the same images in the same order, without images with a NaN.

    `scenes` names the clear image of each. Several hazy images of one scene are not independent,
    so they count once, by the mean of their differences.
    """
    by_scene: dict[str, list[float]] = {}
    for scene, difference in zip(scenes, _finite(values) - _finite(others), strict=True):
        if not np.isnan(difference):
            by_scene.setdefault(scene, []).append(float(difference))
    if not by_scene:
        return Comparison(0, 0, float("nan"), 0, float("nan"))
    scene_differences = np.array([np.mean(differences) for differences in by_scene.values()])
    better = scene_differences > 0 if higher_is_better else scene_differences < 0
    return Comparison(
        n=len(by_scene),
        images=sum(map(len, by_scene.values())),
        difference=float(scene_differences.mean()),
        better=int(better.sum()),
        p=sign_flip_test(scene_differences),
    )


def sign_flip_test(differences: npt.ArrayLike) -> float:
    """Return the two-sided p of paired differences, under a symmetric distribution around 0.

    If two methods are equally good, each difference could have the other sign:
    p is the share of all sign changes under which the mean is at least as far from 0
    (Fisher's randomisation test). They must be independent: one of each scene. Up to
    `MOST_EXACT` all are evaluated; above, `DRAWS` random ones of a fixed seed and the
    observed one. With n of them p cannot fall below 2^(1 − n).
    """
    values = np.asarray(differences, np.float64)
    n = values.size
    if n == 0:
        return float("nan")
    # A tolerance, so that rounding does not distinguish equal sums.
    observed = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    if n <= MOST_EXACT:
        bits = np.arange(2**n)[:, None] >> np.arange(n)[None, :] & 1
        sums = (1 - 2 * bits) @ values
        return float(np.mean(np.abs(sums) >= observed))
    rng = np.random.default_rng(SEED)
    hits, remaining = 1, DRAWS
    while remaining:
        count = min(remaining, max(1, 2**22 // n))
        signs = 1 - 2 * rng.integers(0, 2, (count, n), np.int8)
        hits += int(np.sum(np.abs(signs @ values) >= observed))
        remaining -= count
    return hits / (DRAWS + 1)


def _finite(values: Sequence[float]) -> Array:
    numbers = np.asarray(values, np.float64)
    return np.where(np.isinf(numbers), np.sign(numbers) * EQUAL, numbers)
