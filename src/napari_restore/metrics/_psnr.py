"""Peak signal-to-noise ratio."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_restore.metrics._comparable import comparable, strips


def psnr(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    data_range: float,
    valid: npt.ArrayLike | None = None,
) -> float:
    """Return the peak signal-to-noise ratio in dB: 10 · log10(L² / mean((a − b)²)).

    `a` and `b` are (h, w) or (h, w, C) of any real type, `data_range` is L, the distance of white
    from black in their units. Only pixels where `valid` (h, w) is true count. Equal images give
    infinity, no valid pixel gives NaN. Raises `BadParameter` for shapes that differ.
    """
    first, second, counts = comparable(a, b, data_range, valid)
    total = int(counts.sum()) * first.shape[2]
    if total == 0:
        return float("nan")
    squares = 0.0
    for rows in strips(*counts.shape):
        valid_rows = counts[rows]
        apart = first[rows][valid_rows].astype(np.float64) - second[rows][valid_rows]
        squares += float(np.square(apart).sum())
    return float("inf") if squares == 0 else float(10 * np.log10(data_range**2 * total / squares))
