"""A photo as its file shows it: resized, sharpened, in other colours, without alpha.

Pixels are made strip by strip, from no more rows than a strip needs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._plain_files import read_file
from napari_restore.errors import BadOutput, option
from napari_restore.images._base import DerivedReader
from napari_restore.images._image import Image
from napari_restore.images._profile import PER_BAND
from napari_restore.images._source import Box, Level, chunk_box
from napari_restore.images.export._job import ExportOptions, Pixels
from napari_restore.images.files.exif import exif_of_colours
from napari_restore.images.values.depth import in_8_bits
from napari_restore.images.values.working_space import (
    NAMED_PROFILES,
    converted,
    is_srgb,
    named_profile,
    usable_profile,
)

Floats = npt.NDArray[np.float32]

FULL = 65535
CHANGES = ("profile", "resize", "sharpen")
"""Options that change pixels."""
JPEG_SUFFIXES = (".jpg", ".jpeg")
AMOUNT = 0.6
"""Share of its detail that a sharpened picture gets once more."""
_KERNEL = (0.03, 0.235, 0.47, 0.235, 0.03)
"""A Gaussian of 0.8 pixels, about what resizing and a screen blur."""
REACH = len(_KERNEL) // 2
_LUMA = (0.2126, 0.7152, 0.0722)
LOBES = 3
"""Of Lanczos' kernel, in pixels of the smaller picture."""
STRIP_BYTES = 32 << 20
"""Of the source's values that are resized at once."""
MOST_PROFILE_BYTES = 16 << 20


def is_changed(target: Path, like: Image, options: ExportOptions) -> bool:
    """Return whether the file of `like` has other pixels than its result."""
    return any(getattr(options, name) for name in CHANGES) or is_flattened(target, like)


def is_flattened(target: Path, like: Image) -> bool:
    """Return whether alpha, which the format lacks, is left out of a photo's file."""
    is_jpeg = target.suffix.lower() in JPEG_SUFFIXES
    return is_jpeg and "alpha" in like.roles and like.georeference is None


def icc_of(profile: str) -> bytes:
    """Return the ICC profile of a name or file. Raises `BadOutput`."""
    if profile in NAMED_PROFILES:
        return named_profile(profile)
    path, names = Path(profile).expanduser(), ", ".join(NAMED_PROFILES)
    try:
        icc = read_file(path, MOST_PROFILE_BYTES)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        why = f"The colour profile {profile} is not read: {error.strerror}."
        why = f"There is no colour profile {profile}." if missing else why
        raise BadOutput(why, f"Name a file, or one of {names}.") from None
    if not usable_profile(icc):
        raise BadOutput(
            f"{path.name} is no ICC profile of red, green and blue that colours can be written in.",
            f"Name another file, or one of {names}.",
        )
    return icc


