"""Which valid pixels stand for the scene: those that nodata beside them has not touched."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.images.values._validity import is_nodata, is_sentinel

Mask = npt.NDArray[np.bool_]

KERNEL = 3
"""Pixels from nodata up to which resampling mixes it in: Lanczos reaches 3, cubic 2, bilinear 1."""
STAGGER = 16
"""Pixels by which bands of a scanner may end apart; 8 is the most seen in Landsat scenes."""
REACH = STAGGER + 2 * KERNEL + 1
"""Pixels around a box that `clear_of_edges` must see to be right within it."""


def may_lack_a_band(bands: tuple[int, ...], nodata: float | None, dtype: np.dtype[Any]) -> bool:
    """Return whether a valid pixel may be nodata in one of `bands`.

    Where nodata is a value that no real pixel has, one band of it makes a pixel invalid.
    """
    return nodata is not None and len(bands) > 1 and not is_sentinel(nodata, dtype)


def lacks_a_band(pixels: npt.NDArray[Any], bands: tuple[int, ...], nodata: float | None) -> Mask:
    """Return (h, w) True where one of `bands` of `pixels` (h, w, C) is nodata."""
    lacking = np.zeros(pixels.shape[:2], bool)
    for band in bands:
        lacking |= is_nodata(pixels[..., band], nodata)
    return lacking


def clear_of_edges(valid: Mask, lacking: Mask | None) -> Mask:
    """Return (h, w) the pixels of `valid` whose values statistics can rely on.

    Left out are those within `KERNEL` of nodata, where resampling has darkened them, and
    those that lack a band between nodata and complete pixels, where bands end apart, with
    what is within `KERNEL` of them. In parts too narrow to have any other, pixels count;
    so there is always one within `REACH` of a valid pixel.
    """
    there = valid
    if lacking is not None and lacking.any():
        between = widened(~valid, STAGGER) & widened(valid & ~lacking, STAGGER)
        there = valid & ~(lacking & between)
    inner = ~widened(~there, KERNEL)
    return inner | (there & ~widened(inner, KERNEL + 1))


def widened(mask: Mask, radius: int) -> Mask:
    """Return True within `radius` rows and columns of a True pixel of `mask` (h, w)."""
    size = 2 * radius + 1
    for _ in range(2):
        mask = np.pad(mask.T, ((radius, radius), (0, 0)))
        covered = 1
        while covered < size:
            step = min(covered, size - covered)
            mask = mask[:-step] | mask[step:]
            covered += step
    return mask
