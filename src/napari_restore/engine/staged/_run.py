"""Runs of models that encode tiles, relate all of them, and decode tiles."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
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
from napari_restore.engine.running._tile_reader import TileInput
from napari_restore.engine.staged._layout import Recompute, StagedLayout
from napari_restore.engine.staged._residuals import FILE, ResidualStore, earlier_slots
from napari_restore.engine.staged._rounding import Rounding
from napari_restore.engine.staged._slab import discard
from napari_restore.engine.staged._tokens import TokenStore
from napari_restore.engine.staged._work import (
    DecodeInput,
    Encoded,
    StagedWork,
    box_of_tile,
    reflection,
)
from napari_restore.engine.storage._store import STAGED
from napari_restore.errors import Cancelled, OutOfMemory
from napari_restore.models import StagedModel


class StagedRun(Run):
    """A plan of scope `staged`: encode batches, one bottleneck, decode batches.

    Tokens and residuals lie beside the result until they are used. Finished work is never repeated:
    encoded tiles, layers of the bottleneck that took long, decoded tiles. Residuals that were in
    the memory of a run that ended are recomputed from the source.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._seconds: dict[str, float] = {}
        self._kept: dict[str, int] = {}
        self._rounding: Rounding | None = None
        self._encoded = 0

    def _restore(self, work: TileWork) -> None:
        model, layout = self.plan.model, self.plan.staged
        assert isinstance(model, StagedModel) and layout is not None
        folder = self.plan.store / STAGED
        tiles, pending = self._tiles()
        if pending:
            with ExitStack() as stack:
                tokens = self._tokens(folder, layout, model, stack)
                # In the order of encoding: that is how residuals are assigned to the tiers.
                order = list(iter(Schedule(tiles).pop, None))
                parked, recompute = self._parked(folder, layout, model, order, tokens, stack)
                self._rounding = Rounding(dtype_of(layout.residual_dtype))
                staged = StagedWork(model, work, layout.residual_dtype, recompute, self._rounding)
                slots = {core: number for number, core in enumerate(order)}
                grid = self._grid(layout)
                if not tokens.is_finished:
                    with self._timed("encode"):
                        self._encode(staged, tokens, parked, grid, slots)
                    with self._timed("bottleneck"):
                        self._relate(model, layout, tokens)
                with self._timed("decode"):
                    self._decode(staged, tokens, parked, grid, slots, pending)
                self._kept = parked.bytes_by_tier()
        if not self.stop.is_set():
            discard(folder / FILE)

    def _tokens(
        self, folder: Path, layout: StagedLayout, model: StagedModel, stack: ExitStack
    ) -> TokenStore:
        side = model.tile // model.stride
        store = TokenStore(folder, layout, model.width, side, model.margin, self.plan.key)
        return stack.enter_context(closing(store))

    def _parked(
        self,
        folder: Path,
        layout: StagedLayout,
        model: StagedModel,
        order: list[Region],
        tokens: TokenStore,
        stack: ExitStack,
    ) -> tuple[ResidualStore, Recompute]:
        """Return the tiles whose residuals are stored, and the others.

        Residuals of an earlier run count as stored.
        """
        dtype, device = dtype_of(layout.residual_dtype), self.plan.device.torch
        named = json.dumps([self.plan.key, [list(core) for core in order]])
        key = hashlib.sha256(named.encode()).hexdigest()
        # A mask may leave fewer tiles than the plan could know.
        slots, recompute = layout.slots.first(len(order)), layout.recompute
        shapes = _shapes(model, recompute)
        disk_only = tokens.is_finished
        for way in ("none", "first"):
            earlier = earlier_slots(folder, _shapes(model, way), dtype, key=key)
            if earlier is not None:
                disk_only |= earlier.ram > slots.ram or earlier.device > slots.device
                slots, recompute, shapes = earlier, way, _shapes(model, way)
                break
        parked = ResidualStore(
            folder, shapes, dtype, slots, key=key, device=device, disk_only=disk_only
        )
        stack.enter_context(closing(parked))
        stack.enter_context(self._device_memory.holding(parked.bytes_by_tier()["device"]))
        return parked, recompute

    # -- encode ----------------------------------------------------------------------

    def _encode(
        self,
        work: StagedWork,
        tokens: TokenStore,
        parked: ResidualStore,
        grid: dict[Region, int],
        slots: dict[Region, int],
    ) -> None:
        missing = [core for core, tile in grid.items() if not tokens.encoded.has(tile)]
        self.emit(Phase("Encoding (1 of 3)"))
        already = len(grid) - len(missing)
        progress = self._progress(already)
        progress(already, len(grid))

        def write(encoded: Encoded) -> None:
            number = slots.get(encoded.core)
            # Residuals first: tokens mark the tile as encoded.
            if number is not None:
                parked.put(number, work.kept(encoded.residuals))
            tokens.put_encoded(grid[encoded.core], encoded.tokens)
            self._encoded += 1
            progress(already + self._encoded, len(grid))

        self._pipeline(Schedule(missing), self._tile, work.encode).run(write)
        if self.stop.is_set():
            raise Cancelled("Cancelled while encoding.")

    def _grid(self, layout: StagedLayout) -> dict[Region, int]:
        """Return all tiles of the bottleneck, numbered row by row."""
        tile, box = self.plan.layout.tile, layout.box
        return {
            Region(y, x, y + tile, x + tile).intersect(box): row * layout.columns + column
            for row, y in enumerate(range(box.y0, box.y1, tile))
            for column, x in enumerate(range(box.x0, box.x1, tile))
        }

    def _tile(self, core: Region) -> TileInput:
        """Return the whole tile around `core`, reflected where it reaches beyond the image."""
        image = self.plan.image
        box = box_of_tile(core, self.plan.layout.tile)
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

    # -- bottleneck ------------------------------------------------------------------

    def _relate(self, model: StagedModel, layout: StagedLayout, tokens: TokenStore) -> None:
        """Pass the grid through the bottleneck, on the processor if the device is too small."""
        self.emit(Phase("Global bottleneck (2 of 3)"))
        if not layout.bottleneck_on_host and self._fits_device(model, tokens):
            return
        model.to("cpu")
        try:
            self._layers(model, Device("cpu", ""), tokens)
        finally:
            model.to(self.plan.device.torch)

    def _fits_device(self, model: StagedModel, tokens: TokenStore) -> bool:
        """Relate the tokens on the device; return False if it ran out of memory."""
        try:
            self._layers(model, self.plan.device, tokens)
            return True
        except OutOfMemory as error:
            if not self.plan.device.is_accelerator:
                raise
            clear_frames(error)
            self._totals.count_backoff()
        self.plan.device.empty_cache()
        self.emit(Note("The bottleneck did not fit the device; the processor takes it."))
        return False

    def _layers(self, model: StagedModel, device: Device, tokens: TokenStore) -> None:
        """Pass the grid through the layers that are not done yet; keep the slow ones' output."""
        progress = LayerProgress(model.layers, self.emit, self.stop)
        memory = self._device_memory if device == self.plan.device else None

        def run() -> None:
            torch.set_num_threads(cores())
            watched = memory.watched() if memory is not None else ExitStack()
            with torch.inference_mode(), computing(device, self.plan.computing.precision), watched:
                grid, start = tokens.load(device.torch, progress.check)
                if start < 0:
                    grid = model.place_tokens(grid)
                for layer in range(max(0, start), model.layers):
                    progress.report(layer)
                    grid = model.bottleneck_layer(layer, grid, progress.within(layer))
                    if layer + 1 < model.layers:
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
            raise as_failure(model, error) from error

    # -- decode ----------------------------------------------------------------------

    def _decode(
        self,
        work: StagedWork,
        tokens: TokenStore,
        parked: ResidualStore,
        grid: dict[Region, int],
        slots: dict[Region, int],
        pending: list[Region],
    ) -> None:
        self.emit(Phase("Decoding (3 of 3)"))

        def read(core: Region) -> DecodeInput:
            tile = self._tile(core)
            related, encoded = tokens.tile(grid[core])
            residuals = parked.get(slots[core])
            return DecodeInput(**vars(tile), tokens=related, encoded=encoded, residuals=residuals)

        # The last to be written come first: they are still in the system's cache.
        schedule = self._schedule(pending, backwards=True)
        self._pipeline(schedule, read, work.decode).run(self._writer(len(slots)))

    # -- reporting -------------------------------------------------------------------

    def _measured(self) -> dict[str, Any]:
        return {
            "phase_seconds": self._seconds,
            "tiles_encoded": self._encoded,
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


def _shapes(model: StagedModel, recompute: Recompute) -> tuple[tuple[int, int, int], ...]:
    """Return the shapes of the residuals of one tile that are kept."""
    first = 1 if recompute == "first" else 0
    return tuple(residual.shape(model.tile) for residual in model.residuals[first:])


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
