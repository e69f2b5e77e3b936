"""Maps that are open during a run of sweeps: from their writer to their last reader."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import ClassVar

from napari_restore.engine._region import Region
from napari_restore.engine.ledger._shared_slabs import OpenSlab
from napari_restore.engine.ledger._slab import SlabFile
from napari_restore.engine.ledger._store_files import STAGED
from napari_restore.engine.machine._device_memory import DeviceMemory
from napari_restore.engine.machine._precision import dtype_of
from napari_restore.engine.planning._map_layout import StoredMaps
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.planning._tiles import Grid, Schedule, tiles_read
from napari_restore.engine.running._map_store import MapStore, Place
from napari_restore.models import Map, Steps


class OpenMaps:
    """The stores of a plan's maps. `target` are the tiles to restore, in the order of sweeping."""

    NOTHING: ClassVar[dict[str, int]] = {"device": 0, "ram": 0, "disk": 0}

    def __init__(
        self,
        plan: Plan,
        device_memory: DeviceMemory,
        grid: Grid,
        steps: Steps,
        target: list[int],
        open_slab: OpenSlab = SlabFile,
    ) -> None:
        assert plan.staged is not None
        self._open_slab = open_slab
        self._plan, self._device_memory = plan, device_memory
        self._grid, self._steps, self._target = grid, steps, target
        self._maps = plan.staged.maps
        self._margins = steps.margins
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
        """Free the maps that no step after `number` reads; what lies on disk is deleted.

        Not after the last step: what is on disk then stays for a run that was cancelled.
        """
        if number == len(self._steps) - 1:
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

    def _place(self, maps: StoredMaps, chosen: Sequence[Map], order: list[int]) -> Place:
        named = json.dumps([self._plan.key, [list(self._grid.core(tile)) for tile in order]])
        key = hashlib.sha256(named.encode()).hexdigest()
        folder, dtype = self._plan.store / STAGED, dtype_of(maps.dtype)
        return Place(folder, maps.file, tuple(chosen), self._margins, self._grid, dtype, key)

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
        return tiles_read(self._steps, self._grid, self._target)

    def _close(self, store: MapStore) -> None:
        for name in store.names:
            self.stores.pop(name, None)
        self._open_stores.pop(store).close()


def in_order(cores: list[Region]) -> list[Region]:
    """Return cores in the order in which a sweep works on them."""
    return list(iter(Schedule(cores).pop, None))
