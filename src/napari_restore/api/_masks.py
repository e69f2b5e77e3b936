"""Mask files in the cache, from drawn areas and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_restore.api._images import open_image


def mask_of_polygons(image: Any, polygons: Sequence[Any]) -> Path:
    """Write polygons to a file for the option `mask`, in the CRS of `image` where it has one.

    A polygon is its outer ring and then its holes, a ring a list of points (x, y) in
    pixels, edges at whole numbers. The file is in the cache; equal
    polygons have the same file.
    """
    from napari_restore import images

    return images.keep_polygons(open_image(image), polygons)


def mask_of_line(image: Any, start: tuple[float, float], end: tuple[float, float]) -> Path:
    """Write a linear gradient from `start` (0) to `end` (1) for `mask`; see `mask_of_polygons`."""
    from napari_restore import images

    return images.keep_gradient(open_image(image), start, end)


def mask_of_array(
    image: Any, strengths: Any, place: tuple[float, float, float, float, float, float]
) -> Path:
    """Write strengths, an array (h, w), for `mask`; see `mask_of_polygons`.

    `place` is the affine transform (a, b, c, d, e, f) from column and row of the array to those of
    the image, x = a column + b row + c, from the corner of the first pixel: the array may be
    coarser than the image. Floats are 0 … 1; integers 0 or 1 if none is larger,
    else 0 … the type's largest value. Reads the array in pieces. Raises `BadMask`
    where no strength is above 0.
    """
    from napari_restore import images

    return images.keep_strengths(open_image(image), strengths, place)
