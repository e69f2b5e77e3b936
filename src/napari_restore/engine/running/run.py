"""Execution of a plan: prepare, read the whole image, restore tile by tile."""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from napari_restore._confined import room_for
from napari_restore._heap import keep_freed_memory, release_freed_memory
from napari_restore.engine.ledger.folder import StoreBusy, writer_of
from napari_restore.engine.ledger.store import ResultStore, free_path
from napari_restore.engine.ledger.store_files import result_levels
from napari_restore.engine.machine.budget import PeakMemory
from napari_restore.engine.machine.threads import on_new_thread
from napari_restore.engine.masks.mask_strength import MaskStrength, pieces_of
from napari_restore.engine.masks.open_mask import open_exclude
from napari_restore.engine.planning.identity import all_counted
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.planning.probe import example_input, example_statistics
from napari_restore.engine.results.blended import exposure_for
from napari_restore.engine.results.quality import SEEN_LEVELS, Limits, clipped_in
from napari_restore.engine.running._pixel_counts import FinishedPixels
from napari_restore.engine.running._program import Program
from napari_restore.engine.running._record import make_record, shares_of
from napari_restore.engine.running.events import Emit, Finished, Note, Phase, Stopped
from napari_restore.engine.running.executor import Executor
from napari_restore.engine.running.prepared import Prepared, prepare
from napari_restore.engine.running.state import RunState
from napari_restore.engine.running.threads import ThreadExecutor
from napari_restore.engine.running.tile import TileWork
from napari_restore.engine.running.tile_reader import TileReader
from napari_restore.engine.statistics.bands import named_bands
from napari_restore.engine.statistics.context import (
    ROUGH,
    compute_context,
    context_key,
    find_context,
    load_context,
    on_threads,
)
from napari_restore.engine.statistics.kept import context_path, has_overview
from napari_restore.errors import Cancelled, TilesDiffer, option
from napari_restore.images import Image, Radiometry, chunk_cache, trim_cache
from napari_restore.models import Context, Statistics

KEPT_RESULTS = 32 << 30
"""Bytes of unused results that stay in the cache."""
TRIM_SECONDS = 300.0
"""Least seconds between two trims of the cache: one takes longer than a tile."""
READING_IMAGE = "Reading the whole image"
PREPARING = "Mapping the whole image"
WAITING = "Waiting for another run with the same settings"
WAIT_SECONDS = 0.1
CLIPPED_SHARE = 0.001
"""Share of a band's pixels that become black, or white, from which on a run says so."""
DISPUTED = 0.35
"""Weight of a second estimator, 0 to 1, from which on it is said that they disagree."""


