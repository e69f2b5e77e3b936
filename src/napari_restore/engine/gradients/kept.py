"""Maps of one picture's sweeps and their gradients, by tile, in memory or on the scratch disk."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_restore._format import format_size
from napari_restore.engine._region import Region
from napari_restore.engine.ledger.folder import WRITER
from napari_restore.engine.ledger.map_records import ResidualStore, Shape
from napari_restore.engine.ledger.slab import Slots
from napari_restore.engine.machine.device import Device
from napari_restore.engine.machine.precision import dtype_of
from napari_restore.engine.planning.sweeps import DISK_SHARE, existing_folder
from napari_restore.engine.planning.tiles import Grid
from napari_restore.engine.running.map_store import MapLocation, MapStore
from napari_restore.errors import DiskFull, ResourceError, option
from napari_restore.images import is_locked, lock_file
from napari_restore.models import Map

KEY = "gradients"


class Shelf:
    """Room for records: memory first, then files in a folder of its own within `scratch`; None only counts."""

    def __init__(self, ram: int, scratch: Path | None = None) -> None:
        self._ram = ram
        self._scratch = scratch
        self._folder: Path | None = None
        self._opened = ExitStack()
        self._numbers = itertools.count()
        self._taken: dict[object, tuple[int, int]] = {}
        self._now = [0, 0]
        self.ram_bytes = self.disk_bytes = 0
        """Most bytes so far."""

    def take(self, owner: object, tiles: int, record_bytes: int) -> Slots:
        """Return where so many records of `owner` lie."""
        ram = min(tiles, max(0, self._ram - self._now[0]) // record_bytes)
        sizes = ram * record_bytes, (tiles - ram) * record_bytes
        self._taken[owner] = sizes
        self._now = [now + size for now, size in zip(self._now, sizes, strict=True)]
        self.ram_bytes = max(self.ram_bytes, self._now[0])
        self.disk_bytes = max(self.disk_bytes, self._now[1])
        return Slots(0, ram, tiles - ram)

    def free(self, owner: object) -> None:
        """Return the room of `owner`, if it has any."""
        sizes = self._taken.pop(owner, (0, 0))
        self._now = [now - size for now, size in zip(self._now, sizes, strict=True)]

    def file(self, slots: Slots) -> tuple[Path, str]:
        """Return the folder and a new file name in it; nothing is made where none lies on disk."""
        assert self._scratch is not None
        if not slots.disk:
            return self._scratch, f"{KEY}.slab"
        if self._folder is None:
            self._scratch.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self._scratch)
            made = tempfile.TemporaryDirectory(prefix=f"{KEY}.", dir=self._scratch)
            self._folder = Path(self._opened.enter_context(made))
            if locked := lock_file(self._folder / WRITER):
                self._opened.callback(locked.release)
        return self._folder, f"{next(self._numbers)}.slab"

    def close(self) -> None:
        """Delete what lies on disk."""
        self._opened.close()
        self._folder = None


def remove_abandoned(scratch: Path) -> None:
    """Delete the folders that killed attributions left in `scratch`."""
    for folder in scratch.glob(f"{KEY}.*"):
        # A folder without its lock is one that is just being made.
        if (folder / WRITER).is_file() and not is_locked(folder / WRITER):
            shutil.rmtree(folder, ignore_errors=True)


def free_disk(folder: Path) -> int:
    """Return the bytes of the scratch disk that maps may take."""
    return int(DISK_SHARE * shutil.disk_usage(existing_folder(folder)).free)


def check_disk(folder: Path, needed: int) -> None:
    """Raise `DiskFull` where the scratch disk has too little room for so many bytes."""
    if needed and needed > free_disk(folder):
        raise DiskFull(
            f"The maps of the sweeps and their gradients take {format_size(needed)} on the scratch "
            "disk, more than it has.",
            f"Raise {option('memory')}, point {option('scratch')} to another disk, "
            f"or use {option('context_gradient', 'stop')}.",
        )


class KeptMap:
    """A map on the tiles that are read, with any margin around a tile up to `margin` pixels."""

    def __init__(
        self, one: Map, tiles: Sequence[int], margin: int, grid: Grid, shelf: Shelf, device: Device
    ) -> None:
        slots = shelf.take(self, len(tiles), map_bytes(one, grid.tile))
        folder, file = shelf.file(slots)
        place = MapLocation(folder, file, (one,), {one.name: margin}, grid, kept_dtype(one), KEY)
        self._name, self._shelf = one.name, shelf
        self._store = MapStore(place, tiles, slots, device=device.torch)

    def put(self, number: int, core: Tensor) -> None:
        """Keep a tile's own cells (C, h, w), where they are read."""
        self._store.put(number, {self._name: core})

    def get(self, box: Region) -> Tensor:
        """Return (C, h, w) of the box, in level-0 pixels within the padding."""
        found = self._store.get([self._name], box)
        if found is None:
            raise _lost()
        return found[self._name]

    def close(self) -> None:
        self._shelf.free(self)
        self._store.remove()


