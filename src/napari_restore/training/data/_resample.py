"""Pixels at another size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def halved(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(H, W) or (H, W, C) at half the size, each pixel the mean of four; masks: all four.

    An odd last row or column is left out.
    """
    h, w = values.shape[0] // 2 * 2, values.shape[1] // 2 * 2
    four = [values[y:h:2, x:w:2] for y in (0, 1) for x in (0, 1)]
    if values.dtype == np.bool_:
        return np.asarray(np.logical_and.reduce(four))
    if values.dtype == np.uint8:
        total = np.add.reduce(four, dtype=np.uint16)
        return np.asarray((total + np.uint16(2)) >> np.uint16(2)).astype(np.uint8)
    return np.asarray(np.add.reduce(four) / len(four)).astype(values.dtype)


def resized(values: Array, shape: tuple[int, int]) -> Array:
    """(H, W) bilinearly at `shape`, smoothed where that is smaller."""
    from PIL import Image

    if values.shape == shape:
        return values
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    result: Array = np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR))
    return result


def fitting(shape: tuple[int, int], longest: int | None) -> tuple[int, int]:
    """`shape` reduced to at most `longest` along its longer side."""
    if longest is None or max(shape) <= longest:
        return shape
    scale = longest / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