class Rendition(DerivedReader):
    """Pixels of a result (H, W, C) as the file has them, uint8 or uint16; raises `BadOutput` for no photo."""

    def __init__(self, pixels: Pixels, like: Image, target: Path, options: ExportOptions) -> None:
        super().__init__(like)
        self._pixels, self._options = pixels, options
        self._light, self._is_flat = like.profile.light, is_flattened(target, like)
        self._check(like, options)
        y0, x0, y1, x1 = pixels.box
        self._height, self._width = height, width = y1 - y0, x1 - x0
        if options.resize is not None and options.resize < max(height, width):
            share = options.resize / max(height, width)
            height, width = (max(1, round(side * share)) for side in (height, width))
        self.levels = (Level(height, width, min(height, 512), width),)
        deep = like.dtype != np.uint8 or options.bit_depth == 16
        self.dtype = np.dtype(np.uint16 if deep else np.uint8)
        bits = like.profile.bits or 16
        self._white = 255 if like.dtype == np.uint8 else 2**bits - 1
        self._read_pixels = pixels.read
        if like.dtype == np.uint8 and deep and pixels.read_16 is not None:
            self._read_pixels, self._white = pixels.read_16, FULL
        roles = list(like.roles)
        self._alpha = roles.index("alpha") if "alpha" in roles else None
        self._colours = [number for number in range(like.bands) if number != self._alpha]
        self.bands = len(self._colours) if self._is_flat else like.bands
        self._describe(like)

    def _check(self, like: Image, options: ExportOptions) -> None:
        asked = [option(name, getattr(options, name)) for name in CHANGES if getattr(options, name)]
        named = f"{asked[0] if asked else 'JPEG without alpha'} is for photos"
        instead = "Leave it out" if asked else "Write a .tif or .zarr instead"
        lit = [role for role in like.roles if role != "alpha"]
        why = None
        if like.georeference is not None:
            why = "has a place on a map"
        elif like.dtype not in (np.uint8, np.uint16) and like.profile.light is None:
            why = f"has {like.dtype} values"
        elif like.profile.masks not in ("none", "alpha"):
            why = "has pixels without data"
        elif len(lit) == 1 and options.profile is not None:
            named, why = f"{option('profile', options.profile)} is for colours", "is grey"
        elif len(lit) != 1 and lit != ["red", "green", "blue"]:
            why = f"has {len(lit)} bands that are not red, green and blue"
        if why is not None:
            raise BadOutput(f"{named}, and {like.name} {why}.", f"{instead}.")
        if options.clip == "mask":
            raise BadOutput(
                f"{named} without areas outside.",
                f"Use {option('clip', 'box')}. {instead}.",
            )
        self._icc = None if options.profile is None else icc_of(options.profile)

    def _describe(self, like: Image) -> None:
        """Set the profile of what is written."""
        profile = like.profile
        if self.levels[0][:2] != (self._height, self._width):
            profile = replace(profile, grid=None)
        icc, exif = profile.icc, profile.exif
        if self._icc is not None:
            icc, exif = self._icc, exif_of_colours(exif, srgb=is_srgb(self._icc))
        per_band: dict[str, Any] = {}
        if self._is_flat:
            per_band = dict.fromkeys(PER_BAND, ())
            self.may_be_invalid = False
        is_grey = len(self._colours) == 1
        names = tuple(
            "gray" if is_grey and role != "alpha" else role
            for role in like.roles
            if role != "alpha" or not self._is_flat
        )
        self.profile = replace(
            profile,
            **{**per_band, "colorinterp": names},
            icc=icc,
            exif=exif,
            light=None,
            bits=None,
            premultiplied=profile.premultiplied and not self._is_flat,
            masks="none" if self._is_flat else profile.masks,
        )

    def digest(self) -> str:
        return repr((self._options, self._pixels.box))

    @cached_property
    def pixels(self) -> Pixels:
        """What is to be written of it: all."""
        height, width = self.levels[0][:2]
        return Pixels((0, 0, height, width), self.rendered)

    def read_chunk(self, level: int, row: int, column: int) -> npt.NDArray[Any]:
        return self.rendered(chunk_box(self.levels[level], row, column))

    def rendered(self, box: Box) -> npt.NDArray[Any]:
        """Return the pixels (h, w, C) of a box."""
        y0, x0, y1, x1 = box
        height, width = self.levels[0][:2]
        reach = REACH if self._options.sharpen else 0
        top, left = max(0, y0 - reach), max(0, x0 - reach)
        bottom, right = min(height, y1 + reach), min(width, x1 + reach)
        values = self._resized((top, left, bottom, right))
        if self._alpha is not None and self._is_flat:
            opacity = values[..., self._alpha, None]
            values = values[..., self._colours] * opacity + (1 - opacity)
        if reach:
            colours = list(range(values.shape[2])) if self._is_flat else self._colours
            beside = ((y0 - top, bottom - y1), (x0 - left, right - x1))
            values = _sharpened(values, colours, beside, None if self._is_flat else self._alpha)
        return self._as_written(values)

    def _as_written(self, values: Floats) -> npt.NDArray[Any]:
        wide = np.rint(values.clip(0, 1) * np.float32(FULL)).astype(np.uint16)
        if self._icc is not None:
            space = self.image.working_space
            source = None if space is None else space.icc
            positions = [0, 1, 2] if self._is_flat else self._colours
            planes = np.stack([wide[..., at] for at in positions])
            for at, plane in zip(positions, converted(planes, source, self._icc), strict=True):
                wide[..., at] = plane
        if self.dtype == np.uint16:
            return wide
        return in_8_bits(wide)

    def _resized(self, box: Box) -> Floats:
        """Return the values (h, w, C) of a box, 0 … 1, by Lanczos' kernel."""
        y0, x0, y1, x1 = box
        height, width = self.levels[0][:2]
        if (height, width) == (self._height, self._width):
            return self._read(box)
        down, across = self._height / height, self._width / width
        left, right = _around(x0, x1, across, self._width)
        row_bytes = 4 * self.image.bands * (right - left) * down
        step = max(1, int(STRIP_BYTES / row_bytes) - 2 * LOBES)
        strips = []
        for top in range(y0, y1, step):
            bottom = min(top + step, y1)
            first, last = _around(top, bottom, down, self._height)
            values = self._read((first, left, last, right))
            if self._alpha is not None:
                # Colours of transparent pixels do not count.
                opacity = values[..., self._alpha, None].copy()
                values[..., self._colours] *= opacity
            place = (
                x0 * across - left,
                top * down - first,
                x1 * across - left,
                bottom * down - first,
            )
            strips.append(_lanczos(values, (x1 - x0, bottom - top), place))
        resized = np.concatenate(strips)
        if self._alpha is not None:
            opacity = resized[..., self._alpha, None]
            resized[..., self._colours] /= np.maximum(opacity, np.float32(1e-6))
        return resized.clip(0, 1)

    def _read(self, box: Box) -> Floats:
        """Return the values (h, w, C) of a box of the result, 0 … 1."""
        y, x = self._pixels.box[:2]
        y0, x0, y1, x1 = box
        values = self._read_pixels((y0 + y, x0 + x, y1 + y, x1 + x))
        if self._light is not None:
            alpha = [] if self._alpha is None else [self._alpha]
            return self._light.shown(values, np.float32, alpha)
        shown: Floats = values.astype(np.float32)
        shown /= np.float32(self._white)
        return shown


