"""Peak signal-to-noise ratio whatever the tones: after the best monotone curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_restore.metrics._comparable import Array, comparable, strips
from napari_restore.metrics._psnr import psnr

BINS = 1021
"""Distinct values of each channel; all those of 8 bits are among them."""
CLIPPED = 254 / 255
"""Share of white from which on a pixel of a frame counts as clipped."""


def psnr_matched(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    data_range: float,
    valid: npt.ArrayLike | None = None,
) -> float:
    """Return the PSNR in dB of `a` after the rising curve of each channel that fits `b` best.

    Another brightness or contrast is no error then, lost or false structure is. The curve is the
    isotonic regression of `b` on `a` in `BINS` steps between black and white; values beyond count
    as these. Arguments, and what is undefined, as for `psnr`.
    """
    return psnr(matched(a, b, data_range, valid), b, data_range, valid)


def psnr_clipped(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    data_range: float,
    valid: npt.ArrayLike | None = None,
    *,
    frames: Sequence[npt.ArrayLike],
) -> float:
    """Return `psnr_matched` of the pixels that the middle one of `frames` clips.

    Those are white in one of its channels. The curves are those of the whole image; NaN where
    nothing is clipped.
    """
    middle = np.asarray(frames[len(frames) // 2])
    clipped = middle >= CLIPPED * data_range
    counts = clipped if middle.ndim == 2 else clipped.any(2)
    if valid is not None:
        counts = counts & np.asarray(valid, bool)
    return psnr(matched(a, b, data_range, valid), b, data_range, counts)


def matched(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    data_range: float,
    valid: npt.ArrayLike | None = None,
) -> Array:
    """Return `a` (h, w, C) by the curves of `psnr_matched`, float64."""
    first, second, counts = comparable(a, b, data_range, valid)
    curves = np.stack(
        [
            _curve(first[..., channel], second[..., channel], data_range, counts)
            for channel in range(first.shape[2])
        ],
        axis=-1,
    )
    out = np.empty(first.shape)
    for rows in strips(*counts.shape):
        steps = _steps(first[rows], data_range)
        out[rows] = np.take_along_axis(curves, steps.reshape(-1, curves.shape[1]), 0).reshape(
            steps.shape
        )
    return out.reshape(np.shape(a))


def _curve(
    a: npt.NDArray[np.generic],
    b: npt.NDArray[np.generic],
    data_range: float,
    counts: npt.NDArray[np.bool_],
) -> Array:
    """Return the best rising curve (BINS,) from `a` to `b` (h, w); 0 for values that do not occur."""
    weight, sums = np.zeros(BINS), np.zeros(BINS)
    for rows in strips(*counts.shape):
        valid_rows = counts[rows]
        steps = _steps(a[rows][valid_rows], data_range)
        weight += np.bincount(steps, minlength=BINS)
        sums += np.bincount(steps, b[rows][valid_rows].astype(np.float64), BINS)
    used, curve = weight > 0, np.zeros(BINS)
    curve[used] = isotonic(sums[used] / weight[used], weight[used])
    return curve


def _steps(values: npt.NDArray[np.generic], data_range: float) -> npt.NDArray[np.int64]:
    share = np.clip(np.nan_to_num(values.astype(np.float64)) / data_range, 0, 1)
    return np.rint(share * (BINS - 1)).astype(np.int64)


def isotonic(values: Array, weights: Array) -> Array:
    """Return the rising sequence next to `values` in weighted squares, by pooling neighbours.

    R. E. Barlow and others, "Statistical inference under order restrictions", 1972.
    """
    # Each pool: its mean, its weight, and how many values it stands for.
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, count = value, weight, 1
        while pools and pools[-1][0] >= mean:
            other, other_mass, other_count = pools.pop()
            mean = (mean * mass + other * other_mass) / (mass + other_mass)
            mass, count = mass + other_mass, count + other_count
        pools.append((mean, mass, count))
    return np.repeat([mean for mean, _, _ in pools], [count for _, _, count in pools])
