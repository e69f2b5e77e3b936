"""Synthetic haze and sensor effects on clear images, from one random generator."""

from __future__ import annotations

from napari_restore.training.haze._draw import STRENGTH, draw_haze
from napari_restore.training.haze._fields import SPECTRA, Spectrum
from napari_restore.training.haze._scatter import (
    WAVELENGTHS,
    Haze,
    add_haze,
    transmission_of,
)
from napari_restore.training.haze._scene import LUMA, ClearScene, haze_scene
from napari_restore.training.haze._sensor import degrade
from napari_restore.training.haze._synthetic_distance import DISTANCES
from napari_restore.training.haze._wide import draw_wide, metered

__all__ = [
    "DISTANCES",
    "LUMA",
    "SPECTRA",
    "STRENGTH",
    "WAVELENGTHS",
    "ClearScene",
    "Haze",
    "Spectrum",
    "add_haze",
    "degrade",
    "draw_haze",
    "draw_wide",
    "haze_scene",
    "metered",
    "transmission_of",
]
