"""Maps that one sweep leaves for later ones, kept by tile and read with a margin around it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_restore.engine._region import Region
from napari_restore.engine.ledger._map_records import ResidualStore, Shape, Slots, earlier_slots
from napari_restore.engine.ledger._shared_slabs import OpenSlab
from napari_restore.engine.ledger._slab import SlabFile, discard
from napari_restore.engine.planning._tiles import Grid
from napari_restore.models import Map


@dataclass(frozen=True)
class Parts:
    """How a tile of a map is cut, so that a neighbour's margin is read without the rest of it."""

    map: Map
    tile: int
    edges: tuple[int, ...]
    """Cells along a side where parts begin and end: one part, or three."""

    @classmethod
    def of(cls, one: Map, tile: int, margin: int) -> Parts:
        """Return the parts of a map whose readers take `margin` pixels around their tiles."""
        side, cells = tile // one.stride, -(-margin // one.stride)
        if not cells or 2 * cells >= side:
            return cls(one, tile, (0, side))
        return cls(one, tile, (0, cells, side - cells, side))

    @property
    def boxes(self) -> list[Region]:
        """Cells of each part, counted from the tile's corner."""
        spans = list(itertools.pairwise(self.edges))
        return [Region(y0, x0, y1, x1) for y0, y1 in spans for x0, x1 in spans]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return tuple((self.map.channels, *box.shape) for box in self.boxes)

    def cut(self, core: Tensor) -> list[Tensor]:
        """Return the parts of (C, h, w); a tile at the edge is filled up with zeros."""
        side = self.edges[-1]
        if core.shape[1:] != (side, side):
            core = nn.functional.pad(core, (0, side - core.shape[2], 0, side - core.shape[1]))
        if len(self.edges) == 2:
            return [core]
        return [core[(..., *box.slices)] for box in self.boxes]


@dataclass(frozen=True)
class Place:
    """Where maps of one sweep with the same last reader lie."""

    folder: Path
    file: str
    maps: tuple[Map, ...]
    margins: Mapping[str, int]
    """Pixels around a tile that readers of each map take."""
    grid: Grid
    dtype: torch.dtype
    key: str

    @property
    def parts(self) -> list[Parts]:
        """How a tile of each map is cut."""
        return [Parts.of(one, self.grid.tile, self.margins.get(one.name, 0)) for one in self.maps]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of all parts of a tile."""
        return tuple(shape for parts in self.parts for shape in parts.shapes)

    def earlier(self) -> Slots | None:
        """Return the split that an earlier run left on disk; see `earlier_slots`."""
        return earlier_slots(self.folder, self.shapes, self.dtype, key=self.key, file=self.file)


class MapStore:
    """Maps of one sweep with the same last reader, on the tiers of `slots`.

    `order` are the numbers of the tiles that are needed: the first `slots.total` of them are kept.
    """

    def __init__(
        self,
        place: Place,
        order: Sequence[int],
        slots: Slots,
        *,
        device: torch.device,
        disk_only: bool = False,
        open_slab: OpenSlab = SlabFile,
    ) -> None:
        self._grid, self._path = place.grid, place.folder / place.file
        self._parts = place.parts
        self._first: dict[str, int] = {}
        first = 0
        for parts in self._parts:
            self._first[parts.map.name] = first
            first += len(parts.boxes)
        self._slots = {number: slot for slot, number in enumerate(order)}
        self.names = frozenset(self._first)
        self._records = ResidualStore(
            self._path,
            place.shapes,
            place.dtype,
            slots,
            key=place.key,
            device=device,
            disk_only=disk_only,
            open_slab=open_slab,
        )

    @property
    def slots(self) -> Slots:
        return self._records.slots

    def keeps(self, number: int) -> bool:
        """Return whether the maps of a tile are to be kept here."""
        slot = self._slots.get(number)
        return slot is not None and self.slots.of(slot) is not None

    def has(self, number: int) -> bool:
        """Return whether the maps of a tile are kept here now."""
        slot = self._slots.get(number)
        return slot is not None and self._records.has(slot)

    def put(self, number: int, maps: Mapping[str, Tensor]) -> None:
        """Keep a tile's cores (C, h, w) by name; tiles beyond the tiers are ignored."""
        if self.keeps(number):
            record = [part for parts in self._parts for part in parts.cut(maps[parts.map.name])]
            self._records.put(self._slots[number], record)

    def get(self, names: Sequence[str], box: Region) -> dict[str, Tensor] | None:
        """Return the maps (C, h, w) in a box of level-0 pixels within the padding.

        None if a part of it was not kept or is damaged. The tensors are the caller's own.
        """
        numbers = list(self._grid.touched(box))
        chosen = [parts for parts in self._parts if parts.map.name in names]
        if len(numbers) == 1 and box == self._grid.whole(numbers[0]):
            if all(len(parts.edges) == 2 for parts in self._parts):
                return self._record(numbers[0], chosen)
        found: dict[str, Tensor] = {}
        for number in numbers:
            if not self._paste(found, number, chosen, box):
                return None
        return found

    def _record(self, number: int, chosen: list[Parts]) -> dict[str, Tensor] | None:
        """Return maps of one tile that are in one part each."""
        which = None
        if len(chosen) < len(self._parts):
            which = [self._first[parts.map.name] for parts in chosen]
        slot = self._slots.get(number)
        got = None if slot is None else self._records.get(slot, which)
        if got is None:
            return None
        return {parts.map.name: one for parts, one in zip(chosen, got, strict=True)}

    def _paste(
        self, found: dict[str, Tensor], number: int, chosen: list[Parts], box: Region
    ) -> bool:
        """Fill `found`, maps of `box`, from one tile; return False if it is not there."""
        slot, whole = self._slots.get(number), self._grid.whole(number)
        wanted: list[tuple[int, Parts, Region, Region]] = []
        for parts in chosen:
            stride = parts.map.stride
            inside = Region(*(edge // stride for edge in box.shift(-whole.y0, -whole.x0)))
            for at, part in enumerate(parts.boxes):
                both = part.intersect(inside)
                if not both.is_empty:
                    wanted.append((self._first[parts.map.name] + at, parts, part, both))
        got = None if slot is None else self._records.get(slot, [one[0] for one in wanted])
        if got is None:
            return False
        for (_, parts, part, both), values in zip(wanted, got, strict=True):
            name, stride = parts.map.name, parts.map.stride
            if name not in found:
                shape = (parts.map.channels, box.height // stride, box.width // stride)
                found[name] = values.new_empty(shape)
            y, x = (whole.y0 - box.y0) // stride, (whole.x0 - box.x0) // stride
            found[name][(..., *both.shift(y, x).slices)] = values[(..., *both.within(part))]
        return True

    def bytes_by_tier(self) -> dict[str, int]:
        """Return bytes on ``"device"``, ``"ram"`` and ``"disk"``."""
        return self._records.bytes_by_tier()

    def close(self) -> None:
        """Release the memory; what lies on disk stays there."""
        self._records.close()

    def remove(self) -> None:
        """Close, and delete what lies on disk."""
        self._records.remove()
        discard(self._path)
