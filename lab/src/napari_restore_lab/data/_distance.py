"""Distance maps of images, from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.extension import InputError
from napari_restore_lab.data._resample import resized

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SLACK = 0.01
"""Relative tolerance between the shapes of an image and its distances."""
QUARTER_TURNS = {5, 6, 7, 8}
"""EXIF orientations that swap height and width."""


def read_distance(path: Path, kind: str, shape: tuple[int, ...], orientation: int = 1) -> Array:
    """Read the distances of a file, (H, W) at `shape`, 0 near to 1 far.

    Parameters
    ----------
    path
        A TIFF of any type, or a format of Pillow, with one band. Values at or below 0 and those
        that are not finite are unknown and take the largest value near them.
    kind
        ``rgbd_disparity`` takes the inverse of the values.
    shape
        (H, W) of the picture, upright.
    orientation
        EXIF orientation of the image, 1 to 8: distances in the orientation of the stored image
        are rotated accordingly.

    Raises
    ------
    InputError
        It cannot be read, has several bands, contains no distance, or differs in shape from the
        image by more than a hundredth.
    """
    values = _rotated(_read(path), path, (int(shape[0]), int(shape[1])), orientation)
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        raise InputError(f"{path} contains no distances.", "0 means unknown.")
    if kind == "rgbd_disparity":
        values = np.where(known, 1 / np.where(known, np.maximum(values, 1e-6), 1), 0)
    values = filled(values, known)
    # Outliers must not compress the range of the others.
    far = float(np.percentile(values, 99))
    values = np.clip(values / max(far, 1e-6), 0, 1).astype(np.float32)
    return resized(values, (int(shape[0]), int(shape[1])))


def filled(values: Array, known: Mask) -> Array:
    """Fill unknown values (H, W) with the largest known one nearby.

    Nearby is the smallest block of 2 × 2, 4 × 4 … pixels with a known value.
    """
    levels = [np.where(known, values, 0).astype(np.float32)]
    while not levels[-1].all() and max(levels[-1].shape) > 1:
        last = levels[-1]
        odd = [(0, side % 2) for side in last.shape]
        even = np.pad(last, odd)
        h, w = even.shape
        levels.append(even.reshape(h // 2, 2, w // 2, 2).max(axis=(1, 3)))
    out = levels.pop()
    while levels:
        finer = levels.pop()
        above = out.repeat(2, axis=0).repeat(2, axis=1)[: finer.shape[0], : finer.shape[1]]
        out = np.where(finer > 0, finer, above)
    return out


def orientation_of(path: Path) -> int:
    """Return the EXIF orientation of a photo; 1 where it has none."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            return int(file.getexif().get(0x0112, 1))
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        return 1


def _read(path: Path) -> npt.NDArray[Any]:
    """Read the values of a file as float32, (H, W)."""
    from PIL import Image, ImageOps

    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            values = np.asarray(tifffile.imread(path))
        else:
            with Image.open(path) as file:
                values = np.asarray(ImageOps.exif_transpose(file))
        if not values.size:
            raise ValueError("there is nothing in it")
    except Exception as error:  # tifffile raises many types for damaged files
        raise InputError(
            f"{path} cannot be read ({error}).", "It should hold the distances of a picture."
        ) from error
    values = values[0] if values.ndim == 3 and values.shape[0] == 1 else values
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise InputError(
            f"{path} contains no distances: its shape is {values.shape}.",
            "Distances are one band of numbers.",
        )
    return values.astype(np.float32)


def _rotated(values: Array, path: Path, shape: tuple[int, int], orientation: int) -> Array:
    """Rotate `values` to the orientation of the image of `shape`."""
    if _same_shape(values.shape, shape):
        return values
    if orientation in QUARTER_TURNS and _same_shape(values.shape[::-1], shape):
        rotated = values.T
        if orientation in (6, 7):
            rotated = rotated[:, ::-1]
        if orientation in (7, 8):
            rotated = rotated[::-1]
        return np.ascontiguousarray(rotated)
    raise InputError(
        f"{path.name} is {values.shape[1]} × {values.shape[0]} and its picture "
        f"{shape[1]} × {shape[0]}.",
        "Distances have the shape of their picture.",
    )


def _same_shape(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    # A reduced picture was rounded to whole pixels.
    wanted = other[0] * one[1] / one[0]
    rounding = 0.5 + 0.5 * one[1] / one[0]
    return bool(abs(wanted - other[1]) <= SLACK * wanted + rounding)
