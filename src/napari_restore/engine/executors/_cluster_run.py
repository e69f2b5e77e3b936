"""Runs whose tiles are computed by the workers of a cluster."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from napari_restore.engine._region import Region
from napari_restore.engine.executors._connection import Cluster
from napari_restore.engine.executors._dispatcher import AHEAD, Dispatcher, Line, Stage
from napari_restore.engine.executors._prepared_file import write_prepared
from napari_restore.engine.executors._ranges import in_whole_chunks
from napari_restore.engine.executors._waiting import POLL
from napari_restore.engine.ledger._folder import Lease
from napari_restore.engine.ledger._shared_slabs import KeptSlabs
from napari_restore.engine.ledger._store import ResultStore
from napari_restore.engine.ledger._store_files import CHUNK, SHARED, STAGED
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.running._counts import CountStore
from napari_restore.engine.running._events import Note, Phase, TileDone
from napari_restore.engine.running._local_run import RESTORING, LocalRun
from napari_restore.engine.running._prepared import Prepared
from napari_restore.engine.running._run import Emit, Run
from napari_restore.engine.running._steps_run import SweptRun
from napari_restore.engine.running._sweep_work import SweepWork
from napari_restore.engine.running._tile import TileWork
from napari_restore.engine.running._tokens import TokenStore
from napari_restore.engine.statistics._context import Counter
from napari_restore.engine.statistics._context_blocks import ContextBlocks
from napari_restore.errors import BadParameter, Cancelled, ResourceError, option
from napari_restore.models import BlockStatistics, Statistics

BLOCKS = 4
"""Blocks of the whole image that are counted by a worker at a time."""


class OnCluster(Run):
    """A run on a cluster.

    Workers get ranges of tiles, read the image and write to the store themselves, and return
    entries of its journals. This process computes what all tiles share and keeps the journals.
    What was finished when this process ends is known to the next.
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
        super().__init__(plan, emit, stop, wait=True)
        self._cluster, self._task = cluster, task
        self._lease: Lease | None = None
        self._lease_lost = False
        self._dispatcher = Dispatcher(cluster, task, emit, self.stop)

    def prioritise(self, region: Region) -> None:
        """Hand out the tiles that `region` touches first."""
        self._dispatcher.view = region

    def run(self) -> dict[str, Any]:
        """Run to the end; return the record."""
        try:
            return super().run()
        except Cancelled as error:
            if self._lease_lost:
                raise ResourceError(
                    "Another machine has taken over this run.",
                    "Wait until it is done; finished tiles are kept.",
                ) from error
            raise
        finally:
            if self._lease is not None:
                self._lease.release()

    def _open_store(self) -> ResultStore:
        store = super()._open_store()
        self._lease = Lease(store.path, self._stop_without_lease)
        return store

    def _stop_without_lease(self) -> None:
        self._lease_lost = True
        self.stop.set()

    def _with_settled(self, prepared: Prepared) -> Prepared:
        self._prepared = super()._with_settled(prepared)
        return self._prepared

    # -- statistics of the whole image -----------------------------------------------

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

    # -- tiles -----------------------------------------------------------------------

    def _restore(self, work: TileWork) -> None:
        assert self.store is not None
        self.store.lacks_levels = self.plan.pyramid
        for note in self._cluster.check(self._task):
            self.emit(Note(note))
        if dashboard := self._cluster.dashboard:
            self.emit(Note(f"dask shows the cluster at {dashboard}"))
        try:
            self._restore_on_workers(work)
        finally:
            # Also what workers keep of this run is freed by that.
            self._dispatcher.end()
            self._totals.backoffs += self._dispatcher.backoffs
            with contextlib.suppress(OSError):
                (self.store.path / SHARED).unlink()
        # Until now: dask computes a range again whose worker is lost before its report is forgotten.
        for name in self._dispatcher.parts:
            for within in ("", STAGED):
                self.store.remove_part(name, within)

    def _restore_on_workers(self, work: TileWork) -> None:
        """Let workers write the tiles that are not finished yet."""
        raise NotImplementedError

    def _share(self, settled: Statistics) -> None:
        """Write what all tiles share for the workers, with what sweeps have settled."""
        assert self.store is not None
        statistics = {k: v.detach().cpu() for k, v in settled.items()}
        shared = replace(self._prepared, statistics={**self._prepared.statistics, **statistics})
        write_prepared(self.store.path / SHARED, shared)

    def _dispatch(
        self, title: str, total: int, pending: list[Region], step: dict[str, Any] | None = None
    ) -> None:
        """Let workers restore the tiles that are `pending` of `total`."""
        assert self.store is not None
        store, totals = self.store, self._totals
        progress, done = self._progress(totals.resumed), totals.resumed
        progress(done, total)

        def enter(lines: list[Line]) -> None:
            for region in store.add(lines):
                totals.tiles += 1
                totals.pixels += region.pixels
                if self.plan.pyramid and not self.stop.is_set():
                    # Now and not at the end: a window shows them, and the workers compute meanwhile.
                    self._make_levels(region)
                self.emit(TileDone(region))

        def finished(tile: Region) -> None:
            nonlocal done
            done += 1
            progress(min(done, total), total)

        self._dispatcher.run(
            Stage(title, pending, self.plan.layout.tile, step, store.part, enter, finished)
        )

    def _detail(self, done: int, seconds: float) -> str:
        return self._dispatcher.detail(done, seconds)

    def _measured(self) -> dict[str, Any]:
        added = self._dispatcher.added_bytes.items()
        return {
            **super()._measured(),
            "workers": {name: {"added_ram_bytes": size} for name, size in added},
        }


