"""Exposure of a result: dark and middle tones brightened or darkened, black and white kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.engine.results._luma import LumaModel
from napari_restore.images import light_of_srgb, srgb_of_light
from napari_restore.questions import Adjustment

Pixels = npt.NDArray[Any]
SAMPLES = 16
"""Boxes down and across an area from which an exposure is measured …"""
SAMPLE_SIDE = 32
"""… and their sides in pixels. A smaller area is read whole."""
MIN_LIGHT = 1e-4
"""Medians of light are limited to this and 1 less this, for images that are nearly black or white."""


def expose(
    pixels: Pixels,
    ev: float,
    luma_model: LumaModel,
    bands: Sequence[int],
    nodata: float | None,
) -> Pixels:
    """Return pixels (h, w, C) exposed by `ev`, in their dtype; only `bands` change.

    Each value is changed as linear light x between black and white: ``g x / (1 + (g - 1) x)`` with
    g = 2^ev. So dark tones are multiplied by g, white stays white, and nothing is clipped; the odds
    x / (1 - x) of every tone are multiplied by g. Beyond black and white the curve goes on along its
    tangents. Light is what the sRGB curve gives for display values, and the value itself for others.
    """
    chosen = tuple(bands)
    before = luma_model.model_values(pixels, chosen)
    after = _curve(_light(before, luma_model), np.exp2(before.dtype.type(ev)))
    if luma_model.is_display:
        after = srgb_of_light(after)
    exposed = pixels.copy()
    exposed[..., list(chosen)] = luma_model.radiometry.apply_change(
        pixels[..., list(chosen)], after - before, chosen, nodata
    )
    return exposed


def light_luma(pixels: Pixels, luma_model: LumaModel) -> Pixels:
    """Return (h, w) luminance in linear light of pixels (h, w, C), 1 at white."""
    values = luma_model.model_values(pixels, luma_model.colours or luma_model.bands)
    return luma_model.luma_of(_light(values, luma_model))


def exposure_between(source: Pixels, restored: Pixels) -> float:
    """Return the exposure in EV, to 1/100, that gives `restored` the median light of `source`.

    Both are 1-D luminances in linear light. 0 … `Adjustment.MOST_EV`: a result that is brighter than its
    source, as of low light, was meant to be.
    """
    if not source.size:
        return 0.0
    light = np.clip([np.median(source), np.median(restored)], MIN_LIGHT, 1 - MIN_LIGHT)
    before, after = np.log2(light / (1 - light))
    return round(float(np.clip(before - after, 0, Adjustment.MOST_EV)), 2)


def sample_boxes(area: Region) -> Iterator[Region]:
    """Yield boxes spread evenly over `area`, the same for the same area."""
    if area.is_empty:
        return
    if max(area.shape) <= SAMPLES * SAMPLE_SIDE:
        yield area
        return
    for y in _spread(area.y0, area.y1):
        for x in _spread(area.x0, area.x1):
            yield Region(y, x, y + SAMPLE_SIDE, x + SAMPLE_SIDE).intersect(area)


def _spread(start: int, stop: int) -> list[int]:
    last = max(start, stop - SAMPLE_SIDE)
    return sorted({int(at) for at in np.linspace(start, last, SAMPLES)})


def _light(values: Pixels, luma_model: LumaModel) -> Pixels:
    return light_of_srgb(values) if luma_model.is_display else values


def _curve(light: Pixels, gain: Any) -> Pixels:
    within = np.clip(light, 0, 1)
    exposed: Pixels = gain * within / (1 + (gain - 1) * within)
    exposed += gain * np.minimum(light, 0) + np.maximum(light - 1, 0) / gain
    return exposed
