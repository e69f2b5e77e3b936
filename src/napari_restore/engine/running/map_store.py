"""Maps that one sweep leaves for later ones: kept by tile, open from their writer to their last reader."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from napari_restore.engine._region import Region
from napari_restore.engine.ledger.map_records import ResidualStore, Shape, earlier_slots
from napari_restore.engine.ledger.shared_slabs import OpenSlab
from napari_restore.engine.ledger.slab import SlabFile, Slots, discard_slab
from napari_restore.engine.ledger.store_files import STAGED
from napari_restore.engine.machine.device_memory import DeviceMemory
from napari_restore.engine.machine.precision import dtype_of
from napari_restore.engine.planning.decided import StoredMaps
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.planning.tiles import Grid, TileQueue, tiles_needed
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
class MapLocation:
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
    """Maps of one sweep with the same last reader: of the first `slots.total` tiles of `order`."""

    def __init__(
        self,
        place: MapLocation,
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
        """Return the caller's own maps (C, h, w) in a box of level-0 pixels; None if a part is missing or damaged."""
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
        discard_slab(self._path)


class OpenMaps:
    """The stores of a plan's maps. `target` are the tiles to restore, in the order of sweeping."""

    NOTHING: ClassVar[dict[str, int]] = {"device": 0, "ram": 0, "disk": 0}

    def __init__(
        self,
        plan: Plan,
        device_memory: DeviceMemory,
        target: list[int],
        open_slab: OpenSlab = SlabFile,
    ) -> None:
        self._open_slab = open_slab
        self._plan, self._device_memory = plan, device_memory
        self._grid, self._steps, self._target = plan.grid, plan.swept.ordered_steps, target
        self._maps = plan.sweeps.maps
        self._open_stores: dict[MapStore, ExitStack] = {}
        self.stores: dict[str, MapStore] = {}
        """By map."""
        self.most_bytes = dict(self.NOTHING)
        """Most bytes by tier that maps took at once."""

    def open_earlier(self) -> dict[str, set[int]]:
        """Open what an earlier run left on disk; return the tiles of each map that have a place."""
        kept: dict[str, set[int]] = {}
        for maps in self._maps:
            if (self._plan.store / STAGED / maps.file).exists():
                self._open(maps, disk_only=True)
            order = self._order(maps)
            for name in maps.names:
                if name in self.stores:
                    kept[name] = set(filter(self.stores[name].keeps, order))
                else:
                    kept[name] = set(order[: maps.slots.total])
        return kept

    def open_for(self, number: int) -> None:
        """Open the maps that sweep `number` writes, with their room in memory."""
        for maps in self._maps:
            if maps.first == number:
                for store in self._stores_of(maps):
                    self._close(store)
                self._open(maps, disk_only=False)

    def free_after(self, number: int) -> None:
        """Free the maps that no step after `number` reads; what lies on disk is deleted."""
        if number == len(self._steps) - 1:
            # Not after the last step: what is on disk then stays for a run that was cancelled.
            return
        for maps in self._maps:
            if maps.last <= number:
                for store in self._stores_of(maps):
                    self._close(store)
                    store.remove()

    def close(self) -> None:
        """Release the memory; what lies on disk stays there."""
        for store in list(self._open_stores):
            self._close(store)

    def _stores_of(self, maps: StoredMaps) -> set[MapStore]:
        return {self.stores[name] for name in maps.names if name in self.stores}

    def _open(self, maps: StoredMaps, *, disk_only: bool) -> None:
        writer, order = self._steps.sweeps[maps.first], self._order(maps)
        # A mask may leave fewer tiles than the plan could know.
        slots = maps.slots.first(len(order))
        written = [one for one in writer.writes if one.name in (*maps.names, *maps.again)]
        place = self._place(maps, [one for one in written if one.name in maps.names], order)
        # An earlier run may have kept all of them, or all but the first.
        for way in (self._place(maps, written, order), self._place(maps, written[1:], order)):
            before = way.earlier()
            if before is not None:
                disk_only |= before.ram > slots.ram or before.device > slots.device
                slots, place = before, way
                break
        if not place.maps:
            return
        device = self._plan.device.torch
        store = MapStore(
            place, order, slots, device=device, disk_only=disk_only, open_slab=self._open_slab
        )
        resources = ExitStack()
        resources.callback(store.close)
        resources.enter_context(self._device_memory.holding(store.bytes_by_tier()["device"]))
        self._open_stores[store] = resources
        self.stores |= dict.fromkeys(store.names, store)
        for tier in self.most_bytes:
            now = sum(each.bytes_by_tier()[tier] for each in self._open_stores)
            self.most_bytes[tier] = max(self.most_bytes[tier], now)

    def _place(self, maps: StoredMaps, chosen: Sequence[Map], order: list[int]) -> MapLocation:
        named = json.dumps([self._plan.key, [list(self._grid.core(tile)) for tile in order]])
        key = hashlib.sha256(named.encode()).hexdigest()
        folder, dtype = self._plan.store / STAGED, dtype_of(maps.dtype)
        margins = self._steps.margins
        return MapLocation(folder, maps.file, tuple(chosen), margins, self._grid, dtype, key)

    def _order(self, maps: StoredMaps) -> list[int]:
        """Return the tiles whose maps are read, in the order in which they are assigned."""
        grid = self._grid
        if maps.everywhere:
            return [grid.number(core) for core in in_order(list(map(grid.core, range(grid.count))))]
        of_maps = (self._tiles_read[name] for name in (*maps.names, *maps.again))
        return list(dict.fromkeys(tile for tiles in of_maps for tile in tiles))

    @cached_property
    def _tiles_read(self) -> dict[str, list[int]]:
        """Tiles that are read of each map to restore the target."""
        return tiles_needed(self._steps, self._grid, self._target)[1]

    def _close(self, store: MapStore) -> None:
        for name in store.names:
            self.stores.pop(name, None)
        self._open_stores.pop(store).close()


def in_order(cores: list[Region]) -> list[Region]:
    """Return cores in the order in which a sweep works on them."""
    return list(iter(TileQueue(cores).pop, None))
