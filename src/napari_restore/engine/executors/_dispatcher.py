"""Ranges of tiles that are handed to the workers of a cluster until all are done."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_restore._format import format_size
from napari_restore.engine._region import Region
from napari_restore.engine.executors._connection import Cluster, WorkersLost
from napari_restore.engine.executors._range_report import RangeReport
from napari_restore.engine.executors._ranges import Ranges
from napari_restore.engine.executors._waiting import Waiting
from napari_restore.engine.running._run import Emit

AHEAD = 2
"""Ranges that a worker has at once: one that it computes, and the next."""
Line = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """Tiles that all have to be computed before the run goes on."""

    title: str
    """The phase, for users."""
    tiles: Sequence[Region]
    edge: int
    """Side of a tile in pixels."""
    step: Mapping[str, Any] | None
    """The sweep, as workers are given it; None for a model that restores each tile by itself."""
    read_part: Callable[[str], list[Line]]
    """Returns the lines of a part of the store, by its name."""
    enter: Callable[[list[Line]], None]
    """Enters lines of workers into the journals of the run."""
    finished: Callable[[Region], None]
    """Called once for every tile that a worker has finished."""


class Dispatcher:
    """Hands out the ranges of one run, stage by stage.

    A range is a list of boxes; no pixel travels. One whose worker is lost is given to another,
    which goes on where that one stopped.
    """

    def __init__(
        self, cluster: Cluster, task: Mapping[str, Any], emit: Emit, stop: threading.Event
    ) -> None:
        self._cluster, self._task, self._stop = cluster, task, stop
        self._run_id = uuid.uuid4().hex[:12]
        self._number = 0
        self._is_dispatching = False
        self._wait = Waiting(cluster, emit, stop)
        self._left_over: set[Region] = set()
        """First tiles of ranges at which several workers were lost."""
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

    def run(self, stage: Stage) -> None:
        """Return when all tiles of `stage` are done, or what was begun before a cancel."""
        self._seen.clear()
        self._left_over.clear()
        self._is_dispatching = True
        try:
            with self._tile_messages(stage):
                self._give_out(stage, Ranges(stage.tiles, stage.edge))
        finally:
            self._is_dispatching = False

    def end(self) -> None:
        """End what workers still compute of the run, and free what they keep of it."""
        self._cluster.stop(self._run_id)

    def detail(self, done: int, seconds: float) -> str:
        """Return text for the user: the rate of `done` tiles, and what workers read and wrote."""
        if not self._is_dispatching or not done:
            return ""
        rate = f"{done / max(seconds, 1e-3):.1f} tiles/s"
        if not self.read_bytes:
            return rate
        read, written = format_size(self.read_bytes), format_size(self.written_bytes)
        return f"{rate}, {read} read, {written} written"

    def _give_out(self, stage: Stage, ranges: Ranges) -> None:
        """Give ranges to workers until all are done; after a cancel, wait for what they began."""
        running: dict[Any, tuple[str, list[Region]]] = {}
        stopped = False
        try:
            while running or (len(ranges) and not self._stop.is_set()):
                if self._stop.is_set() and not stopped:
                    stopped = True
                    self._cluster.stop(self._run_id)
                workers = self._wait.workers(stage.title)
                ranges.look_at(self.view)
                while len(ranges) and not self._stop.is_set() and len(running) < AHEAD * workers:
                    name, tiles = self._new_part(), ranges.pop(workers)
                    running[self._submit(name, tiles, stage)] = name, tiles
                for future in self._wait.ended(running):
                    name, tiles = running.pop(future)
                    try:
                        report = self._report_of(future, tiles)
                    except WorkersLost as error:
                        ranges.put_back(self._left_of(name, tiles, stage, error))
                        continue
                    future.release()
                    if report is not None:
                        ranges.measured(report.computed, report.seconds)
                        self._take(report, stage)
        except BaseException:
            self._stop.set()
            raise

    def _left_of(
        self, name: str, tiles: list[Region], stage: Stage, error: WorkersLost
    ) -> list[Region]:
        """Return the tiles of a range that several lost workers have left over.

        Raises `error` where its first tile was left over before: it may be what ends them.
        """
        lines = stage.read_part(name)
        self._enter(lines, stage)
        finished = {Region(*line["region"]) for line in lines}
        left = [tile for tile in tiles if tile not in finished]
        if left and left[0] in self._left_over:
            raise error
        self._left_over.update(left[:1])
        return left

    def _new_part(self) -> str:
        name = f"{self._run_id}-{self._number}.jsonl"
        self._number += 1
        self.parts.append(name)
        return name

    def _submit(self, name: str, tiles: list[Region], stage: Stage) -> Any:
        return self._cluster.client.submit(
            self._cluster.work.run,
            self._task,
            self._run_id,
            name,
            [list(tile) for tile in tiles],
            stage.step,
            key=f"napari-restore-{name}",
            pure=False,
        )

    def _report_of(self, future: Any, tiles: list[Region]) -> RangeReport | None:
        """Return the report of a range; None where a cancel was first."""
        if self._stop.is_set() and future.status in ("cancelled", "lost"):
            return None
        report: RangeReport = self._cluster.result(future, f"the tile {tuple(tiles[0])}")
        return report

    def _take(self, report: RangeReport, stage: Stage) -> None:
        self._enter(report.lines, stage)
        self.backoffs += report.backoffs
        self.read_bytes += report.read_bytes
        self.written_bytes += report.written_bytes
        # A worker forgets its own where it computes for another run meanwhile.
        before = self.added_bytes.get(report.process, 0)
        self.added_bytes[report.process] = max(before, report.added_bytes)
        error, largest = report.rounding
        self.rounding = max(self.rounding[0], error), max(self.rounding[1], largest)

    def _enter(self, lines: list[Line], stage: Stage) -> None:
        stage.enter(lines)
        for line in lines:
            self._see(Region(*line["region"]), stage)

    def _see(self, tile: Region, stage: Stage) -> None:
        with self._seeing:
            if tile in self._seen:
                return
            self._seen.add(tile)
        stage.finished(tile)

    @contextlib.contextmanager
    def _tile_messages(self, stage: Stage) -> Iterator[None]:
        """Show tiles as workers finish them, before their ranges are done."""
        number = None if stage.step is None else stage.step["number"]

        def show(event: tuple[float, dict[str, Any]]) -> None:
            # Messages of the stage before may come late.
            if event[1]["step"] == number:
                self._see(Region(*event[1]["region"]), stage)

        client, topic = self._cluster.client, topic_of(self._run_id)
        client.subscribe_topic(topic, show)
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                client.unsubscribe_topic(topic)


def topic_of(run: str) -> str:
    """Return the topic of dask's events on finished tiles of a run."""
    return f"napari-restore-{run}"
