"""A run whose tiles are computed by the workers of a cluster."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from napari_restore.engine._region import Region
from napari_restore.engine.cluster._connection import Cluster, named
from napari_restore.engine.cluster._prepared_file import write_prepared
from napari_restore.engine.cluster._range_run import RangeReport
from napari_restore.engine.cluster._ranges import Ranges
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.running._events import Note, Phase, TileDone
from napari_restore.engine.running._local_run import LocalRun
from napari_restore.engine.running._run import Emit
from napari_restore.engine.running._tile import TileWork
from napari_restore.engine.statistics._prepared import Prepared
from napari_restore.engine.storage._store import CHUNK, SHARED
from napari_restore.errors import BadParameter, ResourceError, RestoreError, option

AHEAD = 2
"""Ranges that a worker has at once: one that it computes, and the next."""
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
    ) -> None:
        _check(plan)
        super().__init__(plan, emit, stop)
        self._cluster, self._task = cluster, task
        self._run_id = uuid.uuid4().hex[:12]
        self._added: dict[str, int] = {}
        self._lost = 0
        self._finished: set[Region] = set()

    def _work(self, prepared: Prepared) -> TileWork:
        self._prepared = prepared
        return super()._work(prepared)

    def _restore(self, work: TileWork) -> None:
        assert self.store is not None
        write_prepared(self.store.path / SHARED, self._prepared)
        self.store.lacks_levels = self.plan.pyramid
        tiles, pending = self._tiles()
        for note in self._cluster.check(self._task):
            self.emit(Note(note))
        if dashboard := self._cluster.dashboard:
            self.emit(Note(f"dask shows the cluster at {dashboard}"))
        self.emit(Phase("Restoring"))
        self._finished = set(tiles) - set(pending)
        self._show = self._progress(len(self._finished))
        self._total = len(tiles)
        self._show(len(self._finished), self._total)
        with self._tile_messages():
            self._give_out(Ranges(pending, self.plan.layout.tile))
        with contextlib.suppress(OSError):
            (self.store.path / SHARED).unlink()

    def _give_out(self, ranges: Ranges) -> None:
        """Give ranges to workers until all are done; after a cancel, wait for what they began."""
        running: dict[Any, list[Region]] = {}
        number, stopped = 0, False
        try:
            while running or (len(ranges) and not self.stop.is_set()):
                if self.stop.is_set() and not stopped:
                    stopped = True
                    self._stop_workers(running)
                workers = len(self._cluster.client.nthreads())
                while len(ranges) and not self.stop.is_set() and len(running) < AHEAD * workers:
                    tiles = ranges.pop(workers)
                    running[self._submit(number, tiles)] = tiles
                    number += 1
                for future in self._ended(running):
                    tiles = running.pop(future)
                    if (report := self._report_of(future, tiles)) is not None:
                        ranges.measured(report.computed, report.seconds)
        except BaseException:
            self.stop.set()
            with contextlib.suppress(Exception):
                self._stop_workers(running)
            raise

    def _submit(self, number: int, tiles: list[Region]) -> Any:
        name = f"{self._run_id}-{number}.jsonl"
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
        """Take the report of a range; None after a cancel. Raises what has stopped the worker."""
        from distributed import KilledWorker

        if future.status == "cancelled" or future.status == "lost":
            if self.stop.is_set():
                return None
            raise ResourceError(
                "The scheduler of the cluster is gone; finished tiles are kept.",
                "Start it again, then run the same command again.",
            )
        try:
            report: RangeReport = future.result()
        except KilledWorker as error:
            raise ResourceError(
                f"{1 + error.allowed_failures} workers were lost one after another at the tile {tuple(tiles[0])}.",
                f"If they ran out of memory, lower {option('memory')} or {option('tile')}; "
                "finished tiles are kept.",
            ) from error
        except RestoreError as error:
            raise named(error, self._machine_of(future)) from error
        except Exception as error:
            raise ResourceError(
                f"A worker failed: {error!r} (on {self._machine_of(future)}).",
                "See the log of that worker; finished tiles are kept.",
            ) from error
        self._take(report)
        return report

    def _take(self, report: RangeReport) -> None:
        assert self.store is not None
        for region in self.store.add(report.lines):
            self._totals.tiles += 1
            self._totals.pixels += region.pixels
            self.emit(TileDone(region))
            self._finished.add(region)
        self._totals.backoffs += report.backoffs
        self._added[report.process] = max(report.added_bytes, self._added.get(report.process, 0))
        self._show(len(self._finished), self._total)

    def _machine_of(self, future: Any) -> str:
        try:
            who = self._cluster.client.who_has([future])
            return ", ".join(address for found in who.values() for address in found) or "a worker"
        except Exception:
            return "a worker"

    def _stop_workers(self, running: Mapping[Any, Any]) -> None:
        """End what workers compute within a tile, and forget what they have not begun."""
        self._cluster.stop(self._run_id)

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
