"""The pixels of a scene as 8-bit display values, which of them are valid, and how far they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import InputError
from napari_restore.training.data._scenes import Scene

Codes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float32]

BORDER_SHARE = 0.002
"""Smallest part of an aerial picture that its border takes up."""
BORDER_MARGIN = 2
"""Pixels beside a border that lossy compression has stained."""
PHOTOS = (".jpg", ".jpeg", ".png", ".webp")
"""Suffixes that Pillow reads, where the other readers may be missing."""


@dataclass(frozen=True)
class Picture:
    """A clear picture in memory."""

    rgb: Codes
    """(H, W, 3) red, green, blue as a screen shows them (sRGB)."""
    valid: Mask
    """(H, W); False: border of a mosaic, transparent, nodata."""
    distance: Array | None = None
    """(H, W), 0 near to 1 far, or None if it is not known."""


def read_picture(scene: Scene, longest: int | None = None) -> Picture:
    """Read a scene, reduced to at most `longest` pixels a side.

    Raises `InputError` (`UnreadableImage`) with the cause.
    """
    rgb, valid = read_rgb(scene.path, longest)
    if scene.kind == "aerial":
        valid &= ~border_of(rgb)
    distance = None
    if scene.distance is not None:
        distance = read_distance(scene.distance, scene.distance_kind, rgb.shape[:2])
    return Picture(rgb, valid, distance)


def read_rgb(path: Path, longest: int | None = None) -> tuple[Codes, Mask]:
    """(H, W, 3) display values and (H, W) validity of a file.

    8-bit photos are read by Pillow, turned upright; all else by the image readers,
    between black and white of the whole picture.
    """
    if path.suffix.lower() in PHOTOS:
        found = _read_photo(path, longest)
        if found is not None:
            return found
    return _read_raster(path, longest)


def read_distance(path: Path, kind: str, shape: tuple[int, ...]) -> Array:
    """(H, W) distances of a file, 0 near to 1 far, at `shape`.

    `kind` `rgbd_disparity` takes the inverse of the values. 0 is unknown and takes the
    largest value near it.
    """
    from PIL import Image

    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile

        values = np.asarray(tifffile.imread(path), np.float32)
    else:
        try:
            with Image.open(path) as file:
                values = np.asarray(file, np.float32)
        except OSError as error:
            raise InputError(f"{path} cannot be read.", "Its distances are needed.") from error
    known = values > 0
    if not known.any():
        raise InputError(f"{path} holds no distances.", "0 means unknown.")
    if kind == "rgbd_disparity":
        values = np.where(known, 1 / np.maximum(values, 1e-6), 0).astype(np.float32)
    values = _filled(values, known)
    # What is far away in single pixels only must not squeeze the rest.
    far = float(np.percentile(values, 99))
    values = np.clip(values / max(far, 1e-6), 0, 1).astype(np.float32)
    return resized(values, (int(shape[0]), int(shape[1])))


def border_of(rgb: Codes) -> Mask:
    """Where a mosaic (H, W, 3) has no picture: black or white from an edge inwards."""
    border = np.zeros(rgb.shape[:2], np.bool_)
    for flat in (rgb.max(axis=2) <= 2, rgb.min(axis=2) >= 254):
        reached = np.zeros_like(flat)
        for axis in (0, 1):
            ahead = np.logical_and.accumulate(flat, axis=axis)
            behind = np.flip(np.logical_and.accumulate(np.flip(flat, axis), axis=axis), axis)
            reached |= ahead | behind
        if reached.mean() > BORDER_SHARE:
            border |= reached
    if border.any():
        border = grown(border, BORDER_MARGIN)
    return border


def grown(mask: Mask, by: int) -> Mask:
    """(H, W) with all that lies within `by` pixels of what is true."""
    out = mask.copy()
    for axis in (0, 1):
        wide = out.copy()
        for step in range(1, by + 1):
            ahead, behind = [slice(None)] * 2, [slice(None)] * 2
            ahead[axis], behind[axis] = slice(step, None), slice(None, -step)
            wide[tuple(ahead)] |= out[tuple(behind)]
            wide[tuple(behind)] |= out[tuple(ahead)]
        out = wide
    return out


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


def _read_photo(path: Path, longest: int | None) -> tuple[Codes, Mask] | None:
    """None: no 8-bit photo after all."""
    from PIL import Image, ImageOps

    from napari_restore.errors import UnreadableImage

    try:
        with Image.open(path) as file:
            if file.mode not in ("RGB", "RGBA", "L", "P", "LA"):
                return None
            if longest is not None:
                file.draft("RGB", (longest, longest))
            picture: Image.Image = ImageOps.exif_transpose(file)
            has_alpha = picture.mode in ("RGBA", "LA") or "transparency" in picture.info
            picture = picture.convert("RGBA" if has_alpha else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImage(
            f"{path.name} cannot be read ({error}).", "Is it a whole picture?"
        ) from error
    size = _reduced((picture.height, picture.width), longest)
    if size != (picture.height, picture.width):
        picture = picture.resize(size[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0)
    values = np.asarray(picture)
    valid = values[..., 3] == 255 if has_alpha else np.ones(values.shape[:2], np.bool_)
    return np.ascontiguousarray(values[..., :3]), valid


def _read_raster(path: Path, longest: int | None) -> tuple[Codes, Mask]:
    from PIL import Image

    from napari_restore.training.data._display import read_display

    values, valid = read_display(path)
    codes = np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)
    while longest is not None and max(codes.shape[:2]) >= 2 * longest:
        codes, valid = halved(codes), halved(valid)
    height, width = codes.shape[:2]
    size = _reduced((height, width), longest)
    if size != (height, width):
        codes = np.asarray(Image.fromarray(codes).resize(size[::-1], Image.Resampling.LANCZOS))
        valid = resized(valid.astype(np.float32), size) > 0.999
    return codes, valid


def _reduced(shape: tuple[int, int], longest: int | None) -> tuple[int, int]:
    if longest is None or max(shape) <= longest:
        return shape
    scale = longest / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _filled(values: Array, known: Mask) -> Array:
    """Unknown values take the largest known one nearby, ever farther away."""
    out, found = np.where(known, values, 0).astype(np.float32), known.copy()
    while not found.all():
        near = out
        for axis in (0, 1):
            padded = np.pad(near, [(1, 1) if a == axis else (0, 0) for a in (0, 1)])
            parts = [
                np.take(padded, np.arange(k, k + near.shape[axis]), axis=axis) for k in range(3)
            ]
            near = np.maximum.reduce(parts)
        out = np.where(found, out, near)
        found = out > 0
    return out
