"""Models bound to the frames of an image."""

from __future__ import annotations

import numpy as np

from napari_restore.engine.statistics._bands import is_grey
from napari_restore.images import Image
from napari_restore.models import RestorationModel, for_frames


def for_image(model: RestorationModel, image: Image) -> RestorationModel:
    """Return `model` for the frames of `image`, a bracket or a single image.

    Raises `BadParameter` where it takes another number of frames.
    """
    others = image.companions
    names = [frame.name for frame in image.frames]
    if others is None:
        return for_frames(model, 1, None, names)
    light = image.profile.light
    dtype = image.dtype if light is None else light.dtype
    step = 1 / np.iinfo(dtype).max if dtype.kind in "iu" else 0.0
    about = others.reference, names, others.exposures, step, is_grey(image)
    return for_frames(model, len(names), *about)
