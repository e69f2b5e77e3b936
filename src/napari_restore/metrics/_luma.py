"""PSNR and SSIM of the luma alone, as much of the literature on dehazing reports them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter
from napari_restore.metrics._comparable import comparable
from napari_restore.metrics._psnr import psnr
from napari_restore.metrics._ssim import ssim

WEIGHTS = (65.481, 128.553, 24.966)
"""Weights of red, green and blue from 0 to 1, ITU-R BT.601 with 8-bit studio range."""
BLACK = 16


def luma(rgb: npt.ArrayLike, data_range: float) -> npt.NDArray[np.float32]:
    """Return Y = (65.481 R + 128.553 G + 24.966 B + 16) / 255 of (h, w, 3) from 0 to `data_range`.

    ITU-R BT.601 with the studio range, MATLAB's ``rgb2ycbcr``: black is 16/255, white 235/255.
    Returns (h, w). Raises `BadParameter` for other shapes.
    """
    pixels = np.asarray(rgb)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise BadParameter(
            f"Luma is of colours, not of an image of {pixels.shape}.", "Give red, green and blue."
        )
    total: npt.NDArray[np.float32] = np.full(pixels.shape[:2], BLACK / 255, np.float32)
    for band, weight in enumerate(WEIGHTS):
        total += pixels[..., band] * np.float32(weight / 255 / data_range)
    return total


def psnr_y(
    a: npt.ArrayLike, b: npt.ArrayLike, data_range: float, valid: npt.ArrayLike | None = None
) -> float:
    """Return `psnr` of the `luma` of two images (h, w, 3).

    Its peak is 1, though Y spans 219/255.
    """
    return psnr(*_lumas(a, b, data_range), 1.0, valid)


def ssim_y(
    a: npt.ArrayLike, b: npt.ArrayLike, data_range: float, valid: npt.ArrayLike | None = None
) -> float:
    """Return `ssim` of the `luma` of two images (h, w, 3), with L = 1."""
    return ssim(*_lumas(a, b, data_range), 1.0, valid)


def _lumas(
    a: npt.ArrayLike, b: npt.ArrayLike, data_range: float
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    first, second, _ = comparable(a, b, data_range, None)
    return luma(first, data_range), luma(second, data_range)
