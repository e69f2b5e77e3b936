"""The other frames of a bracket, on the grid of the image that a run restores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from napari_restore.errors import BadParameter
from napari_restore.images._base import ImageBase

MOST_EV = 60
"""EV beyond which there is no exposure: the float32 numbers of light have twice as many."""
Frame = TypeVar("Frame", bound=ImageBase)


@dataclass(frozen=True)
class Companions(Generic[Frame]):
    """Further images that a model sees beside the image, the reference, in order of exposure."""

    images: tuple[Frame, ...]
    """Dark to bright, without the reference."""
    reference: int
    """Place of the reference among all frames, counted from 0."""
    exposures: tuple[float, ...]
    """Exposure of every frame in EV relative to that of the reference, dark to bright."""
    residuals: tuple[float | None, ...] = ()
    """Pixels that each of `images` is off by after alignment; None where it was not aligned."""

    @property
    def frames(self) -> int:
        """Number of frames, the reference included."""
        return len(self.images) + 1

    def around(self, reference: Frame) -> tuple[Frame, ...]:
        """Return all frames, dark to bright."""
        return (*self.images[: self.reference], reference, *self.images[self.reference :])

    def map(self, change: Callable[[Frame], Frame]) -> Companions[Frame]:
        """Return the companions with every image changed."""
        return replace(self, images=tuple(map(change, self.images)))

    def digest(self, own: str) -> str:
        """Return a hex digest that identifies all frames; `own` is the reference's fingerprint."""
        parts = [own, [each.fingerprint for each in self.images], self.reference, self.exposures]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def check_exposure(ev: float) -> None:
    """Raise `BadParameter` for an EV that no exposure has."""
    # So written that NaN is outside.
    if not abs(ev) <= MOST_EV:
        raise BadParameter(
            f"There is no exposure of {ev:g} EV.", f"EV are between −{MOST_EV} and {MOST_EV}."
        )


def check_frames(frames: Sequence[ImageBase]) -> None:
    """Raise `BadParameter` for a frame of another size, number of bands or dtype than most."""
    for what, of in (
        ("{0.width} × {0.height} pixels", lambda frame: (frame.width, frame.height)),
        ("{0.bands} bands", lambda frame: frame.bands),
        ("{0.dtype} values", lambda frame: frame.dtype),
        ("another place on the map", lambda frame: (frame.crs, frame.transform)),
    ):
        kinds = [of(frame) for frame in frames]
        usual = max(kinds, key=kinds.count)
        for frame, kind in zip(frames, kinds, strict=True):
            if kind != usual:
                raise BadParameter(
                    f"{frame.name} has {what.format(frame)}, unlike the other frames.",
                    "Frames of a bracket are of one size and kind: leave it out.",
                )
