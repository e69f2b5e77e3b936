"""Preparation of two images for comparison: one shape, and a mask of the pixels that count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

STRIP_PIXELS = 2**18
"""Pixels that are converted to float64 at a time: images themselves may be huge."""


def comparable(
    a: npt.ArrayLike, b: npt.ArrayLike, data_range: float, valid: npt.ArrayLike | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], Mask]:
    """Return both as (h, w, C), not copied, and which pixels count; non-finite ones never do.

    Raises `BadParameter` for shapes that differ, a range without a white, and a mask that does not
    fit.
    """
    first, second = np.asarray(a), np.asarray(b)
    if first.shape != second.shape or first.ndim not in (2, 3):
        raise BadParameter(
            f"Images of {first.shape} and {second.shape} cannot be compared.",
            "Give two of the same size and bands.",
        )
    if not data_range > 0:
        raise BadParameter(
            f"A range of {data_range} has no white.", "Give white − black, for bytes 255."
        )
    if first.ndim == 2:
        first, second = first[..., None], second[..., None]
    counts: Mask = np.ones(first.shape[:2], bool)
    for image in (first, second):
        if image.dtype.kind not in "biu":
            for rows in strips(*image.shape[:2]):
                counts[rows] &= np.isfinite(image[rows]).all(axis=2)
    return first, second, counts & mask_of(valid, counts.shape)


def mask_of(valid: npt.ArrayLike | None, shape: tuple[int, ...]) -> Mask:
    """Return which pixels of an image (h, w) are valid; raises `BadParameter` for another shape."""
    mask: Mask = np.ones(shape, bool) if valid is None else np.asarray(valid, bool)
    if mask.shape != shape:
        raise BadParameter(
            f"A mask of {mask.shape} does not fit an image of {shape}.", "Give one value per pixel."
        )
    return mask


def strips(height: int, width: int) -> Iterator[slice]:
    """Yield slices of rows with at most about `STRIP_PIXELS` pixels each."""
    step = max(1, STRIP_PIXELS // max(1, width))
    return (slice(y, min(y + step, height)) for y in range(0, height, step))
