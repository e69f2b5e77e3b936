"""Frames of one scene as an image with companions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_restore.errors import BadParameter, option
from napari_restore.images.brackets._companions import check_frames
from napari_restore.images.brackets._exposure import estimated_exposures, recorded_exposures

if TYPE_CHECKING:
    from napari_restore.images._image import Image

SAME_EV = 0.05
"""Exposures that differ by less are those of one setting."""


def bracket_of(
    frames: Sequence[Image],
    reference: int | None = None,
    exposures: Sequence[float] | None = None,
) -> Image:
    """Return the reference frame of a bracket, with the other frames as its companions.

    Parameters
    ----------
    frames
        Two or more images of one size, dtype and number of bands, in any order.
    reference
        Which of `frames` the result replaces, counted from 0; None: the one in the middle by
        exposure, of two the darker.
    exposures
        EV of each frame; None: as recorded by the camera, else estimated from the pixels.

    Raises
    ------
    BadParameter
        Fewer than two frames, a reference that is none of them, or frames that do not fit each
        other.
    """
    if len(frames) < 2:
        raise BadParameter(
            "A bracket of one frame has nothing to fuse.", "Give two frames or more."
        )
    if reference is not None and not 0 <= reference < len(frames):
        raise BadParameter(
            f"There is no frame {reference + 1} of {len(frames)}.",
            f"Give {option('reference')} as the name of a frame.",
        )
    if exposures is not None and len(exposures) != len(frames):
        raise BadParameter(
            f"There are {len(exposures)} exposures for {len(frames)} frames.",
            "Give one EV for each frame.",
        )
    check_frames(frames)
    notes = []
    evs = list(exposures) if exposures is not None else recorded_exposures(frames)
    if evs is None:
        evs = estimated_exposures(frames)
        notes.append(
            "The frames record no exposures: order and EV are estimated from their pixels."
        )
    order = sorted(range(len(frames)), key=lambda number: (evs[number], number))
    place = (len(order) - 1) // 2 if reference is None else order.index(reference)
    chosen = order[place]
    image = frames[chosen].with_companions(
        [frames[number] for number in order if number != chosen],
        place,
        [evs[number] - evs[chosen] for number in order],
    )
    if max(evs) - min(evs) < SAME_EV:
        notes.append("All frames have the same exposure.")
    image.notes = [*image.notes, *notes]
    return image