class ClusterRun(OnCluster, LocalRun):
    """A plan on a cluster whose tiles are each restored by themselves."""

    def _restore_on_workers(self, work: TileWork) -> None:
        self._share({})
        tiles, pending = self._tiles()
        self._checked(work, pending)
        self.emit(Phase(RESTORING))
        self._dispatch(RESTORING, len(tiles), pending)


class SweptClusterRun(OnCluster, SweptRun):
    """A plan of sweeps on a cluster: each is a stage, the next begins when all its tiles are done.

    Maps and counts lie in the store that all workers see. What counts settle, and the step that
    takes a map as a whole, are computed by this process.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open_slab = self._slabs = KeptSlabs()

    def _restore_on_workers(self, work: TileWork) -> None:
        SweptRun._restore(self, work)

    def _sweep_tiles(
        self,
        work: SweepWork,
        number: int,
        tokens: TokenStore | None,
        counts: CountStore | None,
        cores: list[Region],
        report: Callable[[], None],
    ) -> None:
        assert self.store is not None
        store = self.store
        self._share(work.tile.statistics)

        def enter(lines: list[Line]) -> None:
            for line in lines:
                self._slabs.enter(line["records"])

        title = self._title(work.steps[number], number, len(work.steps))
        step = {"number": number, "counting": counts is not None}
        self._dispatcher.run(
            Stage(
                title,
                cores,
                work.grid.tile,
                step,
                lambda name: store.part(name, STAGED),
                enter,
                lambda tile: report(),
            )
        )

    def _decode_tiles(
        self,
        work: SweepWork,
        number: int,
        tokens: TokenStore | None,
        total: int,
        pending: list[Region],
    ) -> None:
        self._share(work.tile.statistics)
        title = self._title(work.steps[number], number, len(work.steps))
        tiles = in_whole_chunks(pending, self._target_tiles(), work.grid.tile)
        self._dispatch(title, total, tiles, {"number": number, "counting": False})

    def _measured(self) -> dict[str, Any]:
        if self._rounding is not None:
            self._rounding.add(*self._dispatcher.rounding)
        return super()._measured()


def cluster_run(
    plan: Plan,
    task: Mapping[str, Any],
    cluster: Cluster,
    emit: Emit,
    stop: threading.Event | None = None,
) -> OnCluster:
    """Return the run on `cluster` for the scope of the plan's model."""
    kind = ClusterRun if plan.staged is None else SweptClusterRun
    return kind(plan, task, cluster, emit, stop)


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