@dataclass(frozen=True)
class Spill:
    """How the box of a reader's tile with its halo is cut: at the lines between tiles."""

    map: Map
    tile: int
    halo: int

    @property
    def side(self) -> int:
        """Cells of a tile along a side."""
        return self.tile // self.map.stride

    @property
    def rings(self) -> int:
        """Tiles on every side that the halo reaches."""
        return -(-self.halo // self.tile)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and last cell of each part along a side, from the corner of the tile's core."""
        halo = self.halo // self.map.stride
        if not halo:
            return [(0, self.side)]
        lines = [number * self.side for number in range(1 - self.rings, self.rings + 1)]
        return list(itertools.pairwise([-halo, *lines, self.side + halo]))

    @property
    def shapes(self) -> tuple[Shape, ...]:
        sizes = [last - first for first, last in self.spans]
        return tuple((self.map.channels, h, w) for h in sizes for w in sizes)

    @property
    def bytes(self) -> int:
        """Bytes kept of one tile."""
        cells = self.side + 2 * self.halo // self.map.stride
        return kept_dtype(self.map).itemsize * self.map.channels * cells**2


class SpilledGradient:
    """∂D/∂ of a map by one reader: what each of the reader's tiles adds to its box."""

    # Tiles write only records of their own, whatever their order; they are added when they are
    # read, in the order of the tiles.
    def __init__(
        self, spill: Spill, tiles: Sequence[int], grid: Grid, shelf: Shelf, device: Device
    ) -> None:
        self._spill, self._grid, self._shelf = spill, grid, shelf
        self._slots = {number: slot for slot, number in enumerate(tiles)}
        slots = shelf.take(self, len(tiles), spill.bytes)
        folder, file = shelf.file(slots)
        self._records = ResidualStore(
            folder / file,
            spill.shapes,
            kept_dtype(spill.map),
            slots,
            key=KEY,
            device=device.torch,
        )

    def put(self, number: int, by_box: Tensor) -> None:
        """Keep (C, h, w) of a tile's box, which ends with the padded image."""
        spill, whole = self._spill, self._grid.whole(number)
        box = self._grid.around(self._grid.cells(number), spill.halo)
        grown = whole.expand(spill.halo)
        missing = (box.x0 - grown.x0, grown.x1 - box.x1, box.y0 - grown.y0, grown.y1 - box.y1)
        if any(missing):
            by_box = nn.functional.pad(by_box, [each // spill.map.stride for each in missing])
        halo = spill.halo // spill.map.stride
        spans = [slice(first + halo, last + halo) for first, last in spill.spans]
        self._records.put(self._slots[number], [by_box[:, r, c] for r in spans for c in spans])

    def add_to(self, total: Tensor | None, number: int) -> Tensor | None:
        """Add what lies in a tile's own cells (C, h, w) to `total`; None is zero."""
        spill, grid = self._spill, self._grid
        cells = grid.cells(number)
        row, column = divmod(number, grid.columns)
        height, width = cells.height // spill.map.stride, cells.width // spill.map.stride
        for other in grid.touched(grid.around(cells, spill.halo)):
            if other not in self._slots:
                continue
            from_row, from_column = divmod(other, grid.columns)
            down, across = row - from_row + spill.rings, column - from_column + spill.rings
            part = down * len(spill.spans) + across
            got = self._records.get(self._slots[other], [part])
            if got is None:
                raise _lost()
            if total is None:
                total = got[0].new_zeros(spill.map.channels, height, width)
            y, x = (spill.spans[at][0] - (at - spill.rings) * spill.side for at in (down, across))
            target = total[:, y : y + got[0].shape[1], x : x + got[0].shape[2]]
            target += got[0][:, : target.shape[1], : target.shape[2]]
        return total

    def close(self) -> None:
        self._shelf.free(self)
        self._records.remove()


def kept_dtype(one: Map) -> torch.dtype:
    """Return the floats that a map and its gradient are kept in: as computed, or as declared."""
    return dtype_of(one.dtype or "float32")


def map_bytes(one: Map, tile: int) -> int:
    """Return the bytes kept of one tile of a map."""
    cells = tile // one.stride
    return kept_dtype(one).itemsize * one.channels * cells**2


def _lost() -> ResourceError:
    return ResourceError(
        "A map of the sweeps on the scratch disk was lost or damaged.",
        "Run the same command again.",
    )
