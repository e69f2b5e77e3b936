"""Synthetic degradations other than haze: noise, cameras, low light, and exposures of a bracket."""

from __future__ import annotations

from napari_restore.training.degradation._bracket import CaptureSettings, draw_bracket, take_bracket
from napari_restore.training.degradation._camera import Camera, draw_camera, photograph
from napari_restore.training.degradation._low_light import (
    LowLight,
    add_noise,
    darken,
    draw_low_light,
)
from napari_restore.training.degradation._scene import (
    SCORED,
    SCORED_ISO,
    camera_scene,
    degraded_scene,
)

__all__ = [
    "SCORED",
    "SCORED_ISO",
    "Camera",
    "CaptureSettings",
    "LowLight",
    "add_noise",
    "camera_scene",
    "darken",
    "degraded_scene",
    "draw_bracket",
    "draw_camera",
    "draw_low_light",
    "photograph",
    "take_bracket",
]
