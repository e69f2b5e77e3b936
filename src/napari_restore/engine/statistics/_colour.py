"""Mean colour of a box in model range."""

from __future__ import annotations

import numpy as np

from napari_restore.engine.statistics.bands import model_bands
from napari_restore.engine.statistics.context import compute_context, find_context
from napari_restore.errors import BadRegion
from napari_restore.images import Box, Image, needs_percentile, resolve_radiometry
from napari_restore.models import ModelCard

STRIP_PIXELS = 1 << 20
"""Pixels read at a time."""


def mean_colour(image: Image, card: ModelCard, box: Box, level: int = 0) -> tuple[float, ...]:
    """Return mean of the valid pixels of `box`, in pixels of `level`, in model range.

    One number per band the model takes, in its order. Pixels of a level that is still being made do
    not count where nothing is written yet. Where white follows from all values the image's context
    is read from the cache, or computed and written there. Raises `BadRegion` if no pixel of the box
    is valid, and `UnknownBands`.
    """
    bands = list(model_bands(image, card))
    context = None
    if needs_percentile(image):
        context = find_context(image, overview=False) or compute_context(image)
    radiometry = resolve_radiometry(
        image,
        percentile=None if context is None else lambda q: context.percentile(q, image.data_bands),
    )
    y0, x0, y1, x1 = box
    rows = max(1, STRIP_PIXELS // max(1, x1 - x0))
    total, count = np.zeros(len(bands)), 0
    for top in range(y0, y1, rows):
        strip = (top, x0, min(y1, top + rows), x1)
        valid = image.read_valid(strip, level)
        pixels = image.read(strip, level)
        if not image.is_built(level):
            valid = valid & pixels.any(axis=2)
        if valid.any():
            values = radiometry.to_model(pixels[valid])
            total += values[:, bands].sum(axis=0)
            count += len(values)
    if count == 0:
        raise BadRegion("No pixel there is valid.", "Choose a place within the image.")
    return tuple(float(v) for v in total / count)
