"""Synthetic degradations other than haze: sensor noise and low light."""

from __future__ import annotations

from napari_restore.training.degradation._low_light import LowLight, darken, draw_low_light
from napari_restore.training.degradation._noise import add_noise
from napari_restore.training.degradation._scene import SCORED, degraded_scene

__all__ = [
    "SCORED",
    "LowLight",
    "add_noise",
    "darken",
    "degraded_scene",
    "draw_low_light",
]