class Run:
    """One execution of a plan: a program of steps over tiles, which an executor computes.

    `emit` receives the events, most of them in the thread that calls `run`. `stop` ends the run
    within a tile; what is finished stays in the store. With `keep`, what the model computes from
    the whole image stays in memory for the next run. A run waits while another process writes to its
    store, and goes on from what that finished; with `wait`, also for one of this process.
    """

    def __init__(
        self,
        plan: Plan,
        emit: Emit,
        stop: threading.Event | None = None,
        keep: bool = False,
        wait: bool = False,
        executor: Executor | None = None,
    ) -> None:
        self.plan, self.emit = plan, emit
        self.state = RunState(plan, emit, stop)
        self.executor = executor or ThreadExecutor()
        self.executor.begin(self.state)
        self.program = Program(self.state, self.executor)
        self._keep, self._wait = keep, wait
        self._statistics: dict[str, Any] = {}
        self._radiometry: Radiometry | None = None
        self._limits: Limits | None = None
        self._uncounted: MaskStrength | None = None
        self._counts: dict[str, int] = {}
        self._read_seconds = 0.0
        """Until the first tile."""

    def run(self) -> dict[str, Any]:
        """Run to the end; return the record, the last event. Emits `Stopped` and raises `Cancelled` when stopped."""
        began, state = time.perf_counter(), self.state
        keep_freed_memory()
        with (
            chunk_cache.bounded(self.plan.layout.read_cache_bytes),
            PeakMemory(self.plan.prediction.added_ram_bytes) as memory,
            room_for(self.plan.memory),
        ):
            try:
                state.check_source("since it was opened")
                work = self.begin()
                self._read_seconds = time.perf_counter() - began - state.totals.waited
                with self.executor.attached():
                    self.program.restore(work, *state.tiles())
                state.complete_levels()
                state.check_source()
                status = "cancelled" if state.stop.is_set() else "done"
                if status == "done" and state.opened is not None:
                    state.opened.finish()
            except Cancelled:
                status = "cancelled"
            except TilesDiffer:
                if state.opened is not None:
                    state.opened.forget()
                raise
            finally:
                if state.opened is not None:
                    state.opened.close()
                self.executor.close()
                release_freed_memory()
        seconds = time.perf_counter() - began - state.totals.waited
        record = self.record(status, seconds, memory)
        stages = {"read": self._read_seconds, "restore": seconds - self._read_seconds}
        record["measured"]["stages"] = stages
        if status == "cancelled":
            if self.executor.lost is not None:
                raise self.executor.lost
            self.emit(Stopped(record))
            raise Cancelled(
                f"Cancelled after {state.totals.tiles} of {self.plan.layout.tiles} tiles.",
                "The same command goes on from there.",
            )
        for note in (*self._notes_on_change(), *self._notes_on_values(record["measured"])):
            self.emit(Note(note))
        self.emit(Finished(record))
        return record

    def _notes_on_values(self, measured: Mapping[str, Any]) -> Iterator[str]:
        """Yield notes after the run: nothing valid, NaN and infinity."""
        invalid = (measured.get("quality_shares") or {}).get("nodata") or 0
        if invalid == 1:
            yield "No pixel is valid: nothing was restored."
        image = self.plan.image
        # With another nodata value, a mask or alpha the share includes pixels other than NaN.
        undeclared = image.nodata is None or math.isnan(image.nodata)
        unmasked = image.profile.masks not in ("mask", "bands", "alpha")
        if 0 < invalid and image.dtype.kind == "f" and undeclared and unmasked:
            yield "Pixels with NaN or infinity are kept as they are."
        if count := measured.get("not_finite_pixels"):
            yield f"The model returned no finite value for {count} pixels; they are kept as they were."

    def _notes_on_change(self) -> Iterator[str]:
        """Yield notes on what the run did to the values."""
        plan, counts = self.plan, self._counts
        card, image, valid = plan.model.card, plan.image, counts.get("valid", 0)
        limits = self._limits
        if limits is None or not valid:
            return
        if card.needs_context and valid == counts["unchanged"]:
            # A model that judges the image, and leaves a clear one alone.
            yield self._note_on_black() or f"{card.title} found nothing to remove. {self._advice()}"
            return
        yield from self._notes_on_haze()
        if card.task == "dehaze" and limits.seen and 2 * counts.get("seen", 0) < valid:
            yield (
                f"{card.title} changed little: {counts.get('seen', 0) / valid:.0%} of the pixels by "
                f"{SEEN_LEVELS} levels of 255 or more. {self._advice()}"
            )
        if image.companions is not None:
            return
        for name, tone in (("clipped_low", "black"), ("clipped_high", "white")):
            shares = [counts.get(clipped_in(name, b), 0) / valid for b in range(image.bands)]
            if lost := [band for band, share in enumerate(shares) if share > CLIPPED_SHARE]:
                yield (
                    f"Up to {max(shares):.1%} of the pixels became {tone} in band "
                    f"{named_bands(image, lost)}; a lower {option('strength')} keeps more of them."
                )

    def _notes_on_haze(self) -> Iterator[str]:
        """Yield what the model found in the whole image, if it says so."""
        found = self._statistics
        if "transmission" not in found or "kept" not in found:
            return
        light = ", ".join(f"{float(value):.2f}" for value in found["airlight"])
        yield (
            f"{float(found['transmission']):.0%} of the light of the scene passes through the haze, whose "
            f"airlight is {light} of white; {float(found['kept']):.0%} of the image keep their hue as sky, "
            "mist, cloud or snow."
        )
        if float(found["doubt"]) > DISPUTED:
            yield (
                "Network and dark channel disagree on this haze, and the result is between them: compare it "
                "with dcp, and with a larger amount."
            )

    def _advice(self) -> str:
        """Return what to do where more is to be removed; bands are to be checked where they are in doubt."""
        image = self.plan.image
        is_known = image.is_photo or "unknown" not in image.described.kinds
        doubt = (
            "" if is_known and not image.described.unsure else "check which bands are named, or "
        )
        return f"Where something is to be removed, {doubt}try another model."

    def _note_on_black(self) -> str | None:
        """Return the note where no value of the region is above black; else None."""
        plan, radiometry = self.plan, self._radiometry
        if radiometry is None:
            return None
        bands = list(plan.bands)
        black = radiometry.black[bands]
        for box in pieces_of(plan.region):
            if (plan.image.read(box)[..., bands] > black).any():
                return None
        return (
            f"No value is above {max(black):g}, which is taken for no light, so nothing was "
            f"removed. {option('black')} sets another value."
        )

    def count(self) -> Statistics:
        """Run the sweeps that count, if any is missing; return all statistics, nothing restored."""
        with chunk_cache.bounded(self.plan.layout.read_cache_bytes):
            return self.program.run_steps(self.open(), [], [])

    # -- steps of a run --------------------------------------------------------------

    def begin(self) -> TileWork:
        """Read what all tiles share, and open the store."""
        for note in (*self.plan.image.notes, *self.plan.notes):
            self.emit(Note(note))
        work = self.open()
        store = self.state.opened = self._open_store()
        self.executor.opened()
        # Only now: what this run continues from is in use and stays.
        trim_results()
        if store.rebuilt:
            self.emit(Note("The unfinished result was damaged; all tiles are restored again."))
        if (aside := store.set_aside) is not None:
            changed = "The image" if aside.of_image else "The model, its code or what it is given"
            self.emit(
                Note(
                    f"{changed} has changed since an unfinished run: its tiles are not used, and stay "
                    f"in {aside.path}."
                )
            )
        return work

    def open(self) -> TileWork:
        """Return what all tiles share; reads the image. Afterwards there is a `reader`."""
        plan, image = self.plan, self.plan.image
        self.state.ahead = plan.prediction.after("read")
        exclude = self.open_reader()
        self._uncounted = exclude if image.full is None else open_exclude(plan.reading, image.full)
        prepared = prepare(plan, self._uncounted, self.context, self._keep, self._preparing)
        if self.state.stop.is_set():
            raise Cancelled("Cancelled before the first tile.")
        self._radiometry = prepared.radiometry
        if plan.counted is not None and not plan.staged:
            # Nothing is left to count.
            counted = all_counted(plan.swept, plan.counted)
            prepared = replace(prepared, statistics={**prepared.statistics, **counted})
        return self.work(prepared)

    def open_reader(self) -> MaskStrength | None:
        """Open what reads tiles; return the mask of what is excluded."""
        plan = self.plan
        for frame in plan.image.frames:
            self._decode_once(frame)
        exclude = open_exclude(plan.reading, plan.image)
        self.state.reader = TileReader(plan.image, exclude, plan.model.card.uses_validity)
        return exclude

    def _decode_once(self, image: Image) -> None:
        """Decode a file that cannot be read at random into the tiled cache."""
        if not image.is_prepared:
            self.emit(Phase("Decoding the file once"))
            report = self.state.progress()
            image.prepare(lambda _, done, rows: report(done, rows), self.state.stop.is_set)

    def _open_store(self) -> ResultStore:
        plan, image = self.plan, self.plan.image
        bands = {"airlight": len(plan.bands)}
        # The change depends on strength and mask: it is computed when it is saved.
        maps = {name: bands.get(name, 1) for name in plan.maps if name != "change"}
        darkened = self._statistics.get("darkening")
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
                    in_16=plan.in_16,
                    exposure=darkened and exposure_for(darkened[image.is_display]),
                    levels=result_levels(image) if plan.pyramid else (),
                    maps=maps,
                )
            except StoreBusy:
                # On a thread it might wait for a run that waits for this one.
                if not self._wait and writer_of(plan.store) == os.getpid():
                    raise
            if not has_waited:
                self.emit(Phase(WAITING))
                has_waited = True
            began = time.perf_counter()
            while True:
                if self.state.stop.wait(WAIT_SECONDS):
                    raise Cancelled("Cancelled before its turn.", "Run it again.")
                if writer_of(plan.store) is None:
                    break
            self.state.totals.waited += time.perf_counter() - began

    @contextmanager
    def _preparing(self) -> Iterator[None]:
        """Release what reading the image took, before the model prepares from its statistics."""
        if self.state.stop.is_set():
            raise Cancelled("Cancelled after reading the whole image.")
        # What reading the image took must not lie beside the maps.
        release_freed_memory()
        if self.plan.model.card.placed:
            # Announced, as a network may take a second.
            self.emit(Phase(PREPARING))
        with self.state.device_memory.watched():
            yield

    def context(self, overview: bool = True) -> Context:
        """Return the statistics of the whole image, as cached or read now, perhaps without the `overview`."""
        plan, exclude = self.plan, self._uncounted
        if plan.reading.context is not None:
            return load_context(Path(plan.reading.context), plan.image)
        region = plan.described
        rough = plan.reading.extent in ROUGH
        known = None
        if not rough:
            known = find_context(plan.image, exclude, region, overview=overview)
        if known is not None:
            return known
        key = context_key(plan.image, exclude, region)
        if not rough and context_path(key).exists() and (not overview or has_overview(key)):
            self.emit(
                Note("The cached statistics of this image were damaged and are counted again.")
            )
        self.emit(Phase("Reading a part of the image" if rough else READING_IMAGE))
        return compute_context(
            plan.image,
            exclude=exclude,
            region=region,
            extent=plan.reading.extent,
            counter=on_threads(plan.layout.workers) if rough else self.executor.counter(),
            progress=self.state.progress(),
            cancelled=self.state.stop.is_set,
            sampled=not plan.model.card.placed,
        )

    def work(self, prepared: Prepared) -> TileWork:
        """Return what all tiles share."""
        plan, statistics = self.plan, prepared.statistics
        plan.model.eval()
        self._statistics = {k: v.tolist() for k, v in statistics.items() if v.numel() <= 16}
        memory = self.state.device_memory
        with memory.watched():
            # Once for all tiles: they may be maps.
            on_device = {name: plan.device.take(value) for name, value in statistics.items()}
        return TileWork(plan, on_device, prepared.radiometry, prepared.fill, memory)

    # -- reporting -------------------------------------------------------------------

    def record(self, status: str, seconds: float, memory: PeakMemory) -> dict[str, Any]:
        """Return the record of the run so far; `memory` was measured around it."""
        state = self.state
        if state.opened is not None and self._radiometry is not None:
            self._limits = Limits.of(self.plan.image, self._radiometry)
            pixels = FinishedPixels(state.opened, state.reader, self.plan.targets, self._limits)
            self._counts = pixels.counts()
        measured = self.state.totals.measured(seconds, memory, self.state.device_memory.peak)
        return make_record(
            self.plan,
            status,
            self._radiometry,
            self._statistics,
            measured | shares_of(self._counts) | self.program.measured() | self.executor.measured(),
        )


