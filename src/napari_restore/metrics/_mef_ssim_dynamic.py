"""MEF-SSIM of a bracket in which things move."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import isqrt

import numpy as np
import numpy.typing as npt

from napari_restore.metrics._comparable import Array, Mask
from napari_restore.metrics._mef_ssim import (
    ROUNDING,
    grey_and_mask,
    inner_products,
    lengths_of,
    shares_of,
    similarity,
)
from napari_restore.metrics._ssim import K2, WINDOW, any_in_window

CONSISTENT = 0.5
"""Least correlation of two frames' contents in a window where nothing moves."""
POWER = 4
"""Exponent of the weights of structures."""
REACH = 11
"""Static regions are opened by a disk of this radius in pixels."""


def mef_ssim_dynamic(
    fused: npt.ArrayLike,
    frames: Sequence[npt.ArrayLike],
    data_range: float,
    valid: npt.ArrayLike | None = None,
) -> float:
    """Return the MEF-SSIMd of a fused image, at most 1: a double contour is no structure.

    A window is static where all pairs of frames correlate. Static windows are compared with the
    structure of all frames, as in `mef_ssim`, at one scale. The others, for each frame in turn,
    with that of the frame and of itself in the tones of the others, found from histograms: so the
    whole picture must follow one frame where things move, and it is scored by the one that fits
    best. The result is the mean of both parts, or the one that there is. NaN where no window
    counts. Arguments as for `mef_ssim`.

    Y. Fang, H. Zhu, K. Ma, Z. Wang, S. Li, "Perceptual evaluation for multi-exposure image fusion
    of dynamic scenes", IEEE Trans. Image Process. 29, 2020, doi:10.1109/TIP.2019.2940678.
    """
    (image, *exposures), counts = grey_and_mask(fused, frames, data_range, valid)
    if min(image.shape) < WINDOW:
        return float("nan")
    # Histograms are of 256 levels.
    exposures = [np.rint(np.clip(frame, 0, 255)) for frame in exposures]
    whole = ~any_in_window(~counts)
    inner = inner_products(exposures)
    static = _static(inner, whole)
    parts = []
    if (whole & static).any():
        similar = similarity(image, exposures, _shares(inner))
        parts.append(float(similar[whole & static].mean()))
    moving = whole & ~static
    if moving.any():
        parts.append(
            max(_like_one(image, exposures, k, counts, moving) for k in range(len(frames)))
        )
    return float(np.mean(parts)) if parts else float("nan")


def _like_one(
    fused: Array, frames: Sequence[Array], reference: int, counts: Mask, moving: Mask
) -> float:
    """Return the similarity, over `moving` windows, to a frame and to it in the others' tones."""
    own = frames[reference]
    toned = [
        own if k == reference else _in_tones_of(own, frame, counts)
        for k, frame in enumerate(frames)
    ]
    similar = similarity(fused, toned, _shares(inner_products(toned)))
    return float(similar[moving].mean())


def _shares(inner: Array) -> Array:
    return shares_of((lengths_of(inner) + ROUNDING) ** POWER + ROUNDING, inner)


def _static(inner: Array, whole: Mask) -> Mask:
    """Return the windows in regions, at least a disk large, where all pairs of frames correlate."""
    # Those that do not count say nothing of what is around.
    spread = lengths_of(inner) / WINDOW
    constant = (K2 * 255) ** 2
    static = np.ones_like(whole)
    for k, other in combinations(range(len(inner)), 2):
        shared = inner[k, other] / WINDOW**2
        alike = (shared + constant) / (spread[k] * spread[other] + constant) >= CONSISTENT
        static &= _near(~_near(~alike & whole))
    return static


def _near(flags: Mask) -> Mask:
    """Return where a flag is set within `REACH` pixels."""
    height, width = flags.shape
    padded = np.pad(flags, ((REACH, REACH), (REACH + 1, REACH)))
    sums = np.cumsum(padded, axis=1, dtype=np.int32)
    near = np.zeros_like(flags)
    for down in range(-REACH, REACH + 1):
        half = isqrt(REACH**2 - down**2)
        rows = sums[REACH + down : REACH + down + height]
        after, before = REACH + 1 + half, REACH - half
        near |= rows[:, after : after + width] > rows[:, before : before + width]
    return near


def _in_tones_of(source: Array, wanted: Array, counts: Mask) -> Array:
    """Return `source` by the curve that brings its histogram nearest to that of `wanted`.

    Values are whole numbers 0 to 255; pixels that do not count are in neither histogram.
    """
    own, other = (
        np.bincount(image[counts].astype(np.intp), minlength=256) for image in (source, wanted)
    )
    middle = np.cumsum(own) - own / 2
    curve = np.minimum(np.searchsorted(np.cumsum(other), middle), 255).astype(np.float64)
    return curve[source.astype(np.intp)]
