"""Airlight from whole-image statistics."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_restore.models._context import Context
from napari_restore.models._model import ToModel

AIRLIGHT_SHARE = 0.001
"""Share of the image, haziest first, whose mean colour is the airlight (He et al. 2009)."""


def airlight_of(
    context: Context, to_model: ToModel, bands: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Return the airlight (C,) of the image's `bands` in model range.

    Under even haze the haziest patches still show ground, so the airlight is also at least 0.9 of
    what the band's brightest thousandth reaches: measured on hazed aerial and natural scenes, that
    gains 0.1 to 2.5 dB. Both follow the scene; a fixed bound (≥ 0.3 is common for photographs)
    would darken 16-bit scenes that fill a small part of the value range. A band without haze
    (cirrus, far infrared) is limited to at least a tenth of the brightest, since dividing by almost
    nothing would turn its noise into haze.
    """
    chosen = list(bands)
    colour = to_model(context.brightest_dark(AIRLIGHT_SHARE))[chosen]
    bright = to_model(np.array([context.percentile(99.9, (b,)) for b in range(context.bands)]))
    colour = np.maximum(colour, 0.9 * bright[chosen])
    floor = max(1e-6, 0.1 * float(np.max(colour, initial=0.0)))
    return np.maximum(colour, floor).astype(np.float32)
