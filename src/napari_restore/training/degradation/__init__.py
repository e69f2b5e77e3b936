"""Synthetic degradations other than haze: sensor noise, low light, and exposures of a bracket."""

from __future__ import annotations

from napari_restore.training.degradation._bracket import CaptureSettings, draw_bracket, take_bracket
from napari_restore.training.degradation._low_light import (
    LowLight,
    add_noise,
    darken,
    draw_low_light,
)
from napari_restore.training.degradation._scene import SCORED, degraded_scene

__all__ = [
    "SCORED",
    "CaptureSettings",
    "LowLight",
    "add_noise",
    "darken",
    "degraded_scene",
    "draw_bracket",
    "draw_low_light",
    "take_bracket",
]
