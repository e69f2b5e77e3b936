"""Any image as display values, and changes of those back into its own values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import InputError, UnknownBands
from napari_restore.images import (
    Box,
    Image,
    Radiometry,
    needs_percentile,
    open_image,
    resolve_radiometry,
)

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MOST_PIXELS = 2**28
"""A larger image is refused: the optical depth of all of it is held in memory."""
STRIP_PIXELS = 2**22
"""Pixels that are read at a time."""
SAMPLED = 2**21
"""About so many pixels decide what a percentile is."""
RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Displayed:
    """The colours of an image between its black and its white."""

    image: Image
    """Its colours, and its alpha if there is one; other bands are left out."""
    radiometry: Radiometry
    colours: tuple[int, ...]
    """Numbers of red, green and blue, or of the one grey band."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.height, self.image.width

    @property
    def box(self) -> Box:
        """All of it."""
        return 0, 0, self.image.height, self.image.width

    @property
    def is_light(self) -> bool:
        """Whether values are linear in light, as counts of a sensor are and a photo's are not."""
        return self.image.dtype != np.uint8 and not self.image.profile.is_photo

    def read(self, box: Box) -> tuple[Array, Mask]:
        """(h, w, 3) display values of `box`, about 0 to 1, grey thrice; (h, w) validity.

        What is not valid is 0.
        """
        valid = self.image.read_valid(box)
        return self._seen(self.image.read(box), valid), valid

    def _seen(self, pixels: npt.NDArray[Any], valid: Mask) -> Array:
        values = self.radiometry.to_model_tile(pixels, self.colours)
        if len(self.colours) == 1:
            values = np.repeat(values, 3, axis=2)
        return np.where(valid[..., None] & np.isfinite(values), values, np.float32(0))

    def changed(self, box: Box, changed: npt.NDArray[np.float32], clear: Array) -> Any:
        """(h, w, C) pixels of `box` in the image's own type and units.

        `changed` and `clear` are (h, w, 3) display values; where they are equal, and
        where nothing is valid, the image's pixels stay bit for bit.
        """
        pixels = self.image.read(box)
        change = changed - clear
        change[~self.image.read_valid(box)] = 0
        bands = list(self.colours)
        if len(bands) == 1:
            change = change[..., :1]
        out = pixels.copy()
        out[..., bands] = self.radiometry.apply_change(
            pixels[..., bands], change, bands, self.image.nodata
        )
        return out


def displayed(image: Image) -> Displayed:
    """How `image` looks on a screen. Raises `UnknownBands`, and `InputError` for a huge one."""
    if image.height * image.width > MOST_PIXELS:
        raise InputError(
            f"{image.name} has {image.height * image.width / 1e6:.0f} million pixels, "
            f"and haze is made on at most {MOST_PIXELS / 1e6:.0f}.",
            "Cut it, or reduce it with --size.",
        )
    image.prepare()
    if all(name in image.roles for name in RGB):
        chosen = [image.roles.index(name) for name in RGB]
    elif len(image.data_bands) == 1:
        chosen = list(image.data_bands)
    else:
        raise UnknownBands(
            f"It is not known which bands of {image.name} are red, green and blue.",
            "Say it, for instance --bands red=1,green=2,blue=3.",
        )
    count = len(chosen)
    chosen += [band for band in range(image.bands) if band not in image.data_bands]
    shown = image.with_bands(chosen)
    percentile = _percentile_of(shown, range(count)) if needs_percentile(shown) else None
    radiometry = resolve_radiometry(shown, percentile=percentile)
    return Displayed(shown, radiometry, tuple(range(count)))


def read_display(path: Path, longest: int | None = None) -> tuple[Array, Mask, bool]:
    """(H, W, 3) display values 0 to 1, (H, W) validity, and `Displayed.is_light`, of a file.

    With `longest` of the smallest level that is still as long.
    """
    image = open_image(path)
    try:
        whole = displayed(image if longest is None else at_level(image, longest))
        values, valid = np.empty((*whole.shape, 3), np.float32), np.empty(whole.shape, np.bool_)
        for box in strips(whole.shape):
            values[box[0] : box[2]], valid[box[0] : box[2]] = whole.read(box)
        return values, valid, whole.is_light
    finally:
        image.close()


def at_level(image: Image, longest: int) -> Image:
    """The smallest level of `image` that is still `longest` pixels long, as an image."""
    even = [n for n in range(len(image.level_shapes)) if image.level_scale(n) is not None]
    long = [n for n in even if max(image.level_shapes[n]) >= longest]
    return image.level_view(long[-1]) if long else image


def strips(shape: tuple[int, int]) -> list[Box]:
    """Boxes of whole rows that cover `shape` from the top."""
    height, width = shape
    step = max(1, min(height, STRIP_PIXELS // max(1, width)))
    return [(top, 0, min(top + step, height), width) for top in range(0, height, step)]


def _percentile_of(image: Image, bands: range) -> Any:
    """A function of percent; extremes are exact, the rest is of a regular sample."""
    every = max(1, int(np.sqrt(image.height * image.width / SAMPLED)))
    low, high, kept = np.inf, -np.inf, []
    for box in strips((image.height, image.width)):
        pixels, valid = image.read(box)[..., bands], image.read_valid(box)
        values = pixels[valid].astype(np.float64)
        values = values[np.isfinite(values).all(axis=1)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        picked, flags = pixels[::every, ::every], valid[::every, ::every]
        kept.append(picked[flags].astype(np.float64).ravel())
    sample = np.concatenate(kept)
    sample = sample[np.isfinite(sample)]

    def percentile(percent: float) -> float:
        if not sample.size:
            return 0.0
        if percent in (0, 100):
            return low if percent == 0 else high
        return float(np.percentile(sample, percent))

    return percentile
