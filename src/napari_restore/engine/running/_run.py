"""Execution of a plan: prepare, read the whole image, restore tile by tile."""

from __future__ import annotations

import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.engine.masks._mask_strength import MaskStrength, open_mask
from napari_restore.engine.memory._budget import PeakMemory
from napari_restore.engine.memory._device import keep_freed_memory, release_freed_memory
from napari_restore.engine.memory._device_memory import DeviceMemory
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.planning._tiles import CELL, Schedule, cut_into_tiles
from napari_restore.engine.results._quality import (
    QUALITY,
    change_bits,
    count_quality,
    disjoint,
    parts_inside,
)
from napari_restore.engine.results._result import result_levels, store_layout
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
from napari_restore.engine.running._tile import TileInput, TileOutput, TileWork
from napari_restore.engine.statistics._bands import other_bands
from napari_restore.engine.statistics._context import (
    ROUGH,
    compute_context,
    context_exclude,
    context_path,
    find_context,
    load_context,
)
from napari_restore.engine.statistics._prepared import Prepared, prepare
from napari_restore.engine.storage._store import ResultStore
from napari_restore.engine.storage._store_lock import StoreBusy, writer_of
from napari_restore.errors import Cancelled, SourceChanged, option
from napari_restore.images import Radiometry, chunk_cache, trim_cache
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

    def __init__(
        self,
        plan: Plan,
        emit: Emit,
        stop: threading.Event,
        keep: bool = False,
        wait: bool = False,
    ) -> None:
        self.plan = plan
        self.emit = emit
        self.stop = stop
        self._keep = keep
        self._wait = wait
        self.store: ResultStore | None = None
        self.schedule: Schedule | None = None
        self._statistics: dict[str, Any] = {}
        self._radiometry: Radiometry | None = None
        self._uncounted: MaskStrength | None = None
        self._excluded: MaskStrength | None = None
        self._waited = 0.0
        """Seconds during which another run had locked the store."""
        self._resumed = 0
        self._done = 0
        self._pixels_done = 0
        self._backoffs = 0
        self._device_memory = DeviceMemory(plan.device, plan.weight_bytes)

    def run(self) -> dict[str, Any]:
        """Run to the end; return the record, which is also the last event.

        Emits `Stopped` and raises `Cancelled` when stopped before the end.
        """
        began = time.perf_counter()
        keep_freed_memory()
        limit = self.plan.added_ram_bytes
        with (
            chunk_cache.bounded(self.plan.read_cache_bytes),
            PeakMemory(limit=limit, release=release_freed_memory) as memory,
        ):
            try:
                self._run()
                status = "cancelled" if self.stop.is_set() else "done"
            except Cancelled:
                status = "cancelled"
            finally:
                if self.store is not None:
                    self.store.close()
                release_freed_memory()
        record = self._make_record(status, time.perf_counter() - began - self._waited, memory)
        if status == "cancelled":
            self.emit(Stopped(record))
            raise Cancelled(
                f"Cancelled after {self._done} of {self.plan.tiles} tiles.",
                "The same command goes on from there.",
            )
        self.emit(Finished(record))
        return record

    # -- steps of a run --------------------------------------------------------------

    def _run(self) -> None:
        plan = self.plan
        image = plan.image
        self._check_source()
        for note in (*image.notes, *plan.notes):
            self.emit(Note(note))
        work, exclude = self.open()
        mask = open_mask(plan.mask, image, plan.feather) if plan.mask else None
        self.store = self._open_store()
        # Only now: what this run continues from is in use and stays.
        trim_results()
        if self.store.rebuilt:
            self.emit(Note("The unfinished result was damaged; all tiles are restored again."))
        self._restore(work, exclude, mask)
        self._check_source()

    def open(self) -> tuple[TileWork, MaskStrength | None]:
        """Return what all tiles share, and the mask of excluded pixels; reads the image."""
        plan, image = self.plan, self.plan.image
        if not image.is_prepared:
            self.emit(Phase("Decoding the file once"))
            report = self._progress()
            image.prepare(lambda _, done, rows: report(done, rows), self.stop.is_set)
        exclude = open_mask(plan.exclude, image) if plan.exclude else None
        self._excluded = exclude
        self._uncounted = exclude if image.full is None else context_exclude(image, plan.exclude)
        prepared = prepare(plan, self._uncounted, self.context, self._keep, self._preparing)
        if self.stop.is_set():
            raise Cancelled("Cancelled before the first tile.")
        self._radiometry = prepared.radiometry
        return self._work(prepared), exclude

    def context(self) -> Context:
        """Return the statistics of the whole image that `open` has read."""
        return self._context(self._uncounted)

    def _open_store(self) -> ResultStore:
        plan, image = self.plan, self.plan.image
        while True:
            try:
                return ResultStore.open(
                    plan.store,
                    key=plan.key,
                    fingerprint=image.fingerprint,
                    shape=(image.height, image.width, image.bands),
                    dtype=image.dtype,
                    **store_layout(plan),
                )
            except StoreBusy:
                if not self._wait:
                    raise
            self.emit(Phase(WAITING))
            began = time.perf_counter()
            while True:
                if self.stop.wait(WAIT_SECONDS):
                    raise Cancelled("Cancelled before its turn.", "Run it again.")
                if writer_of(plan.store) is None:
                    break
            self._waited += time.perf_counter() - began

    def _check_source(self) -> None:
        image = self.plan.image
        if image.path is None or not image.reader.files():
            return
        try:
            now = image.reader.fingerprint()
        except OSError:
            now = ""
        if now != image.fingerprint:
            raise SourceChanged(
                f"{image.name} changed while it was being restored.",
                f"Run again with {option('fresh', True)} when it is whole.",
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

    def _context(self, exclude: MaskStrength | None) -> Context:
        plan = self.plan
        if plan.context_file is not None:
            return load_context(Path(plan.context_file), plan.image)
        region = plan.described
        rough = plan.extent in ROUGH
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
            extent=plan.extent,
            workers=plan.workers,
            progress=self._progress(),
            cancelled=self.stop.is_set,
            sampled=not plan.model.card.placed,
        )

    def _work(self, prepared: Prepared) -> TileWork:
        plan, statistics = self.plan, prepared.statistics
        self._statistics = {k: v.tolist() for k, v in statistics.items() if v.numel() <= 16}
        others = other_bands(plan.image, plan.bands)
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
            other_bands=plan.other_bands,
            others=others if plan.other_bands == "correct" else (),
            wavelengths=plan.image.wavelengths,
            precision=plan.precision,
            corner=(plan.region.y0, plan.region.x0) if plan.extent == "region" else (0, 0),
            scale=float(plan.image.scale),
            targets=plan.targets,
        )

    def _restore(
        self, work: TileWork, exclude: MaskStrength | None, mask: MaskStrength | None
    ) -> None:
        """Write the tiles that are not finished yet to the store."""
        raise NotImplementedError

    def _tiles(self, mask: MaskStrength | None) -> tuple[list[Region], list[Region]]:
        """Return all tiles of the target, and those still to be restored.

        The others are reported as done.
        """
        plan, image = self.plan, self.plan.image
        assert self.store is not None
        touches = None if mask is None else lambda core: bool(mask.read(core).any())
        size = (image.height, image.width)
        tiles = cut_into_tiles(plan.targets, size, plan.tile, touches, plan.step)
        pending = []
        for tile in tiles:
            if self.store.is_done(tile):
                self.emit(TileDone(tile))
            else:
                pending.append(tile)
        self._resumed = len(tiles) - len(pending)
        return tiles, pending

    def _schedule(self, tiles: list[Region], backwards: bool = False) -> Schedule:
        """Return the order of `tiles`, which the user may change during the run."""
        plan = self.plan
        centre = _middle(plan.region) if plan.centre_first else None
        self.schedule = Schedule(tiles, centre, backwards=backwards)
        return self.schedule

    def _read(self, core: Region, input_box: Region, exclude: MaskStrength | None) -> TileInput:
        """Return the pixels of `input_box` with their validity."""
        image = self.plan.image
        valid = representative = excluded = None
        if image.may_be_invalid:
            if self.plan.model.card.uses_validity:
                representative = image.read_representative(input_box)
            valid = image.read_valid(input_box)
        if exclude is not None:
            excluded = exclude.read(input_box) > 0
            valid = _without(valid, excluded)
            representative = _without(representative, excluded)
        return TileInput(
            core,
            input_box,
            image.read(input_box),
            _none_if_all(valid),
            excluded,
            _none_if_all(representative),
        )

    def _writer(self, total: int) -> Callable[[TileOutput], None]:
        """Return the function that writes and reports a restored tile of `total`."""
        progress = self._progress(self._resumed)
        progress(self._resumed, total)

        def write(output: TileOutput) -> None:
            assert self.store is not None
            statistics: dict[str, Any] = {"counts": output.counts}
            if output.inside is not None:
                statistics["inside"] = {"parts": output.inside, "counts": output.counts_inside}
            self.store.write(output.core, output.pixels, output.maps, statistics, output.levels)
            self._done += 1
            self._pixels_done += output.core.pixels
            self.emit(TileDone(output.core))
            progress(min(total, self._resumed + self._done), total)

        return write

    def _pipeline(
        self,
        schedule: Schedule,
        read: Callable[[Region], In],
        compute: Callable[[list[In]], list[Out]],
        write: Callable[[Out], None],
    ) -> None:
        """Work through `schedule` with the plan's workers."""
        plan = self.plan
        pipeline = Pipeline(
            schedule,
            read,
            compute,
            plan.step,
            plan.workers,
            plan.threads,
            plan.tile_batch,
            self.stop,
            plan.device,
        )
        try:
            pipeline.run(write)
        finally:
            self._backoffs += pipeline.backoffs

    def _counts(self) -> dict[str, int]:
        """Return the number of pixels of each kind in the targets.

        Where tiles overlap, the newest counts.
        """
        counts: Counter[str] = Counter()
        if self.store is None:
            return counts
        height, width, _ = self.store.shape
        counted = np.zeros((-(-height // CELL), -(-width // CELL)), bool)
        for entry in reversed(self.store.journal):
            core = Region(*entry["region"])
            y0, x0, y1, x1 = core.align(CELL)
            cells = counted[y0 // CELL : y1 // CELL, x0 // CELL : x1 // CELL]
            if not cells.any():
                counts.update(self._counts_inside(core, entry))
            elif not cells.all():
                # A tile of an earlier run with another tile grid.
                left = [Region(y, x, y + 1, x + 1) for y, x in np.argwhere(~cells).tolist()]
                for cell in left:
                    cell_box = Region(*(CELL * edge for edge in cell)).shift(y0, x0).intersect(core)
                    parts = parts_inside(cell_box, self.plan.targets)
                    for part in [cell_box] if parts is None else disjoint(parts):
                        counts.update(self._recount(part, entry["counts"]))
            cells[:] = True
        return counts

    def _counts_inside(self, core: Region, entry: dict[str, Any]) -> dict[str, int]:
        """Return the counts of the journal's `entry` for the part of `core` inside the targets."""
        parts = parts_inside(core, self.plan.targets)
        if parts is None:
            return dict(entry["counts"])
        inside = entry.get("inside") or {}
        if [list(part) for part in parts] == inside.get("parts"):
            return dict(inside["counts"])
        # A tile of an earlier run with other targets.
        counts: Counter[str] = Counter()
        for part in disjoint(parts):
            counts.update(self._recount(part, entry["counts"]))
        return counts

    def _recount(self, part: Region, of_tile: dict[str, int]) -> dict[str, int]:
        """Return the counts of `part` of a finished tile, from source and result."""
        assert self.store is not None
        source = self._read(part, part, self._excluded)
        quality = change_bits(source.pixels, self.store.read(part))
        if source.valid is not None:
            quality[~source.valid] = QUALITY["unchanged"] | QUALITY["nodata"]
            if source.excluded is not None:
                quality[source.excluded] = QUALITY["unchanged"] | QUALITY["excluded"]
        counts = count_quality(quality, source.valid)
        # Only the model knew: as many as in the whole tile.
        share = part.pixels / max(1, of_tile.get("pixels", 0))
        for name in ("low_transmission", "not_finite"):
            counts[name] = round(of_tile.get(name, 0) * share)
        return counts

    # -- reporting -------------------------------------------------------------------

    def _measured(self) -> dict[str, Any]:
        """Return what the scope adds to the record's `measured`."""
        return {}

    def _progress(self, already: int = 0) -> Callable[[int, int], None]:
        """Return a callback that emits `Progress` of done and total with the time left."""
        began = time.perf_counter()

        def report(done: int, total: int) -> None:
            left = None
            if done > already:
                left = (time.perf_counter() - began) / (done - already) * (total - done)
            self.emit(Progress(done, total, left))

        return report

    def _make_record(self, status: str, seconds: float, memory: PeakMemory) -> dict[str, Any]:
        """Return the parts of the record that only the run knows."""
        plan = self.plan
        counts = self._counts()
        pixels, valid = self._pixels_done, counts.get("valid", 0)
        radiometry = self._radiometry
        image, card = plan.image, plan.model.card
        ranges: dict[str, Any] = {"black": None, "white": None}
        if radiometry is not None:
            ranges = {
                "black": [float(b) for b in radiometry.black],
                "white": float(radiometry.white),
            }
            self._statistics["black_reason"] = radiometry.black_reason
            self._statistics["white_reason"] = radiometry.white_reason
        return {
            "command": "",
            "version": version("napari-restore"),
            "status": status,
            "input": {
                "path": None if image.path is None else str(image.path),
                "fingerprint": image.fingerprint,
                "size": [image.height, image.width],
                "bands": image.bands,
                "dtype": str(image.dtype),
                "crs": None if image.georeference is None else image.georeference.crs_wkt,
                **ranges,
            },
            "output": None,
            "model": {
                "id": card.id,
                "weights_sha256": card.weights_sha256,
                "parameters": dict(card.values),
                "bands": [b + 1 for b in plan.bands],
                "other_bands": plan.other_bands,
            },
            "targets": [{"region": list(target), "mask": plan.mask} for target in plan.targets],
            "adjustment": plan.adjustment.to_dict(),
            "extent": plan.extent,
            "context": self._statistics or None,
            "plan": plan.to_dict(),
            "measured": {
                "seconds": seconds,
                "run_seconds": seconds,
                "megapixels_per_second": pixels / 1e6 / seconds if seconds else 0.0,
                "idle_ram_bytes": memory.start,
                "peak_ram_bytes": memory.peak,
                "peak_device_bytes": self._device_memory.peak,
                "tiles_done": self._done,
                "tiles_resumed": self._resumed,
                "backoffs": self._backoffs,
                "unchanged_share": counts.get("unchanged", 0) / valid if valid else None,
                "quality_shares": {
                    name: counts.get(name, 0) / counts["pixels"] if counts.get("pixels") else None
                    for name in QUALITY
                },
                "not_finite_pixels": counts.get("not_finite", 0),
                **self._measured(),
            },
            "device": f"{plan.device.name} ({plan.device.reason})",
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "numpy", "zarr")},
            },
        }


_trimmed = -TRIM_SECONDS


def trim_results() -> None:
    global _trimmed
    if time.monotonic() - _trimmed >= TRIM_SECONDS:
        _trimmed = time.monotonic()
        trim_cache(KEPT_RESULTS, ("results",))


def _without(
    mask: npt.NDArray[np.bool_] | None, excluded: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return `mask` less what is excluded; None stands for all."""
    return ~excluded if mask is None else mask & ~excluded


def _none_if_all(mask: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
    """Return `mask`, or None where it is True everywhere."""
    return None if mask is None or mask.all() else mask


def _middle(region: Region) -> tuple[float, float]:
    return (region.y0 + region.y1) / 2, (region.x0 + region.x1) / 2
