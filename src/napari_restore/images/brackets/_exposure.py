"""Exposure of a photo, from its EXIF or from its pixels."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore.images.files.exif import exif_tags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_restore.images._image import Image

EXPOSURE_TIME = 0x829A
F_NUMBER = 0x829D
SENSITIVITY = 0x8827
SIDE = 512
"""Longest side in pixels on which exposures are compared."""
GAMMA = 2.2
"""Exponent that turns display values into about linear ones."""
MIDTONES = (0.08, 0.92)
"""Display values that are neither lost in noise nor clipped."""


@dataclass(frozen=True)
class Exposure:
    """Settings of the camera, as EXIF has them."""

    seconds: float
    f_number: float | None = None
    """None: not recorded, as by lenses without contacts."""
    iso: float | None = None

    @property
    def ev(self) -> float:
        """Return log2 of the light that the settings let in, up to a constant of the scene."""
        light = self.seconds * (self.iso or 100.0) / (self.f_number or 1.0) ** 2
        return math.log2(light)


def exposure_in(exif: bytes | None) -> Exposure | None:
    """Return the exposure of an EXIF block; None if it has no exposure time."""
    tags = exif_tags(exif)
    seconds = _positive(tags.get(EXPOSURE_TIME))
    if seconds is None:
        return None
    return Exposure(seconds, _positive(tags.get(F_NUMBER)), _positive(tags.get(SENSITIVITY)))


def recorded_exposures(frames: Sequence[Image]) -> list[float] | None:
    """Return the EV of each frame as recorded, None unless all are and they differ."""
    evs = comparable_exposures([exposure_in(frame.profile.exif) for frame in frames])
    return evs if evs is not None and max(evs) > min(evs) else None


def why_estimated(frames: Sequence[Image]) -> str:
    """Return why the EV of frames cannot be taken from what their camera recorded."""
    known = sum(exposure_in(frame.profile.exif) is not None for frame in frames)
    if known == len(frames):
        return "The frames record one and the same exposure"
    return "Not all frames record an exposure" if known else "The frames record no exposures"


def comparable_exposures(found: Sequence[Exposure | None]) -> list[float] | None:
    """Return the EV of each exposure, by what all of them record; None unless all are known."""
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        return None
    # What only some record says nothing of how they differ.
    if any(each.f_number is None for each in known):
        known = [Exposure(each.seconds, None, each.iso) for each in known]
    if any(each.iso is None for each in known):
        known = [Exposure(each.seconds, each.f_number, None) for each in known]
    return [each.ev for each in known]


def estimated_exposures(frames: Sequence[Image]) -> list[float]:
    """Return the EV of each frame by its pixels, relative to the first."""
    # Frames are put in order by their mean; neighbours are compared where both are mid-tones, by
    # the median ratio of about linear values.
    with ThreadPoolExecutor(threads_for(frames), "overview") as pool:
        grey = list(pool.map(overview_of, frames))
    order = sorted(range(len(grey)), key=lambda number: float(grey[number].mean()))
    evs = dict.fromkeys(order, 0.0)
    low, high = MIDTONES
    for dark, bright in pairwise(order):
        a, b = grey[dark], grey[bright]
        both = (a > low) & (a < high) & (b > low) & (b < high)
        ratio = float(np.median(b[both] / a[both])) if both.any() else 2.0
        evs[bright] = evs[dark] + GAMMA * math.log2(max(1.0, ratio))
    return [evs[number] - evs[0] for number in range(len(grey))]


def threads_for(frames: Sequence[Image]) -> int:
    """Return on how many threads frames may be read at once."""
    # What is decoded as a whole is large: one after the other.
    return 1 if any(frame.block_bytes for frame in frames) else os.cpu_count() or 1


def overview_of(frame: Image) -> npt.NDArray[np.float64]:
    """Return the grey values (h, w) of a coarse level of at most `SIDE` pixels, in 0 … 1."""
    view = coarse_view(frame)
    values = view.read((0, 0, view.height, view.width))[..., list(frame.data_bands)]
    most = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1.0
    grey: npt.NDArray[np.float64] = values.mean(axis=2, dtype=np.float64) / most
    return grey


def coarse_view(frame: Image, side: int = SIDE) -> Image:
    """Return the finest level of at most `side` pixels a side, or the coarsest one."""
    levels = [n for n, shape in enumerate(frame.level_shapes) if max(shape) <= side]
    number = levels[0] if levels else len(frame.level_shapes) - 1
    return frame.level_view(number) if frame.level_scale(number) else frame


def _positive(value: Any) -> float | None:
    """Return a number of EXIF, of which there may be several; None if it is no positive one."""
    try:
        number = float(value[0] if isinstance(value, tuple) else value)
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return None
    return number if math.isfinite(number) and number > 0 else None
