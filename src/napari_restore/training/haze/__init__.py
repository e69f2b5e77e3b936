"""Synthetic haze and sensor effects on clear images, from one random generator."""

from __future__ import annotations

from napari_restore.training.haze._draw import STRENGTH, draw_haze
from napari_restore.training.haze._fields import SPECTRA, Spectrum
from napari_restore.training.haze._fog import FOG_GREY, draw_fog
from napari_restore.training.haze._scatter import (
    WAVELENGTHS,
    Haze,
    add_haze,
    transmission_of,
)
from napari_restore.training.haze._scene import LUMA, ClearScene, haze_scene
from napari_restore.training.haze._sensor import degrade
from napari_restore.training.haze._synthetic_distance import DISTANCES, synthetic_distance
from napari_restore.training.haze._wide import MIDDLE_GREY, draw_wide, metered

__all__ = [
    "DISTANCES",
    "FOG_GREY",
    "LUMA",
    "MIDDLE_GREY",
    "SPECTRA",
    "STRENGTH",
    "WAVELENGTHS",
    "ClearScene",
    "Haze",
    "Spectrum",
    "add_haze",
    "degrade",
    "draw_fog",
    "draw_haze",
    "draw_wide",
    "haze_scene",
    "metered",
    "synthetic_distance",
    "transmission_of",
]
