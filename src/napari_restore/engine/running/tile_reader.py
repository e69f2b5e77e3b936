"""Reading of tiles: source values with their validity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.engine.masks.mask_strength import MaskStrength
from napari_restore.images import Image

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CompanionInput:
    """Pixels of a further frame in a tile's input box, as read."""

    pixels: npt.NDArray[Any]
    """(h, w, C) in source units."""
    valid: Mask | None
    """(h, w); None when all are."""

    def take(self, pick: tuple[npt.NDArray[Any], ...]) -> CompanionInput:
        """Return the pixels of these rows and columns."""
        return CompanionInput(self.pixels[pick], None if self.valid is None else self.valid[pick])


@dataclass(frozen=True)
class TileInput:
    """Pixels of a tile and its halo, as read."""

    core: Region
    input_box: Region
    pixels: npt.NDArray[Any]
    """(h, w, C) of `input_box` in source units."""
    valid: Mask | None
    """(h, w) of `input_box`: neither nodata nor excluded; None when all are."""
    excluded: Mask | None = None
    """(h, w) of `input_box`: excluded by the user's mask."""
    representative: Mask | None = None
    """(h, w) of `input_box`: those of `valid` that statistics can rely on; None when all are."""
    companions: tuple[CompanionInput, ...] = ()
    """The other frames of a bracket, dark to bright."""

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the core within `input_box`."""
        return self.core.within(self.input_box)


@dataclass(frozen=True)
class TileReader:
    """Reads boxes of an image less the pixels that `exclude` covers. Boxes are level-0 pixels."""

    image: Image
    exclude: MaskStrength | None
    uses_validity: bool
    """Whether the model takes `TileInput.representative`."""

    def read(self, core: Region, input_box: Region) -> TileInput:
        """Return the pixels of `input_box` with their validity."""
        excluded = self._excluded(input_box)
        representative = None
        if self.uses_validity:
            representative = self._counted(self.image.read_representative, input_box, excluded)
        valid = self._counted(self.image.read_valid, input_box, excluded)
        pixels = self.image.read(input_box)
        frames = () if self.image.companions is None else self.image.companions.images
        companions = tuple(CompanionInput(f.read(input_box), _valid(f, input_box)) for f in frames)
        return TileInput(core, input_box, pixels, valid, excluded, representative, companions)

    def valid(self, box: Region) -> Mask | None:
        """Return `TileInput.valid` of `box` alone; no pixel is read unless it decides validity."""
        return self._counted(self.image.read_valid, box, self._excluded(box))

    def representative(self, box: Region) -> Mask | None:
        """Return `TileInput.representative` of `box` alone; None if the model does not take it."""
        if not self.uses_validity:
            return None
        return self._counted(self.image.read_representative, box, self._excluded(box))

    def companions_valid(self, box: Region) -> list[Mask | None]:
        """Return `CompanionInput.valid` of `box` alone, of each companion."""
        others = self.image.companions
        return [] if others is None else [_valid(frame, box) for frame in others.images]

    def _excluded(self, box: Region) -> Mask | None:
        return None if self.exclude is None else self.exclude.read(box) > 0

    def _counted(
        self, read: Callable[[Region], Mask], box: Region, excluded: Mask | None
    ) -> Mask | None:
        """Return (h, w) what `read` finds of `box` less what is excluded; None where that is all."""
        if not self.image.may_be_invalid:
            counted = None if excluded is None else ~excluded
        else:
            counted = read(box) if excluded is None else read(box) & ~excluded
        return None if counted is None or counted.all() else counted


def _valid(frame: Image, box: Region) -> Mask | None:
    """Return which pixels (h, w) of `box` are valid; None when all are."""
    valid = frame.read_valid(box) if frame.may_be_invalid else None
    return None if valid is None or valid.all() else valid
