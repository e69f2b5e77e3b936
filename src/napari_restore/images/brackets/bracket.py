"""Frames of one scene as an image with companions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter, Message, option
from napari_restore.images._derived import check_exposure, check_frames
from napari_restore.images._source import Box
from napari_restore.images.brackets._exposure import (
    coarse_view,
    estimated_exposures,
    recorded_exposures,
    threads_for,
    why_estimated,
)
from napari_restore.images.brackets.alignment import (
    UNSURE,
    Placement,
    crops_of,
    place,
    place_roughly,
)
from napari_restore.images.readers.raw import RawReader
from napari_restore.images.readers.registered import RegisteredReader
from napari_restore.images.values.working_space import is_linear

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

    Arguments are described by `napari_restore.open_bracket`. One frame is a picture of floats, taken
    as linear light. A frame that fits nowhere is left out, with a note. `progress` is called with
    the number of frames that are aligned, and of those to align. Raises `BadParameter` for fewer
    than two frames, a reference that is none of them, frames of different kinds, or none that fits
    the reference.
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
        text = f"{why_estimated(frames)}: order and EV are estimated from their pixels; "
        notes.append(Message(f"{text}{option('exposures')} gives them."))
    order = sorted(range(len(frames)), key=lambda number: (evs[number], number))
    chosen = order[(len(order) - 1) // 2] if reference is None else reference
    frames = _developed_alike(frames, chosen, notes)
    others = {number: frames[number] for number in order if number != chosen}
    aligned: dict[int, Placement | None] = dict.fromkeys(others)
    if align == "auto":
        others, aligned = _aligned(frames, order, chosen, notes, progress)
    elif align == "rough":
        placements = {number: place_roughly(frames[chosen], frames[number]) for number in others}
        others = {n: _there(frames[n], placements[n], frames[chosen]) for n in others}
    used = [number for number in order if number == chosen or number in others]
    image = frames[chosen].with_companions(
        list(others.values()),
        used.index(chosen),
        [evs[number] - evs[chosen] for number in used],
        [None if found is None else found.residual for found in aligned.values()],
        [found.corners if found and found.corners > UNSURE else None for found in aligned.values()],
    )
    y0, x0, y1, x1 = common_box(image)
    if (x1 - x0, y1 - y0) != (image.width, image.height):
        notes.append(
            f"All frames show {x1 - x0} × {y1 - y0} of {image.width} × {image.height} pixels; by "
            "default a fused picture is cropped to these."
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
    """Return the frames, those of RAW with the white balance of the chosen one."""
    # A camera may judge each exposure for itself: its colours would differ.
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
) -> tuple[dict[int, Image], dict[int, Placement | None]]:
    """Return those of the other frames that fit, on the grid of the chosen one, and how they lay."""
    reference, middle = frames[chosen], order.index(chosen)
    fitting: dict[int, Image] = {}
    aligned: dict[int, Placement | None] = {}
    unsure: list[tuple[str, Placement]] = []
    placements = _placed_on(frames, chosen, progress)
    # A frame that shares no medium tones with the reference is compared with its neighbour in
    # `order`.
    for outwards in (order[middle + 1 :], order[:middle][::-1]):
        neighbour, last = reference, None
        for number in outwards:
            frame, placement = frames[number], placements[number]
            if placement is None and last is not None:
                placement = place(neighbour, frame, start=last.matrix)
            if placement is None:
                notes.append(f"{frame.name} does not fit {reference.name} and is left out.")
                continue
            if placement.corners > UNSURE:
                unsure.append((frame.name, placement))
            there = _there(frame, placement, reference)
            fitting[number], aligned[number] = there, placement
            neighbour, last = there, placement
    if unsure:
        most, them = max(p.corners for _, p in unsure), "it" if len(unsure) == 1 else "them"
        text = (
            f"{', '.join(name for name, _ in unsure)} may be off by {most:.0f} pixels at a corner: too little of {them} "
            f"shows enough to be aligned. Leave {them} out"
        )
        if not all(placement.is_in_place for _, placement in unsure):
            text += f", or use {option('align', 'off')} if the frames lie in place"
        notes.append(Message(f"{text}."))
    if not fitting:
        raise BadParameter(
            f"No frame shows the same as {reference.name}.",
            f"Choose frames of one scene, or use {option('align', 'off')} if they lie in place.",
        )
    used = [number for number in order if number in fitting]
    return {n: fitting[n] for n in used}, {n: aligned[n] for n in used}


def _placed_on(
    frames: Sequence[Image], chosen: int, progress: Progress | None
) -> dict[int, Placement | None]:
    """Return where each of the other frames lies on the grid of the chosen one, None: nowhere."""
    others = [number for number in range(len(frames)) if number != chosen]
    reference = frames[chosen]
    crops = crops_of(reference)
    with ThreadPoolExecutor(threads_for(frames), "align") as pool:
        waiting = [pool.submit(place, reference, frames[n], crops=crops) for n in others]
        try:
            found = {}
            for done, (number, future) in enumerate(zip(others, waiting, strict=True)):
                if progress is not None:
                    progress(done, len(others))
                found[number] = future.result()
        finally:
            # After an error the others are not waited for.
            pool.shutdown(cancel_futures=True)
    return found


def _there(frame: Image, placement: Placement, reference: Image) -> Image:
    """Return a frame on the grid of the reference."""
    if placement.is_in_place:
        return frame
    return frame.placed(placement.matrix, (reference.height, reference.width))


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
    doubt = "" if is_linear(picture.profile.icc) else " Its profile says that it is no light."
    note = Message(
        f"{picture.name} is taken as linear light and exposed at {named} EV"
        f"{', ' if how else ''}{how}."
        f"{doubt}"
    )
    return [picture.exposed(ev) for ev in evs], evs, note


def exposures_for(picture: Image) -> list[float]:
    """Return two to seven EV, dark to bright, that show the range of a picture of light."""
    # The first makes the brightest 0.1 % white, the last the darkest 5 % at most of medium
    # brightness; by an overview, to a tenth.
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


LEAST = 0.5
"""Share of the height and width below which nothing is cut: frames that differ so much are meant to."""
POINTS = 1024
"""Most points of a side that are tested."""
Frame = tuple[tuple[tuple[float, float, float], ...], tuple[int, int]]
"""A frame's homography from the reference, row by row, and its (height, width)."""


