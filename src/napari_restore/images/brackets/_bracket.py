"""Frames of one scene as an image with companions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from napari_restore.errors import BadParameter, option
from napari_restore.images._companions import check_exposure, check_frames
from napari_restore.images.brackets._alignment import UNSURE, Placement, place, place_roughly
from napari_restore.images.brackets._exposure import estimated_exposures, recorded_exposures
from napari_restore.images.brackets._light import frames_of_light, is_light
from napari_restore.images.readers._raw import RawReader

if TYPE_CHECKING:
    from napari_restore.images._image import Image

Align = Literal["auto", "rough", "off"]
Progress = Callable[[int, int], object]
SAME_EV = 0.05
"""Exposures that differ by less are those of one setting."""


def bracket_of(
    frames: Sequence[Image],
    reference: int | None = None,
    exposures: Sequence[float] | None = None,
    *,
    align: Align = "auto",
    progress: Progress | None = None,
) -> Image:
    """Return the reference frame of a bracket, with the other frames as its companions.

    Parameters
    ----------
    frames
        Two or more images of one size, dtype and number of bands, in any order; or one picture
        of floats, which are taken as linear light: its frames are what `exposures` would show.
    reference
        Which of `frames` the result replaces, counted from 0; None: the one in the middle by
        exposure, of two the darker.
    exposures
        EV of each frame; None: as recorded by the camera, else estimated from the pixels. Of
        one picture those of the frames to make, 0 being where 1 is white; None: by its range.
    align
        ``"auto"`` brings the frames onto the grid of the reference; one that fits nowhere is left
        out, with a note. ``"rough"`` shifts them by what an overview shows, ``"off"`` not at all.
    progress
        Called with the number of frames that are aligned, and of those to align; may raise
        `Cancelled`.

    Raises
    ------
    BadParameter
        Fewer than two frames, a reference that is none of them, frames of different kinds, or none
        that fits the reference.
    """
    notes: list[str] = []
    if exposures is not None:
        for ev in exposures:
            check_exposure(ev)
    if len(frames) == 1 and is_light(frames[0]):
        frames, exposures, note = frames_of_light(frames[0], exposures)
        notes.append(note)
        align = "off"
    _check(frames, reference, exposures)
    evs = list(exposures) if exposures is not None else recorded_exposures(frames)
    if evs is None:
        evs = estimated_exposures(frames)
        notes.append(
            "The frames record no exposures: order and EV are estimated from their pixels."
        )
    order = sorted(range(len(frames)), key=lambda number: (evs[number], number))
    chosen = order[(len(order) - 1) // 2] if reference is None else reference
    frames = _developed_alike(frames, chosen, notes)
    others = {number: frames[number] for number in order if number != chosen}
    residuals: dict[int, float | None] = dict.fromkeys(others)
    if align == "auto":
        others, residuals = _aligned(frames, order, chosen, notes, progress)
    elif align == "rough":
        placements = {number: place_roughly(frames[chosen], frames[number]) for number in others}
        others = {n: _there(frames[n], placements[n], frames[chosen]) for n in others}
    used = [number for number in order if number == chosen or number in others]
    image = frames[chosen].with_companions(
        list(others.values()),
        used.index(chosen),
        [evs[number] - evs[chosen] for number in used],
        list(residuals.values()),
    )
    if max(evs) - min(evs) < SAME_EV:
        notes.append("All frames have the same exposure.")
    image.notes = [*image.notes, *_notes_of(others.values(), image.notes), *notes]
    return image


def _notes_of(frames: Iterable[Image], known: Collection[str]) -> list[str]:
    """Return the notes of `frames` that are not `known`, with the names of the frames."""
    names: dict[str, list[str]] = {}
    for frame in frames:
        for note in frame.notes:
            if note not in known:
                names.setdefault(str(note), []).append(frame.name)
    return [f"{', '.join(found)}: {note}" for note, found in names.items()]


def _check(
    frames: Sequence[Image], reference: int | None, exposures: Sequence[float] | None
) -> None:
    """Raise `BadParameter` for what is no bracket."""
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


def _developed_alike(frames: Sequence[Image], chosen: int, notes: list[str]) -> list[Image]:
    """Return the frames, those of RAW with the white balance of the chosen one.

    A camera may judge each exposure for itself: its colours would differ.
    """
    reference = frames[chosen].reader
    if not isinstance(reference, RawReader):
        return list(frames)
    found = []
    for frame in frames:
        differs = isinstance(frame.reader, RawReader) and frame.reader.balance != reference.balance
        found.append(frame.balanced(reference.balance) if differs else frame)
    if any(frame is not other for frame, other in zip(found, frames, strict=True)):
        notes.append(f"All frames are developed with the white balance of {frames[chosen].name}.")
    return found


def _aligned(
    frames: Sequence[Image],
    order: Sequence[int],
    chosen: int,
    notes: list[str],
    progress: Progress | None,
) -> tuple[dict[int, Image], dict[int, float | None]]:
    """Return those of the other frames that fit, on the grid of the chosen one, and their residuals.

    A frame that shares no medium tones with the reference is compared with its neighbour in `order`.
    """
    reference, middle = frames[chosen], order.index(chosen)
    fitting: dict[int, Image] = {}
    residuals: dict[int, float | None] = {}
    done = 0
    for outwards in (order[middle + 1 :], order[:middle][::-1]):
        neighbour, last = reference, None
        for number in outwards:
            if progress is not None:
                progress(done, len(frames) - 1)
            done += 1
            frame = frames[number]
            placement = place(reference, frame)
            if placement is None and last is not None:
                placement = place(neighbour, frame, start=last.matrix)
            if placement is None:
                notes.append(f"{frame.name} does not fit {reference.name} and is left out.")
                continue
            if placement.corners > UNSURE:
                notes.append(
                    f"{frame.name} may be off by {placement.corners:.0f} pixels at a corner: too "
                    "little of it shows enough to be aligned."
                )
            there = _there(frame, placement, reference)
            fitting[number], residuals[number] = there, placement.residual
            neighbour, last = there, placement
    if not fitting:
        raise BadParameter(
            f"No frame shows the same as {reference.name}.",
            f"Choose frames of one scene, or use {option('align', 'off')} if they lie in place.",
        )
    used = [number for number in order if number in fitting]
    return {n: fitting[n] for n in used}, {n: residuals[n] for n in used}


def _there(frame: Image, placement: Placement, reference: Image) -> Image:
    """Return a frame on the grid of the reference."""
    if placement.is_in_place:
        return frame
    return frame.placed(placement.matrix, (reference.height, reference.width))