def _around(first: int, end: int, scale: float, length: int) -> tuple[int, int]:
    """Return the pixels of a side of the source that some of a smaller picture are made of."""
    margin = LOBES * scale + 1
    return max(0, int(first * scale - margin)), min(length, int(end * scale + margin) + 1)


def _lanczos(
    values: Floats, size: tuple[int, int], place: tuple[float, float, float, float]
) -> Floats:
    """Return `place` (x0, y0, x1, y1) of values (h, w, C) as a picture of another size."""
    from PIL import Image as Pillow

    height, width = values.shape[:2]
    box = (max(0, place[0]), max(0, place[1]), min(width, place[2]), min(height, place[3]))
    bands = [
        Pillow.fromarray(np.ascontiguousarray(values[..., n])).resize(
            size, Pillow.Resampling.LANCZOS, box=box
        )
        for n in range(values.shape[2])
    ]
    return np.stack([np.asarray(band) for band in bands], axis=2)


def _sharpened(
    values: Floats,
    colours: list[int],
    beside: tuple[tuple[int, int], tuple[int, int]],
    alpha: int | None,
) -> Floats:
    """Return values (h, w, C) with their detail of brightness added once more, without `beside`.

    `beside` are the rows above and below, columns left and right that are there for their
    neighbours; others, beyond an edge, are those of the edge. Colours of transparent pixels do not
    count, and stay.
    """
    weights = _LUMA if len(colours) == 3 else (1.0,)
    shares = [values[..., n] * np.float32(w) for n, w in zip(colours, weights, strict=True)]
    luma = np.sum(shares, axis=0)
    opacity = np.ones_like(luma) if alpha is None else values[..., alpha]
    missing = [(REACH - before, REACH - after) for before, after in beside]
    wide, solid = (np.pad(plane, missing, mode="edge") for plane in (luma, opacity))
    inside = (slice(REACH, -REACH), slice(REACH, -REACH))
    near = _blurred(solid)
    detail = wide[inside] * near - _blurred(wide * solid)
    # The mean around a pixel is that of the opaque part, also where all is half transparent.
    np.divide(detail, near, out=detail, where=near > 0)
    detail[solid[inside] == 0] = 0
    (top, bottom), (left, right) = beside
    inner = values[top : len(values) - bottom, left : values.shape[1] - right].copy()
    for number in colours:
        inner[..., number] += np.float32(AMOUNT) * detail
    return inner


def _blurred(wide: Any) -> Any:
    for _ in range(2):  # down, then across
        length = len(wide) - 2 * REACH
        parts = (np.float32(share) * wide[at : at + length] for at, share in enumerate(_KERNEL))
        wide = sum(parts).T
    return wide
