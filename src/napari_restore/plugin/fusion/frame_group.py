"""A bracket as the user has chosen it, and its frames once they are open."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psygnal
from napari.layers import Image as ImageLayer
from qtpy.QtCore import QObject

from napari_restore import api
from napari_restore.plugin.layers.layer_order import FRAME, insert_above, keeping_active, take_away
from napari_restore.plugin.layers.reader import layer_of
from napari_restore.plugin.state.state import Connections

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from napari.components import ViewerModel

    from napari_restore.images import Image


class FrameLayers:
    """Shows frames of the present bracket as they lie on its grid, until they are hidden again."""

    removed = psygnal.Signal(int)
    """The user has removed the layer of a frame."""

    def __init__(self, viewer: ViewerModel, owner: QObject) -> None:
        self._viewer = viewer
        self._source: ImageLayer | None = None
        self._opened: OpenFrames | None = None
        self._bracket: OpenBracket | None = None
        self._layers: dict[int, ImageLayer] = {}
        Connections(owner, (viewer.layers.events.removed, self._on_removed))

    @property
    def numbers(self) -> frozenset[int]:
        """The frames that are shown."""
        return frozenset(self._layers)

    def follow(
        self, source: ImageLayer | None, opened: OpenFrames | None, bracket: OpenBracket | None
    ) -> None:
        """Take frames from another bracket, or from the same one as it now lies."""
        if source is not self._source or opened is not self._opened:
            self.clear()
        self._source, self._opened, self._bracket = source, opened, bracket

    def show(self, number: int, on: bool) -> None:
        """Show a frame above its bracket, or no more."""
        if not on:
            take_away(self._viewer, self._layers.pop(number, None))
            return
        image, source = self._image(number), self._source
        if image is None or source is None or number in self._layers:
            return

        data, arguments, _ = layer_of(image, self._viewer)
        arguments["name"] = f"Frame: {arguments['name']}"
        self._layers[number] = layer = ImageLayer(data, **arguments)
        layer.metadata[FRAME] = number
        # What is restored stays the same.
        with keeping_active(self._viewer):
            insert_above(self._viewer, source, layer)

    def clear(self) -> None:
        for number in list(self._layers):
            self.show(number, False)
            self.removed.emit(number)

    def _image(self, number: int) -> Image | None:
        """Return a frame on the grid of the bracket, or as it is where it is no part of that."""
        bracket, opened = self._bracket, self._opened
        if opened is None:
            return None
        if bracket is None or number not in bracket.numbers:
            return opened.images[number]
        place = bracket.numbers.index(number)
        others = bracket.image.companions
        # The reference with companions is the bracket itself.
        is_reference = others is not None and place == others.reference
        return opened.images[number] if is_reference else bracket.image.frames[place]

    def _on_removed(self, event: Any) -> None:
        for number, layer in list(self._layers.items()):
            if layer is event.value:
                del self._layers[number]
                self.removed.emit(number)


FrameSource = Any
"""A path, or an image that is open."""


@dataclass(frozen=True)
class FrameGroup:
    """Frames of one scene, which of them are fused, and how they are brought together."""

    sources: tuple[FrameSource, ...]
    used: tuple[bool, ...]
    reference: int | None = None
    """The frame that the result replaces; None: the one in the middle by exposure."""
    exposures: tuple[float, ...] | None = None
    """EV as the camera recorded them; None: estimated from the pixels where it did not."""
    align: bool = True
    note: str | None = None

    @classmethod
    def of(cls, sources: Sequence[FrameSource], **others: Any) -> FrameGroup:
        """Return a group all of whose frames are used."""
        return cls(tuple(sources), (True,) * len(sources), **others)

    @property
    def title(self) -> str:
        """First and last name and the number of frames."""
        first, last = (name_of(self.sources[number]) for number in (0, -1))
        return f"{first} … {last} · {len(self.sources)} frames"

    def using(self, number: int, used: bool) -> FrameGroup:
        flags = list(self.used)
        flags[number] = used
        return replace(self, used=tuple(flags))


@dataclass(frozen=True)
class OpenFrames:
    """The frames of a group, ready to be read at any level."""

    images: tuple[Image, ...]
    """In the order of the group."""
    exposures: tuple[float, ...]
    """EV of each relative to `reference`."""
    reference: int
    """The frame in the middle by exposure."""
    thumbnails: tuple[npt.NDArray[np.uint8], ...]
    """Small pictures (h, w, 3)."""
    is_estimated: bool
    """Whether the exposures follow from the pixels."""
    stamps: Mapping[str, Any] = field(default_factory=dict)
    """Size and time of their files, by name."""

    @property
    def order(self) -> list[int]:
        """The numbers of the frames, dark to bright."""
        return sorted(range(len(self.images)), key=lambda n: (self.exposures[n], n))


@dataclass(frozen=True)
class OpenBracket:
    """A group as the one image that is restored."""

    image: Image
    """The reference, the other used frames being its companions."""
    numbers: tuple[int, ...]
    """The frame of the group that each of `image.frames` is."""
    left_out: tuple[int, ...]
    """Used frames that fit nowhere."""
    is_rough: bool
    """Whether the alignment is still under way."""

    def is_in_place(self, number: int) -> bool:
        """Return whether a frame lies where the reference does, so that its pixels are copied."""
        return not hasattr(self.image.frames[self.numbers.index(number)].reader, "matrix")

    def off_by(self, number: int) -> tuple[float | None, float | None]:
        """Return the pixels that a frame is off by after alignment, and may be at a corner; None: not known."""
        others = self.image.companions
        assert others is not None
        places = [n for n in self.numbers if n != self.numbers[others.reference]]
        known = zip(places, others.residuals, others.corners, strict=False)
        return next(((off, most) for n, off, most in known if n == number), (None, None))


def groups_among(sources: Sequence[FrameSource]) -> list[FrameGroup]:
    """Return the brackets among paths of photos and folders; raises `RestoreError` for none.

    Files that hold one bracket only are that bracket, whatever the camera says of them. One picture
    of light, a path or open, is a bracket of exposures of it. The note of the first group says what
    was found, and which photos belong to none.
    """
    light = group_of_light(sources[0]) if len(sources) == 1 else None
    if light is not None:
        return [light]
    if not all(isinstance(source, (str, os.PathLike)) for source in sources):
        return [FrameGroup.of(sources)]
    folders = [Path(source) for source in sources if Path(source).is_dir()]
    files = [source for source in sources if not Path(source).is_dir()]
    found = [bracket for folder in folders for bracket in api.brackets(folder, singles=True)]
    if files:
        found += api.brackets(files, singles=True)
    brackets = [each for each in found if len(each.paths) > 1]
    groups = [
        FrameGroup.of(each.paths, exposures=each.exposures, note=each.note) for each in brackets
    ]
    if not folders and len(groups) <= 1 and not (groups and len(groups[0].sources) == len(files)):
        groups, found = [FrameGroup.of(files)], []
    alone = api.bracket_notes([each for each in found if len(each.paths) == 1])
    if groups:
        groups[0] = replace(groups[0], note=_told(groups, alone))
    return groups


def _told(groups: Sequence[FrameGroup], alone: Sequence[str]) -> str:
    """Return what was found, as the note of the first of `groups`."""
    count = sum(len(group.sources) for group in groups)
    what = f"{count} photos are taken as one bracket."
    if len(groups) > 1:
        what = f"{count} photos are {len(groups)} brackets; the list below has all."
    return " ".join(filter(None, (what, groups[0].note, *alone)))


def group_of_light(source: FrameSource) -> FrameGroup | None:
    """Return exposures of one picture of linear light as a group; None for other sources."""
    if isinstance(source, (str, os.PathLike)):
        if Path(source).is_dir():
            return None
        source = api.open_image(source)
    if source.dtype.kind != "f":
        return None
    bracket = api.open_bracket(source)
    assert bracket.companions is not None
    note = f"{source.name} is taken as linear light: exposures of it are fused."
    evs = bracket.companions.exposures
    return FrameGroup.of(bracket.frames, exposures=evs, align=False, note=note)


def name_of(source: FrameSource) -> str:
    """Return the name of a frame without its folder."""
    return Path(source).name if isinstance(source, (str, os.PathLike)) else str(source.name)


def numbers_in(images: Sequence[Image], frames: Iterable[Image]) -> tuple[int, ...]:
    """Return which of `images` each of `frames`, placed, developed again or not, was made of."""
    found = []
    for frame in frames:
        inner = getattr(frame.reader, "image", frame)
        # A RAW frame is developed again with the white balance of the reference.
        same = [n for n, each in enumerate(images) if each is inner or each.reader is frame.reader]
        again = [n for n, each in enumerate(images) if each.path == inner.path]
        found.append((same or again)[0])
    return tuple(found)
