"""What program and executor of a run share: plan, store and reader, and what is done so far."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence

from napari_restore.engine._region import Region
from napari_restore.engine.ledger.store import ResultStore
from napari_restore.engine.machine.device_memory import DeviceMemory
from napari_restore.engine.machine.precision import dtype_of
from napari_restore.engine.masks.open_mask import open_mask
from napari_restore.engine.planning.layout import weight_bytes
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.planning.source import check_unchanged
from napari_restore.engine.planning.tiles import TileQueue, cut_into_tiles
from napari_restore.engine.running._record import Totals
from napari_restore.engine.running.events import Emit, Phase, Progress, TileDone, seconds_left
from napari_restore.engine.running.rounding import Rounding
from napari_restore.engine.running.tile import TileOutput, halvings
from napari_restore.engine.running.tile_reader import TileReader


class RunState:
    """State of one run. Setting `stop` ends the run within a tile."""

    reader: TileReader
    """Reads tiles; set when the run opens its image."""

    def __init__(self, plan: Plan, emit: Emit, stop: threading.Event | None) -> None:
        self.plan, self.emit = plan, emit
        self.stop = threading.Event() if stop is None else stop
        self.opened: ResultStore | None = None
        """The store, from when the run opens it."""
        self.schedule: TileQueue | None = None
        """The order of the tiles to restore."""
        self.totals = Totals()
        self.device_memory = DeviceMemory(plan.device, weight_bytes(plan.model))
        self.rounding: Rounding | None = None
        """Rounding of the maps of sweeps; None for a model without."""
        if plan.staged is not None:
            self.rounding = Rounding(dtype_of(plan.staged.residual_dtype))
        self.ahead = 0.0
        """Predicted seconds of the command after the present phase."""
        self.detail: Callable[[int, float], str] = lambda done, seconds: ""
        """Returns what progress says beside the time left, after so many steps and seconds."""
        self._levelled: set[Region] = set()
        """Tiles that workers of a cluster have written and whose further levels are made."""

    @property
    def store(self) -> ResultStore:
        """The open store."""
        assert self.opened is not None
        return self.opened

    def check_source(self, when: str = "while it was being restored") -> None:
        """Raise `SourceChanged` if the file, or the array, is no longer what was planned."""
        check_unchanged(self.plan.image, when)

    def complete_levels(self) -> None:
        """Make the levels of tiles that workers of a cluster have written without them."""
        if not self.store.lacks_levels or self.stop.is_set():
            return
        plan, image = self.plan, self.plan.image
        size = (image.height, image.width)
        tiles = cut_into_tiles(plan.targets, size, plan.layout.tile, step=plan.step)
        left = [core for core in tiles if core not in self._levelled]
        if left:
            self.emit(Phase("Writing the levels"))
        report = self.progress()
        for done, core in enumerate(left, 1):
            if self.stop.is_set():
                return
            self.make_levels(core)
            report(done, len(left))
        self.store.lacks_levels = False

    def make_levels(self, core: Region) -> None:
        """Write a finished tile to the further levels of the store."""
        image, count = self.plan.image, self.store.level_count - 1
        pixels, valid = self.store.read(core), image.read_valid(core)
        self.store.write_levels(core, halvings(pixels, valid, count, image.nodata))
        self._levelled.add(core)

    def tiles(self) -> tuple[list[Region], list[Region]]:
        """Return all tiles of the target, and those still to be restored; the others are reported as done."""
        tiles, pending = self.target_tiles(), []
        for tile in tiles:
            if self.store.is_done(tile):
                self.emit(TileDone(tile))
            else:
                pending.append(tile)
        self.totals.resumed = len(tiles) - len(pending)
        return tiles, pending

    def target_tiles(self) -> list[Region]:
        """Return all tiles of the target."""
        plan, image = self.plan, self.plan.image
        mask = open_mask(plan.target.mask, image, plan.target.feather) if plan.target.mask else None
        touches = None if mask is None else lambda core: bool(mask.read(core).any())
        size = (image.height, image.width)
        tiles = cut_into_tiles(plan.targets, size, plan.layout.tile, touches, plan.step)
        if plan.staged is not None:
            tiles = [core.intersect(plan.staged.box) for core in tiles]
        return tiles

    def ordered(self, tiles: Sequence[Region], *, backwards: bool) -> TileQueue:
        """Return the order of tiles to restore, which the user may change during the run."""
        schedule = TileQueue(tiles, backwards=backwards)
        if self.plan.centre_first:
            schedule.prioritise(self.plan.region)
        self.schedule = schedule
        return schedule

    def write(self, output: TileOutput) -> None:
        """Write a restored tile."""
        self.store.write(output.core, output.pixels, output.maps, output.entry, output.levels)
        self.note(output.core)

    def note(self, core: Region) -> None:
        """Note and report a restored tile that was written."""
        self.totals.tiles += 1
        self.totals.pixels += core.pixels
        self.emit(TileDone(core))

    def counter_of(self, already: int, total: int) -> Callable[[], None]:
        """Return a callback that counts one more step of `total`, after those done `already`."""
        progress, numbers = self.progress(already), itertools.count(already + 1)
        progress(already, total)
        return lambda: progress(min(next(numbers), total), total)

    def progress(self, already: int = 0) -> Callable[[int, int], None]:
        """Return a callback that emits `Progress` of done and total, with the time left to the end."""
        began = time.perf_counter()

        def report(done: int, total: int) -> None:
            seconds = time.perf_counter() - began
            left = seconds_left(done - already, total - already, seconds, self.ahead)
            detail = self.detail(done - already, seconds)
            self.emit(Progress(done, total, left, detail))

        return report
