"""Runs of models that see the whole image: their steps in order, each over all tiles."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from napari_restore.engine._region import Region
from napari_restore.engine.memory._device import Device, cores
from napari_restore.engine.planning._tiles import Schedule
from napari_restore.engine.running._events import Note, Phase, Progress
from napari_restore.engine.running._new_thread import on_new_thread
from napari_restore.engine.running._precision import computing, dtype_of
from napari_restore.engine.running._run import Emit, Run
from napari_restore.engine.running._tile import (
    FAILURES,
    TileWork,
    as_failure,
    clear_frames,
    is_out_of_memory,
)
from napari_restore.engine.running._tile_reader import Mask, TileInput
from napari_restore.engine.storage._store import STAGED
from napari_restore.engine.sweeps._counts import CountStore
from napari_restore.engine.sweeps._grid import Grid
from napari_restore.engine.sweeps._groups import margins_of, whole_maps
from napari_restore.engine.sweeps._layout import StoredMaps, SweptLayout
from napari_restore.engine.sweeps._map_store import MapStore, Place
from napari_restore.engine.sweeps._rounding import Rounding
from napari_restore.engine.sweeps._settled import UNFINISHED, find_settled, keep_settled
from napari_restore.engine.sweeps._slab import discard
from napari_restore.engine.sweeps._steps_done import StepsDone
from napari_restore.engine.sweeps._sweep_work import (
    SweepWork,
    Swept,
    SweptInput,
    empty_tile,
    reflection,
)
from napari_restore.engine.sweeps._tokens import TokenStore
from napari_restore.errors import Cancelled, OutOfMemory
from napari_restore.images import chunk_cache
from napari_restore.models import Counts, Map, Statistics, Sweep, SweptModel, WholeStep


class SweptRun(Run):
    """A plan of scope `swept`: the model's steps in order, each over all tiles.

    Maps lie beside the result until their last reader is done. Finished work is never repeated:
    tiles of a sweep whose maps and counts are on disk, what the counts settled, layers of a whole
    step that took long, restored tiles. Maps that were in the memory of a run that ended are
    recomputed.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._seconds: dict[str, float] = {}
        self._kept = dict.fromkeys(("device", "ram", "disk"), 0)
        self._rounding: Rounding | None = None
        self._swept = 0
        self._stores: dict[MapStore, ExitStack] = {}

    def _restore(self, work: TileWork) -> None:
        tiles, pending = self._tiles()
        folder = self.plan.store / STAGED
        if pending:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / UNFINISHED).touch()
            self._run_steps(work, tiles, pending)
        if not self.stop.is_set():
            for path in folder.glob("*.slab"):
                discard(path)
            (folder / UNFINISHED).unlink(missing_ok=True)

    def settle(self) -> Statistics:
        """Run the sweeps that count, if any is missing; return all statistics, nothing restored."""
        with chunk_cache.bounded(self.plan.layout.read_cache_bytes):
            return self._run_steps(self.open(), [], [])

    def _run_steps(self, work: TileWork, tiles: list[Region], pending: list[Region]) -> Statistics:
        """Run all steps that are not done yet; return the statistics with all that is settled."""
        model, layout = self.plan.model, self.plan.staged
        assert isinstance(model, SweptModel) and layout is not None
        grid = Grid(layout.box, self.plan.layout.tile, model.multiple)
        self._rounding = Rounding(dtype_of(layout.residual_dtype))
        swept = SweepWork(model, work, grid, layout.residual_dtype, self._rounding, self._tile)
        folder = self.plan.store / STAGED
        with ExitStack() as stack:
            tokens = self._tokens(folder, layout, model, stack)
            steps = model.steps()
            done = StepsDone(folder, steps, grid, self._settled_before(steps))
            stack.callback(done.close)
            swept = self._knowing(swept, done.settled)
            # In the order of sweeping: that is how maps are assigned to the tiers.
            target = [grid.number(core) for core in in_order(tiles)]
            stack.callback(self._close_stores)
            kept = self._opened(swept, layout, target)
            wanted_cores = [grid.number(core) for core in pending]
            todo = done.todo(wanted_cores, kept, swept.stores, tokens, self.plan.key)
            for number, step in enumerate(steps):
                wanted = todo[number]
                self.check_source()
                if isinstance(step, WholeStep):
                    if wanted:
                        assert tokens is not None
                        with self._timed(step.name):
                            self._relate(step, layout, tokens)
                elif number == len(steps) - 1:
                    if pending:
                        with self._timed(step.name):
                            self._decode(swept, number, tokens, len(tiles), pending)
                elif wanted or done.must_settle(number):
                    with self._timed(step.name):
                        self._open_stores(swept, layout, number, target)
                        swept = self._sweep(swept, number, tokens, done, wanted)
                self._free(swept, number, layout)
        return swept.tile.statistics

    def _settled_before(self, steps: tuple[Sweep | WholeStep, ...]) -> dict[str, Statistics]:
        """Return what earlier runs settled, by sweep."""
        assert self.plan.settled is not None
        found: dict[str, Statistics] = {}
        for step in steps:
            if isinstance(step, Sweep) and step.counts is not None:
                known = find_settled(self.plan.settled, step.name, step.counts)
                if known is None:
                    # What later ones settled follows from this one.
                    break
                found[step.name] = known
        return found

    def _knowing(self, work: SweepWork, settled: Statistics) -> SweepWork:
        """Return the work with more statistics, on the device."""
        here = {name: self.plan.device.take(value) for name, value in settled.items()}
        statistics = {**work.tile.statistics, **here}
        return replace(work, tile=replace(work.tile, statistics=statistics))

    def _tokens(
        self, folder: Path, layout: SweptLayout, model: SweptModel, stack: ExitStack
    ) -> TokenStore | None:
        """Return the store of the maps that are taken as a whole; None if there are none."""
        whole = [step for step in model.steps() if isinstance(step, WholeStep)]
        if not whole:
            return None
        step = whole[0]
        side = self.plan.layout.tile // step.reads.stride
        channels = step.reads.channels
        store = TokenStore(folder, layout, channels, side, step.margin, self.plan.key)
        return stack.enter_context(closing(store))

    # -- maps ------------------------------------------------------------------------

    def _opened(
        self, work: SweepWork, layout: SweptLayout, target: list[int]
    ) -> dict[str, set[int]]:
        """Open what an earlier run left on disk; return the tiles of each map that have a place."""
        kept: dict[str, set[int]] = {}
        for maps in layout.maps:
            if (self.plan.store / STAGED / maps.file).exists():
                self._open(work, maps, target, disk_only=True)
            order = self._order(work, maps, target)
            for name in maps.names:
                if name in work.stores:
                    kept[name] = {tile for tile in order if work.stores[name].keeps(tile)}
                else:
                    kept[name] = set(order[: maps.slots.total])
        return kept

    def _open_stores(
        self, work: SweepWork, layout: SweptLayout, number: int, target: list[int]
    ) -> None:
        """Open the maps that sweep `number` writes, with their room in memory."""
        for maps in layout.maps:
            if maps.first == number:
                for store in {work.stores[name] for name in maps.names if name in work.stores}:
                    self._close(work, store)
                self._open(work, maps, target, disk_only=False)

    def _order(self, work: SweepWork, maps: StoredMaps, target: list[int]) -> list[int]:
        """Return the tiles whose maps are read, in the order in which they are assigned."""
        grid = work.grid
        if maps.everywhere:
            return [grid.number(core) for core in in_order(list(map(grid.core, range(grid.count))))]
        margins = margins_of(work.steps)
        halo = max(margins[name] for name in (*maps.names, *maps.again))
        return with_neighbours(target, grid, halo)

    def _open(
        self, work: SweepWork, maps: StoredMaps, target: list[int], *, disk_only: bool
    ) -> None:
        grid, writer = work.grid, work.steps[maps.first]
        assert isinstance(writer, Sweep)
        margins, order = margins_of(work.steps), self._order(work, maps, target)
        named = json.dumps([self.plan.key, [list(grid.core(tile)) for tile in order]])
        key = hashlib.sha256(named.encode()).hexdigest()
        # A mask may leave fewer tiles than the plan could know.
        slots = maps.slots.first(len(order))
        written = [one for one in writer.writes if one.name in (*maps.names, *maps.again)]

        def place_of(chosen: list[Map]) -> Place:
            folder, dtype = self.plan.store / STAGED, dtype_of(maps.dtype)
            return Place(folder, maps.file, tuple(chosen), margins, grid, dtype, key)

        place = place_of([one for one in written if one.name in maps.names])
        # An earlier run may have kept all of them, or all but the first.
        for way in (place_of(written), place_of(written[1:])):
            before = way.earlier()
            if before is not None:
                disk_only |= before.ram > slots.ram or before.device > slots.device
                slots, place = before, way
                break
        if not place.maps:
            return
        device = self.plan.device.torch
        store = MapStore(place, order, slots, device=device, disk_only=disk_only)
        held = ExitStack()
        held.callback(store.close)
        held.enter_context(self._device_memory.holding(store.bytes_by_tier()["device"]))
        self._stores[store] = held
        work.stores.update(dict.fromkeys(store.names, store))
        self._note_kept()

    def _note_kept(self) -> None:
        """Remember the most bytes that maps took by tier."""
        for tier in self._kept:
            now = sum(store.bytes_by_tier()[tier] for store in self._stores)
            self._kept[tier] = max(self._kept[tier], now)

    def _free(self, work: SweepWork, number: int, layout: SweptLayout) -> None:
        """Free the maps that no later step reads; what lies on disk is deleted."""
        if number == len(work.steps) - 1:
            return
        for maps in layout.maps:
            if maps.last <= number:
                for store in {work.stores[name] for name in maps.names if name in work.stores}:
                    self._close(work, store)
                    store.remove()

    def _close(self, work: SweepWork, store: MapStore) -> None:
        for name in store.names:
            work.stores.pop(name, None)
        self._stores.pop(store).close()

    def _close_stores(self) -> None:
        for held in self._stores.values():
            held.close()
        self._stores.clear()

    # -- sweeps ----------------------------------------------------------------------

    def _sweep(
        self,
        work: SweepWork,
        number: int,
        tokens: TokenStore | None,
        done: StepsDone,
        wanted: set[int],
    ) -> SweepWork:
        """Run a sweep that leaves maps or counts; return the work with what it settled."""
        step, grid = work.steps[number], work.grid
        assert isinstance(step, Sweep)
        counts = done.counts(number, self.plan.key)
        self.emit(Phase(self._title(step, number, len(work.steps))))
        already, total = grid.count - len(wanted), grid.count
        if tokens is None and not done.must_settle(number):
            already, total = 0, len(wanted)
        progress = self._progress(already)
        progress(already, total)
        whole = whole_maps(work.steps)
        written = 0

        def write(swept: Swept) -> None:
            nonlocal written
            # Counts and tokens mark the tile as done: maps first.
            kept = work.kept(swept.maps)
            for store in dict.fromkeys(work.stores[name] for name in kept):
                store.put(swept.number, kept)
            for name in whole.intersection(swept.maps):
                assert tokens is not None
                tokens.put_encoded(swept.number, swept.maps[name].float())
            if counts is not None and swept.counts is not None and not counts.has(swept.number):
                counts.put(swept.number, swept.counts)
            self._swept += 1
            written += 1
            progress(already + written, total)

        cores = Schedule([grid.core(each) for each in wanted])
        compute = partial(work.sweep, number, counting=counts is not None)
        self._pipeline(cores, partial(self._read, work, number, tokens), compute).run(write)
        if self.stop.is_set():
            raise Cancelled(f"Cancelled in the phase {step.title}.")
        if counts is None:
            return work
        assert step.counts is not None and self.plan.settled is not None
        settled = self._settle(work, step.counts, counts)
        about = {"image": self.plan.image.name, "model": work.model.card.id}
        keep_settled(self.plan.settled, step.name, settled, about)
        done.settle(number, settled)
        return self._knowing(work, settled)

    def _settle(self, work: SweepWork, counts: Counts, store: CountStore) -> Statistics:
        """Return what follows from the counts of all tiles, on the processor."""
        merged = {name: self.plan.device.take(one) for name, one in store.merged().items()}
        try:
            # No precision is set: what all pixels follow from is not rounded.
            with torch.inference_mode():
                settled = counts.settle(merged, work.tile.statistics)
        except FAILURES as error:
            raise as_failure(work.model, error) from error
        return {name: settled[name].detach().cpu().clone() for name in counts.settles}

    def _read(
        self, work: SweepWork, number: int, tokens: TokenStore | None, core: Region
    ) -> SweptInput:
        """Return a tile with the pixels and the kept maps of its input box."""
        step, grid = work.steps[number], work.grid
        assert isinstance(step, Sweep)
        tile = grid.number(core)
        # A model that fixes its tiles is given whole ones.
        box = grid.around(grid.cells(tile), step.halo)
        if step.sees_image:
            read = self._tile(core, box)
        else:
            read = empty_tile(core, box, self._valid(box) if step.counts is not None else None)
        maps: dict[str, torch.Tensor] = {}
        whole = whole_maps(work.steps).intersection(step.reads)
        if whole:
            assert tokens is not None
            maps |= self._from_tokens(work, tokens, tile)
        maps |= work.stored([name for name in step.reads if name not in whole], box)
        return SweptInput(**vars(read), number=tile, maps=maps)

    def _from_tokens(
        self, work: SweepWork, tokens: TokenStore, tile: int
    ) -> dict[str, torch.Tensor]:
        step = next(step for step in work.steps if isinstance(step, WholeStep))
        related, encoded = tokens.tile(tile)
        return {step.writes.name: related, step.reads.name: encoded}

    def _tile(self, core: Region, box: Region) -> TileInput:
        """Return the pixels of `box`, reflected where it reaches beyond the image."""
        image = self.plan.image
        needed, (rows, columns) = reflection(box, (image.height, image.width))
        tile = self.reader.read(core, needed)
        if needed == box:
            return tile
        pick = (rows[:, None], columns[None, :])
        return replace(
            tile,
            input_box=box,
            pixels=tile.pixels[pick],
            valid=None if tile.valid is None else tile.valid[pick],
            excluded=None if tile.excluded is None else tile.excluded[pick],
            representative=None if tile.representative is None else tile.representative[pick],
        )

    def _valid(self, box: Region) -> Mask | None:
        """Return the pixels (h, w) of `box` that counts rely on, as `_tile` gives them."""
        image = self.plan.image
        needed, (rows, columns) = reflection(box, (image.height, image.width))
        mask = self.reader.representative(needed)
        mask = self.reader.valid(needed) if mask is None else mask
        return None if mask is None else mask[rows[:, None], columns[None, :]]

    def _title(self, step: Sweep | WholeStep, number: int, steps: int) -> str:
        return f"{step.title} ({number + 1} of {steps})"

    # -- the whole step --------------------------------------------------------------

    def _relate(self, step: WholeStep, layout: SweptLayout, tokens: TokenStore) -> None:
        """Pass the map through the whole step, on the processor if the device is too small."""
        model = self.plan.model
        assert isinstance(model, SweptModel)
        number = model.steps().index(step)
        self.emit(Phase(self._title(step, number, len(layout.steps))))
        if not layout.bottleneck_on_host and self._fits_device(step, tokens):
            return
        model.to("cpu")
        try:
            self._layers(step, Device("cpu", ""), tokens)
        finally:
            model.to(self.plan.device.torch)

    def _fits_device(self, step: WholeStep, tokens: TokenStore) -> bool:
        """Relate the tokens on the device; return False if it ran out of memory."""
        try:
            self._layers(step, self.plan.device, tokens)
            return True
        except OutOfMemory as error:
            if not self.plan.device.is_accelerator:
                raise
            clear_frames(error)
            self._totals.count_backoff()
        self.plan.device.empty_cache()
        self.emit(Note("The bottleneck did not fit the device; the processor takes it."))
        return False

    def _layers(self, step: WholeStep, device: Device, tokens: TokenStore) -> None:
        """Pass the grid through the layers that are not done yet; keep the slow ones' output."""
        progress = LayerProgress(step.layers, self.emit, self.stop)
        memory = self._device_memory if device == self.plan.device else None

        def run() -> None:
            torch.set_num_threads(cores())
            watched = memory.watched() if memory is not None else ExitStack()
            with torch.inference_mode(), computing(device, self.plan.computing.precision), watched:
                grid, start = tokens.load(device.torch, progress.check)
                if start < 0:
                    grid = step.begin(grid)
                for layer in range(max(0, start), step.layers):
                    progress.report(layer)
                    grid = step.layer(layer, grid, progress.within(layer))
                    if layer + 1 < step.layers:
                        tokens.checkpoint(grid, layer + 1, progress.check)
                tokens.finish(grid, progress.check)

        try:
            on_new_thread(run, "bottleneck", self.stop)
        except FAILURES as error:
            if is_out_of_memory(error):
                raise OutOfMemory(
                    "Out of memory in the bottleneck; encoded tiles are kept.",
                    "Close other programs, then run the same command again.",
                ) from error
            raise as_failure(self.plan.model, error) from error

    # -- the last sweep --------------------------------------------------------------

    def _decode(
        self,
        work: SweepWork,
        number: int,
        tokens: TokenStore | None,
        total: int,
        pending: list[Region],
    ) -> None:
        step = work.steps[number]
        self.emit(Phase(self._title(step, number, len(work.steps))))
        read = partial(self._read, work, number, tokens)
        # The last to be written come first: they are still in the system's cache.
        schedule = self._schedule(pending, backwards=True)
        self._pipeline(schedule, read, work.restore).run(self._writer(total))

    # -- reporting -------------------------------------------------------------------

    def _measured(self) -> dict[str, Any]:
        return {
            "phase_seconds": self._seconds,
            "tiles_encoded": self._swept,
            "residual_bytes": self._kept,
            "residual_rounding": 0.0 if self._rounding is None else self._rounding.relative,
        }

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] = time.perf_counter() - began


