"""Reads a scene as 8-bit display values, with validity and distances."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_restore_lab.data._distance import orientation_of, read_distance
from napari_restore_lab.data._resample import fitting, halved, resized
from napari_restore_lab.data._scenes import PHOTOS, Scene

Codes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float32]

BORDER_SHARE = 0.002
"""Smallest share of an aerial image that counts as its border."""
BORDER_MARGIN = 2
"""Pixels beside a border that are affected by lossy compression."""


@dataclass(frozen=True)
class Picture:
    """A clear picture in memory."""

    rgb: Codes
    """(H, W, 3) red, green, blue, sRGB."""
    valid: Mask
    """(H, W); False: border of a mosaic, transparent, nodata."""
    distance: Array | None = None
    """(H, W), 0 near to 1 far, or None if unknown."""
    is_light: bool = False
    """Whether values are linear in light, as sensor counts, unlike those of photos."""


def read_picture(scene: Scene, longest: int | None = None) -> Picture:
    """Read a scene, reduced to at most `longest` pixels a side.

    8-bit photos are read by Pillow, in upright orientation; others by the image readers, with
    black and white of the whole image, from the smallest sufficient level.
    Raises `InputError` (`UnreadableImage`) with the cause.
    """
    picture = _read_photo(scene.path, longest) if scene.path.suffix.lower() in PHOTOS else None
    if picture is None:
        picture = _read_raster(scene.path, longest)
    valid, distance = picture.valid, None
    if scene.kind == "aerial":
        valid = valid & ~border_of(picture.rgb)
    if scene.distance is not None:
        distance = read_distance(
            scene.distance,
            scene.distance_kind,
            picture.rgb.shape[:2],
            orientation_of(scene.path) if scene.path.suffix.lower() in PHOTOS else 1,
        )
    return replace(picture, valid=valid, distance=distance)


def border_of(rgb: Codes) -> Mask:
    """Return the border of a mosaic (H, W, 3): black or white from an edge inwards."""
    return border_in(*flat_in(rgb))


def flat_in(rgb: Codes) -> tuple[Mask, Mask]:
    """Return where an image (H, W, 3) is black, and where it is white."""
    return rgb.max(axis=2) <= 2, rgb.min(axis=2) >= 254


def border_in(black: Mask, white: Mask) -> Mask:
    """Return the border of an image from its black and white pixels, (H, W) each."""
    border = np.zeros(black.shape, np.bool_)
    for flat in (black, white):
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
    """Dilate a mask (H, W) by `by` pixels."""
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


def _read_photo(path: Path, longest: int | None) -> Picture | None:
    """Read an 8-bit photo; return None for other modes."""
    from PIL import Image, ImageOps

    from napari_restore.extension import UnreadableImage

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
    size = fitting((picture.height, picture.width), longest)
    if size != (picture.height, picture.width):
        picture = picture.resize(size[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0)
    values = np.asarray(picture)
    valid = values[..., 3] == 255 if has_alpha else np.ones(values.shape[:2], np.bool_)
    return Picture(np.ascontiguousarray(values[..., :3]), valid)


def _read_raster(path: Path, longest: int | None) -> Picture:
    from PIL import Image

    from napari_restore_lab.data._display import read_display

    values, valid, is_light = read_display(path, longest)
    codes = np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)
    while longest is not None and max(codes.shape[:2]) >= 2 * longest:
        codes, valid = halved(codes), halved(valid)
    height, width = codes.shape[:2]
    size = fitting((height, width), longest)
    if size != (height, width):
        codes = np.asarray(Image.fromarray(codes).resize(size[::-1], Image.Resampling.LANCZOS))
        valid = resized(valid.astype(np.float32), size) > 0.999
    return Picture(codes, valid, is_light=is_light)
