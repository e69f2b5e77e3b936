"""Resampling of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def halved(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Reduce (H, W) or (H, W, C) to half the size: means of four pixels; masks: all four.

    An odd last row or column is dropped.
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
    """Resize (H, W) bilinearly to `shape`, with antialiasing."""
    from PIL import Image

    if values.shape == shape:
        return values
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    result: Array = np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR))
    return result


def fitting(shape: tuple[int, int], longest: int | None) -> tuple[int, int]:
    """Return `shape` reduced to at most `longest` along its longer side."""
    if longest is None or max(shape) <= longest:
        return shape
    scale = longest / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
