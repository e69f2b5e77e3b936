"""A run whose tiles are computed by the workers of a cluster."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from napari_restore.engine._region import Region
from napari_restore.engine.cluster._connection import Cluster, WorkersLost
from napari_restore.engine.cluster._prepared_file import write_prepared
from napari_restore.engine.cluster._range_run import RangeReport
from napari_restore.engine.cluster._ranges import Ranges
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.running._events import Note, Phase, TileDone
from napari_restore.engine.running._local_run import LocalRun
from napari_restore.engine.running._run import Emit
from napari_restore.engine.running._tile import TileWork
from napari_restore.engine.statistics._context import Counter
from napari_restore.engine.statistics._context_blocks import ContextBlocks
from napari_restore.engine.statistics._prepared import Prepared
from napari_restore.engine.storage._store import CHUNK, SHARED
from napari_restore.errors import BadParameter, Cancelled, option
from napari_restore.models import BlockStatistics

AHEAD = 2
"""Ranges that a worker has at once: one that it computes, and the next."""
BLOCKS = 4
"""Blocks of the whole image that are counted by a worker at a time."""
RESTORING = "Restoring"
POLL = 0.2
"""Seconds after which the run looks for a cancel, new workers and lost ones."""


class ClusterRun(LocalRun):
    """A plan of scope ``local`` on a cluster.

    Workers get ranges of tiles by number, read the image and write whole chunks to the store
    themselves, and return entries of its journal. This process computes what all tiles share and
    keeps the journal. A range whose worker is lost is given to another one, which goes on where
    that one stopped; what was finished when this process ends is known to the next.
    """

    def __init__(
        self,
        plan: Plan,
        task: Mapping[str, Any],
        cluster: Cluster,
        emit: Emit,
        stop: threading.Event | None = None,
        wait: bool = False,
    ) -> None:
        _check(plan)
        super().__init__(plan, emit, stop, wait=wait)
        self.view: Region | None = None
        """Tiles that it touches are handed out first; it may change during the run."""
        self._cluster, self._task = cluster, task
        self._run_id = uuid.uuid4().hex[:12]
        self._added: dict[str, int] = {}
        self._finished: set[Region] = set()
        self._is_waiting = False
        self._left_over: set[Region] = set()
        """First tiles of ranges at which several workers were lost."""

    def _work(self, prepared: Prepared) -> TileWork:
        self._prepared = prepared
        return super()._work(prepared)

    def _counter(self) -> Counter:
        # A file that is decoded from its beginning is read by one process.
        random_access = self.plan.image.reader.random_access
        return self._count_on_workers if random_access else super()._counter()

    def _count_on_workers(self, blocks: ContextBlocks) -> Iterator[BlockStatistics | None]:
        """Yield the statistics of all blocks, in their order."""
        waiting: deque[tuple[list[Region], Any]] = deque()
        left = deque(blocks.boxes)
        while left or waiting:
            workers = len(self._cluster.threads())
            while left and len(waiting) < AHEAD * workers:
                part = [left.popleft() for _ in range(min(len(left), BLOCKS))]
                waiting.append((part, self._submit_count(part)))
            boxes, future = waiting.popleft()
            while not self._cluster.ended([future], POLL):
                if self.stop.is_set():
                    raise Cancelled("Cancelled while reading the whole image.")
            counted = self._cluster.result(future, "the statistics of the image")
            for box, one in zip(boxes, counted, strict=True):
                yield blocks.take(box, one)

    def _submit_count(self, boxes: list[Region]) -> Any:
        named = [list(box) for box in boxes]
        return self._cluster.client.submit(self._cluster.work.count, self._task, named, pure=False)

    def _restore(self, work: TileWork) -> None:
        assert self.store is not None
        write_prepared(self.store.path / SHARED, self._prepared)
        self.store.lacks_levels = self.plan.pyramid
        tiles, pending = self._tiles()
        for note in self._cluster.check(self._task):
            self.emit(Note(note))
        if dashboard := self._cluster.dashboard:
            self.emit(Note(f"dask shows the cluster at {dashboard}"))
        self.emit(Phase(RESTORING))
        self._finished = set(tiles) - set(pending)
        self._show = self._progress(len(self._finished))
        self._total = len(tiles)
        self._show(len(self._finished), self._total)
        try:
            with self._tile_messages():
                self._give_out(Ranges(pending, self.plan.layout.tile))
        finally:
            # Also what workers keep of this run is freed by that.
            self._cluster.stop(self._run_id)
            with contextlib.suppress(OSError):
                (self.store.path / SHARED).unlink()
        # Until now: dask computes a range again whose worker is lost before its report is forgotten.
        self.store.remove_parts(self._run_id)

    def _give_out(self, ranges: Ranges) -> None:
        """Give ranges to workers until all are done; after a cancel, wait for what they began."""
        running: dict[Any, tuple[str, list[Region]]] = {}
        number, stopped = 0, False
        try:
            while running or (len(ranges) and not self.stop.is_set()):
                if self.stop.is_set() and not stopped:
                    stopped = True
                    self._cluster.stop(self._run_id)
                workers = self._workers()
                ranges.look_at(self.view)
                while len(ranges) and not self.stop.is_set() and len(running) < AHEAD * workers:
                    name, tiles = f"{self._run_id}-{number}.jsonl", ranges.pop(workers)
                    running[self._submit(name, tiles)] = name, tiles
                    number += 1
                for future in self._ended(running):
                    name, tiles = running.pop(future)
                    try:
                        report = self._report_of(future, tiles)
                    except WorkersLost as error:
                        ranges.put_back(self._left_of(name, tiles, error))
                        continue
                    future.release()
                    if report is not None:
                        ranges.measured(report.computed, report.seconds)
                        self._take(report)
        except BaseException:
            self.stop.set()
            raise

    def _workers(self) -> int:
        """Return the number of workers; announces when there are none, and when some are back."""
        count = self._cluster.worker_count()
        if (count == 0) != self._is_waiting:
            self._is_waiting = count == 0
            self.emit(Phase("Waiting for workers" if self._is_waiting else RESTORING))
        return count

    def _left_of(self, name: str, tiles: list[Region], error: WorkersLost) -> list[Region]:
        """Return the tiles of a range that several lost workers have left over.

        Raises `error` where its first tile was left over before: it may be what ends them.
        """
        assert self.store is not None
        self._add(self.store.take_part(name))
        left = [tile for tile in tiles if not self.store.is_done(tile)]
        if left and left[0] in self._left_over:
            raise error
        self._left_over.update(left[:1])
        return left

    def _submit(self, name: str, tiles: list[Region]) -> Any:
        return self._cluster.client.submit(
            self._cluster.work.run,
            self._task,
            self._run_id,
            name,
            [list(tile) for tile in tiles],
            key=f"napari-restore-{name}",
            pure=False,
        )

    def _ended(self, running: Mapping[Any, Any]) -> list[Any]:
        if not running:
            # No workers at the moment: some may come.
            self.stop.wait(POLL)
            return []
        return self._cluster.ended(running, POLL)

    def _report_of(self, future: Any, tiles: list[Region]) -> RangeReport | None:
        """Return the report of a range; None where a cancel was first."""
        if self.stop.is_set() and future.status in ("cancelled", "lost"):
            return None
        report: RangeReport = self._cluster.result(future, f"the tile {tuple(tiles[0])}")
        return report

    def _take(self, report: RangeReport) -> None:
        assert self.store is not None
        self._add(self.store.add(report.lines))
        self._totals.backoffs += report.backoffs
        self._added[report.process] = max(report.added_bytes, self._added.get(report.process, 0))
        self._show(len(self._finished), self._total)

    def _add(self, regions: list[Region]) -> None:
        for region in regions:
            self._totals.tiles += 1
            self._totals.pixels += region.pixels
            if self.plan.pyramid and not self.stop.is_set():
                # Now and not at the end: a window shows them, and the workers compute meanwhile.
                self._make_levels(region)
            self.emit(TileDone(region))
            self._finished.add(region)

    @contextlib.contextmanager
    def _tile_messages(self) -> Iterator[None]:
        """Show tiles as workers finish them, before their ranges are done."""

        def show(event: tuple[float, list[int]]) -> None:
            self._finished.add(Region(*event[1]))
            self._show(min(len(self._finished), self._total), self._total)

        client, topic = self._cluster.client, topic_of(self._run_id)
        client.subscribe_topic(topic, show)
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                client.unsubscribe_topic(topic)

    def _measured(self) -> dict[str, Any]:
        return {"workers": {name: {"added_ram_bytes": n} for name, n in self._added.items()}}


def topic_of(run: str) -> str:
    """Return the topic of dask's events on finished tiles of a run."""
    return f"napari-restore-{run}"


def _check(plan: Plan) -> None:
    """Raise `BadParameter` for plans that a cluster cannot run."""
    if plan.staged is not None:
        raise BadParameter(
            f"{plan.model.card.id} sweeps over the whole image, which runs on one machine only.",
            f"Leave {option('cluster')} out, or choose a model of scope local.",
        )
    if plan.layout.tile % CHUNK:
        raise BadParameter(
            f"Tiles of {plan.layout.tile} pixels share chunks of the result.",
            f"On a cluster {option('tile')} is a multiple of {CHUNK}.",
        )
