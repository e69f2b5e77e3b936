"""Haze and sensors made up on a clear picture; everything follows from one random generator."""

from __future__ import annotations

from napari_restore.training.haze._draw import draw_haze
from napari_restore.training.haze._fields import SPECTRA, Spectrum
from napari_restore.training.haze._scatter import WAVELENGTHS, Haze, add_haze, transmission_of
from napari_restore.training.haze._sensor import degrade

__all__ = [
    "SPECTRA",
    "WAVELENGTHS",
    "Haze",
    "Spectrum",
    "add_haze",
    "degrade",
    "draw_haze",
    "transmission_of",
]
