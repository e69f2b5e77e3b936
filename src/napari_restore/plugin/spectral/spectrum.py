"""The spectrum of one pixel, before and after a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_restore import api

if TYPE_CHECKING:
    from napari_restore.images import Image
    from napari_restore.plugin.state.variant import Variant

OPTICAL_NM = 3000.0
"""Wavelength beyond which bands are of heat, not of reflected light."""


@dataclass(frozen=True)
class PixelSpectrum:
    """Values of the bands of one pixel, in the order of wavelengths where these are known."""

    row: int
    column: int
    names: tuple[str, ...]
    places: tuple[float, ...]
    """Wavelengths in nm, or the bands' numbers from 1."""
    is_wavelength: bool
    before: tuple[float, ...]
    """NaN where there is no value."""
    after: tuple[float, ...] | None
    is_reflectance: bool


def spectrum_at(
    image: Image,
    values: api.BandValues,
    row: int,
    column: int,
    variant: Variant | None,
) -> PixelSpectrum:
    """Return the spectrum of a pixel of level 0; of the result only where that is finished.

    Reads one pixel of each; not in the GUI thread. Raises `RestoreError`.
    """
    kinds, waves = image.described.kinds, image.wavelengths
    light = [n for n in image.data_bands if kinds[n] == "light"] or list(image.data_bands)
    bands = [n for n in light if (waves[n] or 0.0) < OPTICAL_NM] or light
    is_wavelength = all(waves[n] for n in bands)
    if is_wavelength:
        bands.sort(key=lambda n: waves[n] or 0.0)
    box = (row, column, row + 1, column + 1)
    valid = bool(image.read_valid_landed(box)[0, 0])
    after = None
    if variant is not None:
        result = variant.shown.result
        # Of a result of another scale the pixel at its middle, where that is in it.
        y, x = (int((2 * at + 1) * result.image.resampling / 2) for at in (row, column))
        is_inside = y < result.image.height and x < result.image.width
        if is_inside and variant.shown.finished(np.array([y]), np.array([x]))[0, 0]:
            pixel = result.read_landed((y, x, y + 1, x + 1))
            after = _converted(values, pixel, bands, valid)
    return PixelSpectrum(
        row,
        column,
        tuple(image.descriptions[n] or image.roles[n] or f"band {n + 1}" for n in bands),
        tuple(float(waves[n] or 0.0) if is_wavelength else n + 1.0 for n in bands),
        is_wavelength,
        _converted(values, image.read_landed(box), bands, valid),
        after,
        all(values.is_reflectance[n] for n in bands),
    )


def _converted(
    values: api.BandValues, pixel: Any, bands: list[int], valid: bool
) -> tuple[float, ...]:
    if not valid:
        return (float("nan"),) * len(bands)
    return tuple(float(value[0, 0]) for value in values.convert(pixel, bands))


class KnownValues:
    """What the numbers of images mean, looked up once for each; callable from any thread."""

    def __init__(self) -> None:
        self._known: tuple[Any, api.BandValues] | None = None

    def of(self, image: Image, black: float | None) -> api.BandValues:
        key = image, black
        if self._known is None or self._known[0] != key:
            self._known = key, api.BandValues.of(image, black)
        return self._known[1]


def is_cheap(image: Image) -> bool:
    """Return whether single pixels are read without asking a server."""
    return image.source.concurrent_reads <= 1