def in_order(cores: list[Region]) -> list[Region]:
    """Return cores in the order in which a sweep works on them."""
    return list(iter(Schedule(cores).pop, None))


def with_neighbours(order: list[int], grid: Grid, halo: int) -> list[int]:
    """Return tiles and, after them, those that their halo reaches."""
    near = (other for tile in order for other in grid.touched(grid.around(grid.cells(tile), halo)))
    return list(dict.fromkeys([*order, *near])) if halo else order


class LayerProgress:
    """Progress of the bottleneck's layers, with the time left; stops when `stop` is set."""

    def __init__(self, layers: int, emit: Emit, stop: threading.Event) -> None:
        self._layers, self._emit, self._stop = layers, emit, stop
        self._began = time.perf_counter()
        self._first: float | None = None

    def check(self) -> None:
        """Raise `Cancelled` if the run is to stop."""
        if self._stop.is_set():
            raise Cancelled("Cancelled in the bottleneck.")

    def report(self, done: float) -> None:
        """Emit `Progress` of so many layers, the last of them in part; raises `Cancelled`."""
        self.check()
        if self._first is None:
            self._first = done
        spent = time.perf_counter() - self._began
        left = None
        if done > self._first:
            left = spent / (done - self._first) * (self._layers - done)
        self._emit(Progress(int(100 * done), 100 * self._layers, left))

    def within(self, layer: int) -> Callable[[float], None]:
        """Return the callback of a layer that reports its share done, 0 … 1."""
        return lambda share: self.report(layer + share)