def common_box(bracket: Image) -> Box:
    """Return the box (y0, x0, y1, x1) of the reference in which every frame has pixels."""
    # Sides are moved inwards, the one with the largest share beyond an edge first, until none is
    # beyond. All of the image where frames lie in place, or where less than half would be left.
    frames = tuple(
        (
            tuple(tuple(map(float, row)) for row in frame.reader.matrix),
            (frame.reader.image.height, frame.reader.image.width),
        )
        for frame in bracket.frames
        if isinstance(frame.reader, RegisteredReader)
    )
    return _box_within(frames, bracket.height, bracket.width)


@lru_cache(maxsize=16)
def _box_within(frames: tuple[Frame, ...], height: int, width: int) -> Box:
    """Return the box of `common_box`; kept, as a window asks for it with every movement."""
    whole = (0, 0, height, width)
    y0, x0, y1, x1 = whole
    while (y1 - y0) >= LEAST * height and (x1 - x0) >= LEAST * width:
        rows, columns = _along(y0, y1), _along(x0, x1)
        outside = [
            _share_outside(frames, columns, np.full_like(columns, y0)),
            _share_outside(frames, np.full_like(rows, x0), rows),
            _share_outside(frames, columns, np.full_like(columns, y1 - 1)),
            _share_outside(frames, np.full_like(rows, x1 - 1), rows),
        ]
        # What a homography leaves of a frame is convex: if its corners are inside, so is the box.
        worst = int(np.argmax(outside))
        if outside[worst] == 0:
            return y0, x0, y1, x1
        y0, x0 = y0 + (worst == 0), x0 + (worst == 1)
        y1, x1 = y1 - (worst == 2), x1 - (worst == 3)
    return whole


def _along(first: int, end: int) -> npt.NDArray[np.float64]:
    """Return coordinates from `first` to the last before `end`: all of them, or `POINTS`."""
    return np.linspace(first, end - 1, min(end - first, POINTS))


def _share_outside(
    frames: tuple[Frame, ...], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> float:
    """Return the share of points of the reference that lie beyond the edge of some frame."""
    outside = np.zeros(len(x), bool)
    for matrix, (height, width) in frames:
        across, down, scale = (row[0] * x + row[1] * y + row[2] for row in matrix)
        across, down = across / scale, down / scale
        outside |= (across <= -1e-6) | (across >= width - 1 + 1e-6)
        outside |= (down <= -1e-6) | (down >= height - 1 + 1e-6)
    return float(outside.mean())
