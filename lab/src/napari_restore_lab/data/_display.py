"""Conversion of images to display values, and of changes back to image values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.extension import (
    Box,
    Image,
    InputError,
    Radiometry,
    UnknownBands,
    needs_percentile,
    open_image,
    option,
    resolve_radiometry,
)

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MOST_PIXELS = 2**28
"""Largest image: the optical depth of all pixels is kept in memory."""
STRIP_PIXELS = 2**22
"""Pixels that are read at a time."""
SAMPLED = 2**21
"""Approximate number of pixels from which percentiles are computed."""
RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Displayed:
    """The colours of an image between its black and its white."""

    image: Image
    """Its colour bands, and alpha if there is one."""
    radiometry: Radiometry
    colours: tuple[int, ...]
    """Band indices of red, green and blue, or of the grey band."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.height, self.image.width

    @property
    def box(self) -> Box:
        """Box of the whole image."""
        return 0, 0, self.image.height, self.image.width

    @property
    def is_light(self) -> bool:
        """Whether values are linear in light, as sensor counts, unlike those of photos."""
        return not self.image.is_display

    def read(self, box: Box) -> tuple[Array, Mask]:
        """Return display values of `box`, (h, w, 3), about 0 to 1, and validity, (h, w).

        Grey is repeated; invalid pixels are 0.
        """
        valid = self.image.read_valid(box)
        values = self.radiometry.to_model_tile(self.image.read(box), self.colours)
        if len(self.colours) == 1:
            values = np.repeat(values, 3, axis=2)
        known = valid[..., None] & np.isfinite(values)
        return np.where(known, values, np.float32(0)), valid

    def changed(self, box: Box, changed: npt.NDArray[np.float32], clear: Array) -> Any:
        """Return pixels of `box` in the image's own type and units, (h, w, C).

        `changed` and `clear` are (h, w, 3) display values; where they are equal, and
        where pixels are invalid, the image is unchanged bit for bit.
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
    """Prepare the conversion of `image`. Raises `UnknownBands`, and `InputError` for a huge one."""
    if image.height * image.width > MOST_PIXELS:
        raise InputError(
            f"{image.name} has {image.height * image.width / 1e6:.0f} million pixels, "
            f"but haze is supported up to {MOST_PIXELS / 1e6:.0f}.",
            f"Cut it, or reduce it with {option('size')}.",
        )
    image.prepare()
    if all(name in image.roles for name in RGB):
        bands = [image.roles.index(name) for name in RGB]
    elif len(image.data_bands) == 1:
        bands = list(image.data_bands)
    else:
        raise UnknownBands(
            f"The red, green and blue bands of {image.name} are unknown.",
            f"Name them, for instance {option('bands', 'red=1,green=2,blue=3')}.",
        )
    count = len(bands)
    bands += [band for band in range(image.bands) if band not in image.data_bands]
    shown = image.with_bands(bands)
    percentile = _percentile_of(shown, range(count)) if needs_percentile(shown) else None
    radiometry = resolve_radiometry(shown, percentile=percentile)
    return Displayed(shown, radiometry, tuple(range(count)))


def read_display(path: Path, longest: int | None = None) -> tuple[Array, Mask, bool]:
    """Read display values 0 to 1, (H, W, 3), validity, (H, W), and `Displayed.is_light` of a file.

    With `longest`, from the smallest level that is at least as long.
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
    """Return the smallest level of `image` that is at least `longest` pixels long."""
    even = [n for n in range(len(image.level_shapes)) if image.level_scale(n) is not None]
    long = [n for n in even if max(image.level_shapes[n]) >= longest]
    return image.level_view(long[-1]) if long else image


def strips(shape: tuple[int, int]) -> list[Box]:
    """Return boxes of whole rows that cover `shape` from the top."""
    height, width = shape
    step = max(1, min(height, STRIP_PIXELS // max(1, width)))
    return [(top, 0, min(top + step, height), width) for top in range(0, height, step)]


def _percentile_of(image: Image, bands: range) -> Any:
    """Return a percentile function; extremes are exact, others from a regular sample."""
    every = max(1, int(np.sqrt(image.height * image.width / SAMPLED)))
    low, high, samples = np.inf, -np.inf, []
    for box in strips((image.height, image.width)):
        pixels, valid = image.read(box)[..., bands], image.read_valid(box)
        values = pixels[valid].astype(np.float64)
        values = values[np.isfinite(values).all(axis=1)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        picked, flags = pixels[::every, ::every], valid[::every, ::every]
        samples.append(picked[flags].astype(np.float64).ravel())
    sample = np.concatenate(samples)
    sample = sample[np.isfinite(sample)]

    def percentile(percent: float) -> float:
        if not sample.size:
            return 0.0
        if percent in (0, 100):
            return low if percent == 0 else high
        return float(np.percentile(sample, percent))

    return percentile
