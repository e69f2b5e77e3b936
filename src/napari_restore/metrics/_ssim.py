"""Structural similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.metrics._comparable import Array, Mask, comparable

WINDOW = 11
"""Side of SSIM's window in pixels."""
SIGMA = 1.5
"""Standard deviation of its Gaussian in pixels."""
K1, K2 = 0.01, 0.03
STRIP = 32
"""Rows at a time, so that all intermediate arrays stay in the processor's cache."""


def ssim(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    data_range: float,
    valid: npt.ArrayLike | None = None,
) -> float:
    """Return mean structural similarity, at most 1, of Wang et al. 2004 (equations 13 to 17).

    Every pixel whose window lies in the image gives

        (2·μa·μb + C1)(2·σab + C2) / ((μa² + μb² + C1)(σa² + σb² + C2))

    with means, variances and covariance under an 11 × 11 Gaussian of σ = 1.5 that sums to 1, C1 =
    (0.01·L)² and C2 = (0.03·L)². The result is the mean over these pixels and over the bands.
    Windows with a pixel that is not `valid` do not count. Arguments as for `psnr`; NaN where no
    window counts. Raises `BadParameter`. Equal to ``skimage.metrics.structural_similarity`` with
    ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False`` (its mean leaves out the same
    5 pixels at the edges).

    Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error
    visibility to structural similarity", IEEE Trans. Image Process. 13(4), 2004,
    doi:10.1109/TIP.2003.819861.
    """
    first, second, counts = comparable(a, b, data_range, valid)
    if min(counts.shape) < WINDOW:
        return float("nan")
    whole = ~any_in_window(~counts)
    if not whole.any():
        return float("nan")
    total = 0.0
    for y in range(0, len(whole), STRIP):
        windows = whole[y : y + STRIP]
        rows = slice(y, y + len(windows) + WINDOW - 1)
        valid_rows = counts[rows]
        for band in range(first.shape[2]):
            # Windows with such pixels do not count, but NaN there would spread along rows.
            a_part, b_part = (
                np.where(valid_rows, image[rows, :, band], 0).astype(np.float64)
                for image in (first, second)
            )
            total += float(_ssim_map(a_part, b_part, data_range)[windows].sum())
    return total / (int(whole.sum()) * int(first.shape[2]))


def _ssim_map(a: Array, b: Array, data_range: float) -> Array:
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_a, mean_b = blurred(a), blurred(b)
    product = mean_a * mean_b
    squares = mean_a**2 + mean_b**2
    spread = blurred(a * a + b * b) - squares
    shared = blurred(a * b) - product
    similar: Array = (2 * product + c1) * (2 * shared + c2) / ((squares + c1) * (spread + c2))
    return similar


def blurred(image: Array) -> Array:
    """Return (h, w) under the Gaussian, where the window lies inside: (h − 10, w − 10)."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights /= weights.sum()
    half = WINDOW // 2
    for axis in (0, 1):
        length = image.shape[axis] - WINDOW + 1
        total = weights[half] * _cut(image, axis, half, length)
        pair = np.empty_like(total)
        for start in range(half):
            # The window is symmetric.
            end = WINDOW - 1 - start
            np.add(_cut(image, axis, start, length), _cut(image, axis, end, length), out=pair)
            pair *= weights[start]
            total += pair
        image = total
    return image


def any_in_window(flags: Mask) -> Mask:
    """Return (h − 10, w − 10): whether any pixel of the window around is flagged."""
    for axis in (0, 1):
        length = flags.shape[axis] - WINDOW + 1
        any_flag = _cut(flags, axis, 0, length).copy()
        for start in range(1, WINDOW):
            any_flag |= _cut(flags, axis, start, length)
        flags = any_flag
    return flags


def _cut(image: npt.NDArray[Any], axis: int, start: int, length: int) -> npt.NDArray[Any]:
    return image[start : start + length] if axis == 0 else image[:, start : start + length]
