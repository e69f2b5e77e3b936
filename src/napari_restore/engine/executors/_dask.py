"""A plan whose tiles the workers of a cluster compute."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from napari_restore._format import format_size
from napari_restore.engine._region import Region
from napari_restore.engine.executors.connection import POLL, Cluster, Handout, WorkersLost
from napari_restore.engine.executors.ranges import RangeReport, Ranges, in_whole_chunks
from napari_restore.engine.ledger.folder import Lease
from napari_restore.engine.ledger.shared_slabs import KeptSlabs
from napari_restore.engine.ledger.store_files import CHUNK, SHARED, STAGED
from napari_restore.engine.planning.plan import Plan
from napari_restore.engine.running.events import Note
from napari_restore.engine.running.executor import Executor, Stage
from napari_restore.engine.running.prepared import Prepared, write_prepared
from napari_restore.engine.running.state import RunState
from napari_restore.engine.statistics.context import Counter
from napari_restore.engine.statistics.context_blocks import ContextBlocks
from napari_restore.errors import BadParameter, Cancelled, ResourceError, option
from napari_restore.models import BlockStatistics

AHEAD = 2
"""Ranges that a worker has at once: one that it computes, and the next."""
Line = dict[str, Any]


class Dispatcher:
    """Hands out the ranges of one run, stage by stage."""

    # A range is a list of boxes; no pixel travels. One whose worker is lost is given to another,
    # which goes on where that one stopped.
    def __init__(
        self, cluster: Cluster, task: Mapping[str, Any], state: RunState, slabs: KeptSlabs
    ) -> None:
        self._cluster, self._task, self._state, self._slabs = cluster, task, state, slabs
        self._is_dispatching = False
        self._handed: Handout[tuple[str, list[Region]]] = Handout(cluster, state.emit, state.stop)
        """Names of parts of the store, and the tiles that they are to have."""
        self.run_id = self._handed.run_id
        self._seen: set[Region] = set()
        self._seeing = threading.Lock()
        self.parts: list[str] = []
        """Names of the parts that workers were given in the store."""
        self.added_bytes: dict[str, int] = {}
        """Most memory beyond the idle worker, by worker."""
        self.rounding = (0.0, 0.0)
        """`Rounding.measured` of all workers."""
        self.backoffs = self.read_bytes = self.written_bytes = 0
        self.view: Region | None = None
        """Tiles that it touches are handed out first; it may change during the run."""

    def run(self, stage: Stage[Any, Any]) -> None:
        """Return when all tiles of `stage` are done, or what was begun before a cancel."""
        edge, tiles = self._state.plan.layout.tile, stage.tiles
        if stage.restores and edge < CHUNK:
            tiles = in_whole_chunks(tiles, self._state.target_tiles(), edge)
        self._seen.clear()
        self._is_dispatching = True
        try:
            with self._tile_messages(stage):
                self._give_out(stage, Ranges(tiles, edge))
        finally:
            self._is_dispatching = False

    def end(self) -> None:
        """End what workers still compute of the run, and free what they keep of it."""
        self._cluster.stop(self.run_id)

    def detail(self, done: int, seconds: float) -> str:
        """Return text for the user: the rate of `done` tiles, and what workers read and wrote."""
        if not self._is_dispatching or not done:
            return ""
        rate = f"{done / max(seconds, 1e-3):.1f} tiles/s"
        if not self.read_bytes:
            return rate
        read, written = format_size(self.read_bytes), format_size(self.written_bytes)
        return f"{rate}, {read} read, {written} written"

    def _give_out(self, stage: Stage[Any, Any], ranges: Ranges) -> None:
        """Give ranges to workers until all are done; after a cancel, wait for what they began."""
        handed, stop = self._handed, self._state.stop
        try:
            while handed.running or (len(ranges) and not stop.is_set()):
                workers = handed.workers(stage.title)
                ranges.look_at(self.view)
                while len(ranges) and not stop.is_set() and len(handed.running) < AHEAD * workers:
                    self._give(ranges.pop(workers), stage)
                for (name, tiles), found in handed.ended(
                    lambda given: f"the tile {tuple(given[1][0])}"
                ):
                    if isinstance(found, WorkersLost):
                        ranges.put_back(self._left_of(name, tiles, stage, found))
                    else:
                        ranges.measured(found.computed, found.seconds)
                        self._take(found, stage)
        except BaseException:
            stop.set()
            raise

    def _left_of(
        self, name: str, tiles: list[Region], stage: Stage[Any, Any], error: WorkersLost
    ) -> list[Region]:
        """Return the tiles of a range that several lost workers have left over; raises `error` the second time."""
        lines = self._state.store.part(name, "" if stage.restores else STAGED)
        self._enter(lines, stage)
        finished = {Region(*line["region"]) for line in lines}
        # A first tile that was left over before is what ends the workers.
        left = [tile for tile in tiles if tile not in finished]
        if left:
            self._handed.leave_over((stage.number, left[0]), error)
        return left

    def _give(self, tiles: list[Region], stage: Stage[Any, Any]) -> None:
        name = f"{self.run_id}-{len(self.parts)}.jsonl"
        self.parts.append(name)
        boxes = [list(tile) for tile in tiles]
        step = {"number": stage.number, "counting": stage.counts}
        work = self._cluster.work.run
        self._handed.give((name, tiles), work, self._task, self.run_id, name, boxes, step)

    def _take(self, report: RangeReport, stage: Stage[Any, Any]) -> None:
        self._enter(report.lines, stage)
        self.backoffs += report.backoffs
        self.read_bytes += report.read_bytes
        self.written_bytes += report.written_bytes
        # A worker forgets its own where it computes for another run meanwhile.
        before = self.added_bytes.get(report.process, 0)
        self.added_bytes[report.process] = max(before, report.added_bytes)
        error, largest = report.rounding
        self.rounding = max(self.rounding[0], error), max(self.rounding[1], largest)

    def _enter(self, lines: list[Line], stage: Stage[Any, Any]) -> None:
        if stage.restores:
            for region in self._state.store.add(lines):
                if self._state.plan.pyramid and not self._state.stop.is_set():
                    # Now and not at the end: a window shows them, and the workers compute meanwhile.
                    self._state.make_levels(region)
                self._state.note(region)
        for line in lines:
            if not stage.restores:
                self._slabs.enter(line["records"])
            self._see(Region(*line["region"]), stage)

    def _see(self, tile: Region, stage: Stage[Any, Any]) -> None:
        with self._seeing:
            if tile in self._seen:
                return
            self._seen.add(tile)
        stage.report()

    @contextlib.contextmanager
    def _tile_messages(self, stage: Stage[Any, Any]) -> Iterator[None]:
        """Show tiles as workers finish them, before their ranges are done."""

        def show(event: tuple[float, dict[str, Any]]) -> None:
            # Messages of the stage before may come late.
            if event[1]["step"] == stage.number:
                self._see(Region(*event[1]["region"]), stage)

        client, topic = self._cluster.client, topic_of(self.run_id)
        client.subscribe_topic(topic, show)
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                client.unsubscribe_topic(topic)


def topic_of(run: str) -> str:
    """Return the topic of dask's events on finished tiles of a run."""
    return f"napari-restore-{run}"


