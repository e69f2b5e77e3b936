"""One picture of linear light as a bracket: the photos that several exposures would give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_restore.errors import BadParameter, Message, option
from napari_restore.images.brackets._exposure import coarse_view

if TYPE_CHECKING:
    from napari_restore.images._image import Image

CLIPPED = 99.9
"""Percentile of light that is white in the darkest frame."""
SHADOWS = 5.0
"""Percentile of light that is `GREY` in the brightest frame."""
GREY = 0.18
"""Light that meters take for medium."""
STEP = 2.0
"""EV between frames, at most, unless there would be more than `MOST`."""
MOST = 7


def is_light(image: Image) -> bool:
    """Return whether one image can be a bracket: a picture of floats, which are linear light."""
    return image.dtype.kind == "f" and image.companions is None


def frames_of_light(
    picture: Image, exposures: Sequence[float] | None
) -> tuple[list[Image], list[float], str]:
    """Return the frames of a picture of light, their EV, and a note on them.

    `exposures` are in EV, 0 being the exposure at which 1 is white; None: by `exposures_for`.
    Raises `BadParameter` for fewer than two.
    """
    evs = exposures_for(picture) if exposures is None else [float(ev) for ev in exposures]
    if len(evs) < 2:
        raise BadParameter(
            f"{picture.name} exposed once has nothing to fuse.",
            f"Give {option('exposures', [-2, 0, 2])}, or others, two or more.",
        )
    named = ", ".join(f"{ev:+.3g}".replace("-", "−") for ev in sorted(evs))
    how = "by its own range; " + option("exposures") + " gives others" if exposures is None else ""
    note = Message(
        f"{picture.name} is taken as linear light and exposed at {named} EV"
        f"{', ' if how else ''}{how}."
    )
    return [picture.exposed(ev) for ev in evs], evs, note


def exposures_for(picture: Image) -> list[float]:
    """Return two to seven EV, dark to bright, that show the range of a picture of light.

    The first makes the brightest 0.1 % white, the last the darkest 5 % at most of medium
    brightness; by an overview, to a tenth.
    """
    view = coarse_view(picture)
    box = (0, 0, view.height, view.width)
    light = view.read(box)[..., list(picture.data_bands)].astype(np.float64)
    light = light[view.read_valid(box) & np.isfinite(light).all(axis=2)]
    brightest, mean = light.max(axis=1), light.mean(axis=1)
    if not (mean > 0).any():
        raise BadParameter(
            f"{picture.name} has no light above 0.", "Choose a picture of linear light."
        )
    white = float(np.percentile(brightest[brightest > 0], CLIPPED))
    dark = float(np.percentile(mean[mean > 0], SHADOWS))
    first = round(-math.log2(white), 1)
    last = max(round(math.log2(GREY / dark), 1), first + STEP)
    number = min(MOST, math.ceil((last - first) / STEP - 1e-9) + 1)
    # Adding 0 leaves no −0.
    return [round(first + (last - first) * i / (number - 1), 1) + 0.0 for i in range(number)]