_trimmed = -TRIM_SECONDS


def trim_results() -> None:
    """Bring kept results to the size that the user allows, at most once in a while."""
    global _trimmed
    if time.monotonic() - _trimmed >= TRIM_SECONDS:
        _trimmed = time.monotonic()
        trim_cache(KEPT_RESULTS, ("results",))


def begun_anew(plan: Plan) -> Plan:
    """Return `plan` without finished tiles: in an empty folder, another one where its own is in use."""
    store, counted = free_path(plan.store), plan.counted
    if counted is not None and counted.is_relative_to(plan.store):
        counted = store / counted.relative_to(plan.store)
    return replace(plan, store=store, counted=counted)


def count_first(plan: Plan, emit: Emit, stop: threading.Event | None = None) -> Plan:
    """Return `plan` with nothing left to count: its model then depends on a halo only."""
    # The sweeps that count are run first. A plan is returned as it is if its model is local, or
    # takes a map as a whole.
    if plan.staged is None or (reach := plan.swept.reach) is None:
        return plan
    parent = plan.store.parent
    parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own: another run may be writing to that of the plan.
    with tempfile.TemporaryDirectory(prefix="settling.", dir=parent) as folder:
        Run(replace(plan, store=Path(folder)), emit, stop).count()
    return replace(plan, staged=None, layout=replace(plan.layout, halo=reach))


def warm_up(plan: Plan) -> None:
    """Do the one-off work of a first run of `plan`; writes no pixel."""
    keep_freed_memory()
    trim_results()
    if plan.image.reader.random_access and not plan.needs_context_pass:
        Run(plan, lambda event: None, keep=True).open()
    device = plan.device.torch
    model = plan.model.to(device).eval()

    def call() -> None:
        # Libraries choose kernels for a thread count at the first call.
        torch.set_num_threads(plan.layout.threads)
        with torch.inference_mode():
            side = -(-max(256, model.card.min_size) // model.card.multiple_of)
            x = example_input(model, *(side * model.card.multiple_of,) * 2)
            model(x, example_statistics(model, x))

    on_new_thread(call, "warm-up")
