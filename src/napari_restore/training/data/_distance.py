"""How far all is in a picture, from a file beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import InputError
from napari_restore.training.data._resample import resized

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

SLACK = 0.01
"""Part by which the sides of a picture and its distances may differ in shape."""
QUARTER_TURNS = {5, 6, 7, 8}
"""EXIF orientations that swap height and width."""


def read_distance(path: Path, kind: str, shape: tuple[int, ...], orientation: int = 1) -> Array:
    """(H, W) distances of a file, 0 near to 1 far, at `shape`.

    Parameters
    ----------
    path
        A TIFF of any type, or what Pillow reads, with one band. 0, what is below it and
        what is not finite are unknown and take the largest value near them.
    kind
        ``rgbd_disparity`` takes the inverse of the values.
    shape
        (H, W) of the picture, upright.
    orientation
        The picture's in its file (EXIF, 1 to 8): distances that lie as the picture is
        stored and not as it is seen are turned likewise.

    Raises
    ------
    InputError
        It cannot be read, has several bands, holds no distance, or is of another shape
        than the picture, by more than a hundredth.
    """
    values = _turned(_read(path), path, (int(shape[0]), int(shape[1])), orientation)
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        raise InputError(f"{path} holds no distances.", "0 means unknown.")
    if kind == "rgbd_disparity":
        values = np.where(known, 1 / np.where(known, np.maximum(values, 1e-6), 1), 0)
    values = filled(values, known)
    # What is far away in single pixels only must not squeeze the rest.
    far = float(np.percentile(values, 99))
    values = np.clip(values / max(far, 1e-6), 0, 1).astype(np.float32)
    return resized(values, (int(shape[0]), int(shape[1])))


def filled(values: Array, known: Mask) -> Array:
    """(H, W) where unknown values take the largest known one nearby, ever farther away.

    Nearby is a block of 2 × 2, 4 × 4 … pixels.
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
    """EXIF orientation of a photo; 1 where it tells none."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            return int(file.getexif().get(0x0112, 1))
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError):
        return 1


def _read(path: Path) -> npt.NDArray[Any]:
    """The values of a file, float32, 2-D."""
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
    except Exception as error:  # tifffile raises whatever a broken file leads it to
        raise InputError(
            f"{path} cannot be read ({error}).", "It should hold the distances of a picture."
        ) from error
    values = values[0] if values.ndim == 3 and values.shape[0] == 1 else values
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise InputError(
            f"{path} holds no distances: its shape is {values.shape}.",
            "Distances are one band of numbers.",
        )
    return values.astype(np.float32)


def _turned(values: Array, path: Path, shape: tuple[int, int], orientation: int) -> Array:
    """`values` as the picture of `shape` lies."""
    if _alike(values.shape, shape):
        return values
    if orientation in QUARTER_TURNS and _alike(values.shape[::-1], shape):
        turned = values.T
        if orientation in (6, 7):
            turned = turned[:, ::-1]
        if orientation in (7, 8):
            turned = turned[::-1]
        return np.ascontiguousarray(turned)
    raise InputError(
        f"{path.name} is {values.shape[1]} × {values.shape[0]} and its picture "
        f"{shape[1]} × {shape[0]}.",
        "Distances have the shape of their picture.",
    )


def _alike(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    # A reduced picture was rounded to whole pixels.
    wanted = other[0] * one[1] / one[0]
    rounding = 0.5 + 0.5 * one[1] / one[0]
    return bool(abs(wanted - other[1]) <= SLACK * wanted + rounding)