BLOCKS = 4
"""Blocks of the whole image that are counted by a worker at a time."""


class DaskExecutor(Executor):
    """Lets workers of a cluster compute the tiles of `task`, the plan as they read it; `own`: leave it then."""

    # Workers get ranges of tiles, read the image and write to the store themselves, and return
    # entries of its journals. This process computes what all tiles share, the statistics of what is
    # counted, and the step that takes a map as a whole, and keeps the journals. What was finished
    # when this process ends is known to the next.
    def __init__(self, task: Mapping[str, Any], cluster: Cluster, *, own: bool = False) -> None:
        self._task, self._cluster, self._own = task, cluster, own
        self._lease: Lease | None = None
        self.open_slab = self._slabs = KeptSlabs()

    def prioritise(self, region: Region) -> None:
        """Hand out the tiles that `region` touches first."""
        self.dispatcher.view = region

    def begin(self, state: RunState) -> None:
        _check(state.plan)
        super().begin(state)
        self.dispatcher = Dispatcher(self._cluster, self._task, state, self._slabs)
        state.detail = self.dispatcher.detail

    # -- statistics of the whole image -----------------------------------------------

    def counter(self) -> Counter:
        # A file that is decoded from its beginning is read by one process.
        random_access = self.state.plan.image.reader.random_access
        return self._count_on_workers if random_access else super().counter()

    def _count_on_workers(self, blocks: ContextBlocks) -> Iterator[BlockStatistics | None]:
        """Yield the statistics of all blocks, in their order."""
        waiting: deque[tuple[list[Region], Any]] = deque()
        left, client = deque(blocks.boxes), self._cluster.client
        while left or waiting:
            workers = len(self._cluster.threads())
            while left and len(waiting) < AHEAD * workers:
                part = [left.popleft() for _ in range(min(len(left), BLOCKS))]
                named = [list(box) for box in part]
                future = client.submit(self._cluster.work.count, self._task, named, pure=False)
                waiting.append((part, future))
            boxes, future = waiting.popleft()
            while not self._cluster.ended([future], POLL):
                if self.state.stop.is_set():
                    raise Cancelled("Cancelled while reading the whole image.")
            counted = self._cluster.result(future, "the statistics of the image")
            for box, one in zip(boxes, counted, strict=True):
                yield blocks.take(box, one)

    # -- tiles -----------------------------------------------------------------------

    def opened(self) -> None:
        self._lease = Lease(self.state.store.path, self._lose)

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        state, store = self.state, self.state.store
        store.lacks_levels = state.plan.pyramid
        for note in self._cluster.check(self._task):
            state.emit(Note(note))
        if dashboard := self._cluster.dashboard:
            state.emit(Note(f"dask shows the cluster at {dashboard}"))
        try:
            yield
        finally:
            # Also what workers keep of this run is freed by that.
            self.dispatcher.end()
            state.totals.backoffs += self.dispatcher.backoffs
            if state.rounding is not None:
                state.rounding.add(*self.dispatcher.rounding)
            with contextlib.suppress(OSError):
                (store.path / SHARED).unlink()
        # Until now: dask computes a range again whose worker is lost before its report is forgotten.
        for name in self.dispatcher.parts:
            for within in ("", STAGED):
                store.remove_part(name, within)

    def map(self, stage: Stage[Any, Any]) -> None:
        """Let workers compute a stage: the next one begins when all its tiles are done."""
        # What all tiles share, for the workers.
        work = stage.work
        statistics = {name: value.detach().cpu() for name, value in work.statistics.items()}
        shared = Prepared(statistics, work.fill, work.radiometry)
        write_prepared(self.state.store.path / SHARED, shared)
        self.dispatcher.run(stage)

    def close(self) -> None:
        if self._lease is not None:
            self._lease.release()
        if self._own:
            self._cluster.close()

    def _lose(self) -> None:
        self.lost = ResourceError(
            "Another machine has taken over this run.",
            "Wait until it is done; finished tiles are kept.",
        )
        self.state.stop.set()

    # -- reporting -------------------------------------------------------------------

    def measured(self) -> dict[str, Any]:
        added = self.dispatcher.added_bytes.items()
        return {"workers": {name: {"added_ram_bytes": size} for name, size in added}}


def _check(plan: Plan) -> None:
    """Raise `BadParameter` for plans that are not for a cluster."""
    tile = plan.layout.tile
    swept = plan.staged is not None
    # Smaller tiles of sweeps are handed out by whole chunks.
    if tile % CHUNK and not (swept and CHUNK % tile == 0):
        raise BadParameter(
            f"Tiles of {tile} pixels share chunks of the result.",
            f"On a cluster {option('tile')} is a multiple of {CHUNK}.",
        )
    if plan.staged is not None and any(
        maps.slots.ram or maps.slots.device for maps in plan.staged.maps
    ):
        raise BadParameter(
            "Residuals in the memory of one machine are not seen by the others.",
            f"On a cluster {option('residuals')} are on disk, or made again.",
        )
