"""Execution of a plan: prepare, read the whole image, restore tile by tile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_restore._heap import keep_freed_memory, release_freed_memory
from napari_restore.engine._region import Region
from napari_restore.engine.ledger._folder import StoreBusy, writer_of
from napari_restore.engine.ledger._store import ResultStore, SetAside
from napari_restore.engine.machine._budget import PeakMemory
from napari_restore.engine.machine._device_memory import DeviceMemory
from napari_restore.engine.masks._mask_strength import MaskStrength
from napari_restore.engine.masks._open_mask import open_mask
from napari_restore.engine.planning._identity import all_settled
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.planning._tiles import Schedule, cut_into_tiles
from napari_restore.engine.results._store_layout import result_levels, store_layout
from napari_restore.engine.running._events import (
    Event,
    Finished,
    Note,
    Phase,
    Progress,
    Stopped,
    TileDone,
)
from napari_restore.engine.running._pipeline import In, Out, Pipeline
from napari_restore.engine.running._pixel_counts import FinishedPixels
from napari_restore.engine.running._prepared import Prepared, prepare
from napari_restore.engine.running._record import Totals, make_record, shares_of
from napari_restore.engine.running._tile import TileOutput, TileWork, halvings
from napari_restore.engine.running._tile_reader import TileReader
from napari_restore.engine.statistics._bands import corrected_bands
from napari_restore.engine.statistics._context import (
    ROUGH,
    Counter,
    compute_context,
    context_exclude,
    context_path,
    find_context,
    load_context,
    on_threads,
)
from napari_restore.errors import Cancelled, SourceChanged, TilesDiffer
from napari_restore.images import Image, Radiometry, chunk_cache, trim_cache
from napari_restore.models import Context

Emit = Callable[[Event], None]
KEPT_RESULTS = 32 << 30
"""Bytes of unused results that stay in the cache."""
TRIM_SECONDS = 300.0
"""Least seconds between two trims of the cache: one takes longer than a tile."""
READING_IMAGE = "Reading the whole image"
PREPARING = "Mapping the whole image"
WAITING = "Waiting for another run with the same settings"
WAIT_SECONDS = 0.1


class Run:
    """One execution of a plan in this process; how tiles are restored depends on the scope.

    `emit` receives the events, most of them in the thread that calls `run`. `stop` ends the run
    within a tile; what is finished stays in the store. With `keep`, what the model computes from
    the whole image stays in memory for the next run. With `wait`, a run waits while another one
    writes to its store, and goes on from what that finished.
    """

    reader: TileReader
    """Reads tiles; set by `open`."""

    def __init__(
        self,
        plan: Plan,
        emit: Emit,
        stop: threading.Event | None = None,
        keep: bool = False,
        wait: bool = False,
    ) -> None:
        self.plan = plan
        self.emit = emit
        self.stop = threading.Event() if stop is None else stop
        self.store: ResultStore | None = None
        self.schedule: Schedule | None = None
        self._keep = keep
        self._wait = wait
        self._statistics: dict[str, Any] = {}
        self._radiometry: Radiometry | None = None
        self._uncounted: MaskStrength | None = None
        self._levelled: set[Region] = set()
        """Tiles that workers of a cluster have written and whose further levels are made."""
        self._totals = Totals()
        self._device_memory = DeviceMemory(plan.device, plan.weight_bytes)

    def run(self) -> dict[str, Any]:
        """Run to the end; return the record, which is also the last event.

        Emits `Stopped` and raises `Cancelled` when stopped before the end.
        """
        began = time.perf_counter()
        keep_freed_memory()
        limit = self.plan.prediction.added_ram_bytes
        with (
            chunk_cache.bounded(self.plan.layout.read_cache_bytes),
            PeakMemory(limit=limit, release=release_freed_memory) as memory,
        ):
            try:
                self.check_source("since it was opened")
                work = self._begin()
                self._restore(work)
                self._complete_levels()
                self.check_source()
                status = "cancelled" if self.stop.is_set() else "done"
                if status == "done" and self.store is not None:
                    self.store.finish()
            except Cancelled:
                status = "cancelled"
            except TilesDiffer:
                if self.store is not None:
                    self.store.forget()
                raise
            finally:
                if self.store is not None:
                    self.store.close()
                release_freed_memory()
        seconds = time.perf_counter() - began - self._totals.waited
        record = self.record(status, seconds, memory)
        if status == "cancelled":
            self.emit(Stopped(record))
            raise Cancelled(
                f"Cancelled after {self._totals.tiles} of {self.plan.layout.tiles} tiles.",
                "The same command goes on from there.",
            )
        if self.plan.model.card.needs_context and record["measured"]["unchanged_share"] == 1:
            # A model that judges the image, and leaves a clear one alone.
            title = self.plan.model.card.title
            self.emit(Note(f"{title} found nothing to remove: every pixel stayed as it was."))
        self.emit(Finished(record))
        return record

    # -- steps of a run --------------------------------------------------------------

    def _begin(self) -> TileWork:
        """Read what all tiles share, and open the store."""
        for note in (*self.plan.image.notes, *self.plan.notes):
            self.emit(Note(note))
        work = self.open()
        self.store = self._open_store()
        # Only now: what this run continues from is in use and stays.
        trim_results()
        if self.store.rebuilt:
            self.emit(Note("The unfinished result was damaged; all tiles are restored again."))
        if self.store.set_aside is not None:
            self.emit(Note(_about(self.store.set_aside)))
        return work

    def open(self) -> TileWork:
        """Return what all tiles share; reads the image. Afterwards there is a `reader`."""
        plan, image = self.plan, self.plan.image
        for frame in image.frames:
            self._decode_once(frame)
        exclude = open_mask(plan.reading.exclude, image) if plan.reading.exclude else None
        self._uncounted = (
            exclude if image.full is None else context_exclude(image, plan.reading.exclude)
        )
        prepared = prepare(plan, self._uncounted, self.context, self._keep, self._preparing)
        if self.stop.is_set():
            raise Cancelled("Cancelled before the first tile.")
        self._radiometry = prepared.radiometry
        self.reader = TileReader(image, exclude, plan.model.card.uses_validity)
        return self._work(self._with_settled(prepared))

    def _decode_once(self, image: Image) -> None:
        """Decode a file that cannot be read at random into the tiled cache."""
        if not image.is_prepared:
            self.emit(Phase("Decoding the file once"))
            report = self._progress()
            image.prepare(lambda _, done, rows: report(done, rows), self.stop.is_set)

    def _open_store(self) -> ResultStore:
        plan, image = self.plan, self.plan.image
        has_waited = False
        while True:
            try:
                return ResultStore.open(
                    plan.store,
                    key=plan.key,
                    names=plan.names,
                    fingerprint=image.fingerprint,
                    shape=(image.height, image.width, image.bands),
                    dtype=image.dtype,
                    **store_layout(plan),
                )
            except StoreBusy:
                if not self._wait:
                    raise
            if not has_waited:
                self.emit(Phase(WAITING))
                has_waited = True
            began = time.perf_counter()
            while True:
                if self.stop.wait(WAIT_SECONDS):
                    raise Cancelled("Cancelled before its turn.", "Run it again.")
                if writer_of(plan.store) is None:
                    break
            self._totals.waited += time.perf_counter() - began

    def check_source(self, when: str = "while it was being restored") -> None:
        """Raise `SourceChanged` if the file is no longer the one that was planned."""
        for image in self.plan.image.frames:
            if image.path is None or not image.reader.files():
                continue
            try:
                now = image.reader.fingerprint()
            except OSError:
                now = ""
            if now != image.fingerprint:
                raise SourceChanged(
                    f"{image.name} has changed {when}.",
                    "Open it again when it is whole, then run again.",
                )

    @contextmanager
    def _preparing(self) -> Iterator[None]:
        """Release what reading the image took, before the model prepares from its statistics."""
        if self.stop.is_set():
            raise Cancelled("Cancelled after reading the whole image.")
        # What reading the image took must not lie beside the maps.
        release_freed_memory()
        if self.plan.model.card.placed:
            # Announced, as a network may take a second.
            self.emit(Phase(PREPARING))
        with self._device_memory.watched():
            yield

    def context(self) -> Context:
        """Return the statistics of the whole image, as cached or read now."""
        plan, exclude = self.plan, self._uncounted
        if plan.reading.context is not None:
            return load_context(Path(plan.reading.context), plan.image)
        region = plan.described
        rough = plan.reading.extent in ROUGH
        known = None if rough else find_context(plan.image, exclude, region)
        if known is not None:
            return known
        if not rough and context_path(plan.image, exclude, region).exists():
            self.emit(
                Note("The cached statistics of this image were damaged and are counted again.")
            )
        self.emit(Phase("Reading a part of the image" if rough else READING_IMAGE))
        return compute_context(
            plan.image,
            exclude=exclude,
            region=region,
            extent=plan.reading.extent,
            counter=on_threads(plan.layout.workers) if rough else self._counter(),
            progress=self._progress(),
            cancelled=self.stop.is_set,
            sampled=not plan.model.card.placed,
        )

    def _counter(self) -> Counter:
        """Return what counts blocks of the whole image."""
        return on_threads(self.plan.layout.workers)

    def _with_settled(self, prepared: Prepared) -> Prepared:
        """Return `prepared` with all that sweeps settled, where there is nothing left to settle."""
        plan = self.plan
        if plan.staged or plan.settled is None:
            return prepared
        settled = all_settled(plan.swept, plan.settled)
        return replace(prepared, statistics={**prepared.statistics, **settled})

    def _work(self, prepared: Prepared) -> TileWork:
        plan, statistics = self.plan, prepared.statistics
        self._statistics = {k: v.tolist() for k, v in statistics.items() if v.numel() <= 16}
        others = corrected_bands(plan.image, plan.bands)
        placed = plan.placed
        with self._device_memory.watched():
            # Once for all tiles: they may be maps.
            on_device = {name: plan.device.take(value) for name, value in statistics.items()}
        return TileWork(
            model=plan.model.eval(),
            statistics=on_device,
            radiometry=prepared.radiometry,
            bands=plan.bands,
            fill=prepared.fill,
            nodata=plan.image.nodata,
            device=plan.device,
            memory=self._device_memory,
            maps=plan.maps,
            levels=len(result_levels(plan.image)) if plan.pyramid else 0,
            others=others if plan.reading.other_bands == "correct" else (),
            wavelengths=plan.image.wavelengths,
            precision=plan.computing.precision,
            corner=(placed.y0, placed.x0),
            scale=float(plan.image.scale),
            size=placed.shape,
            targets=plan.targets,
            companions=plan.companions_radiometry(prepared.radiometry),
            reference=0 if plan.image.companions is None else plan.image.companions.reference,
        )

    def _restore(self, work: TileWork) -> None:
        """Write the tiles that are not finished yet to the store."""
        raise NotImplementedError

    def _complete_levels(self) -> None:
        """Make the levels of tiles that workers of a cluster have written without them."""
        assert self.store is not None
        if not self.store.lacks_levels or self.stop.is_set():
            return
        plan, image = self.plan, self.plan.image
        size = (image.height, image.width)
        tiles = cut_into_tiles(plan.targets, size, plan.layout.tile, step=plan.step)
        left = [core for core in tiles if core not in self._levelled]
        if left:
            self.emit(Phase("Writing the levels"))
        report = self._progress()
        for done, core in enumerate(left, 1):
            if self.stop.is_set():
                return
            self._make_levels(core)
            report(done, len(left))
        self.store.lacks_levels = False

    def _make_levels(self, core: Region) -> None:
        """Write a finished tile to the further levels of the store."""
        assert self.store is not None
        image, count = self.plan.image, self.store.level_count - 1
        pixels, valid = self.store.read(core), image.read_valid(core)
        self.store.write_levels(core, halvings(pixels, valid, count, image.nodata))
        self._levelled.add(core)

    def _tiles(self) -> tuple[list[Region], list[Region]]:
        """Return all tiles of the target, and those still to be restored.

        The others are reported as done.
        """
        assert self.store is not None
        tiles, pending = self._target_tiles(), []
        for tile in tiles:
            if self.store.is_done(tile):
                self.emit(TileDone(tile))
            else:
                pending.append(tile)
        self._totals.resumed = len(tiles) - len(pending)
        return tiles, pending

    def _target_tiles(self) -> list[Region]:
        """Return all tiles of the target."""
        plan, image = self.plan, self.plan.image
        mask = open_mask(plan.target.mask, image, plan.target.feather) if plan.target.mask else None
        touches = None if mask is None else lambda core: bool(mask.read(core).any())
        size = (image.height, image.width)
        tiles = cut_into_tiles(plan.targets, size, plan.layout.tile, touches, plan.step)
        if plan.staged is not None:
            tiles = [core.intersect(plan.staged.box) for core in tiles]
        return tiles

    def _schedule(self, tiles: list[Region], backwards: bool = False) -> Schedule:
        """Return the order of `tiles`, which the user may change during the run."""
        plan = self.plan
        centre = _middle(plan.region) if plan.centre_first else None
        self.schedule = Schedule(tiles, centre, backwards=backwards)
        return self.schedule

    def _writer(self, total: int) -> Callable[[TileOutput], None]:
        """Return the function that writes and reports a restored tile of `total`."""
        totals = self._totals
        progress = self._progress(totals.resumed)
        progress(totals.resumed, total)

        def write(output: TileOutput) -> None:
            assert self.store is not None
            self.store.write(output.core, output.pixels, output.maps, output.entry, output.levels)
            totals.tiles += 1
            totals.pixels += output.core.pixels
            self.emit(TileDone(output.core))
            progress(min(total, totals.resumed + totals.tiles), total)

        return write

    def _pipeline(
        self,
        schedule: Schedule,
        read: Callable[[Region], In],
        compute: Callable[[list[In]], list[Out]],
    ) -> Pipeline[In, Out]:
        """Return the pipeline that works through `schedule` with the plan's workers."""
        return Pipeline(self.plan, self.stop, self._totals.count_backoff, schedule, read, compute)

    # -- reporting -------------------------------------------------------------------

    def _measured(self) -> dict[str, Any]:
        """Return what the scope adds to the record's `measured`."""
        return {}

    def _progress(self, already: int = 0) -> Callable[[int, int], None]:
        """Return a callback that emits `Progress` of done and total with the time left."""
        began = time.perf_counter()

        def report(done: int, total: int) -> None:
            left, seconds = None, time.perf_counter() - began
            if done > already:
                left = seconds / (done - already) * (total - done)
            self.emit(Progress(done, total, left, self._detail(done - already, seconds)))

        return report

    def _detail(self, done: int, seconds: float) -> str:
        """Return what progress says beside the time left, after so many steps and seconds."""
        return ""

    def record(self, status: str, seconds: float, memory: PeakMemory) -> dict[str, Any]:
        """Return the record of the run so far; `memory` was measured around it."""
        counts: dict[str, int] = {}
        if self.store is not None:
            counts = FinishedPixels(self.store, self.reader, self.plan.targets).counts()
        measured = self._totals.measured(seconds, memory, self._device_memory.peak)
        return make_record(
            self.plan,
            status,
            self._radiometry,
            self._statistics,
            measured | shares_of(counts) | self._measured(),
        )


_trimmed = -TRIM_SECONDS


def trim_results() -> None:
    global _trimmed
    if time.monotonic() - _trimmed >= TRIM_SECONDS:
        _trimmed = time.monotonic()
        trim_cache(KEPT_RESULTS, ("results",))


def _about(aside: SetAside) -> str:
    """Return the note on an unfinished run that this one does not go on from."""
    what = "The image has" if aside.of_image else "The model, its code or what it is given has"
    return (
        f"{what} changed since an unfinished run: its tiles are not used, and stay in {aside.path}."
    )


def _middle(region: Region) -> tuple[float, float]:
    return (region.y0 + region.y1) / 2, (region.x0 + region.x1) / 2
