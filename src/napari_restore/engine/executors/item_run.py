"""Independent items, each computed by one worker of a cluster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from threading import Event as Stop
from typing import Any

from napari_restore.engine.executors.connection import Cluster, Handout, WorkersLost
from napari_restore.engine.running.events import Emit, Note, Phase, Progress
from napari_restore.errors import Cancelled

Item = tuple[int, Any]
"""Number of an item, and what the workers' function is given of it."""


@dataclass(frozen=True)
class Remote:
    """Functions of a module that workers call for items."""

    check: Callable[[dict[str, Any]], None]
    """Raises where the worker cannot read what a task names."""
    compute: Callable[[dict[str, Any], str, Any], Any]
    """Is given the task, the id of the run and an item; returns what the client wants of it."""


class ItemRun:
    """Items of one task on a cluster; what a lost worker had is computed by another one."""

    # A worker has one item at a time, as items may take minutes.
    def __init__(
        self,
        cluster: Cluster,
        remote: Remote,
        task: Mapping[str, Any],
        phase: str,
        emit: Emit,
        stop: Stop,
    ) -> None:
        self._cluster, self._remote, self._task = cluster, remote, task
        self._phase, self._emit, self._stop = phase, emit, stop
        self._source: Iterator[Item] = iter(())
        self._waiting: deque[Item] = deque()
        self._handed: Handout[Item] = Handout(cluster, emit, stop)

    def check(self, seen: Mapping[str, Any]) -> None:
        """Raise what keeps a worker from the task; `seen` is what it must see."""
        for note in self._cluster.check(seen, self._remote.check):
            self._emit(Note(note))
        if dashboard := self._cluster.dashboard:
            self._emit(Note(f"dask shows the cluster at {dashboard}"))

    def results(self, items: Iterable[Item], total: int) -> Iterator[tuple[int, Any]]:
        """Yield number and result of each of `total` items, in any order; raises `Cancelled` after a cancel."""
        # The next item is taken when a worker is free.
        self._source, handed = iter(items), self._handed
        began, done = time.monotonic(), 0
        self._emit(Phase(self._phase))
        self._emit(Progress(0, total))
        try:
            while handed.running or self._is_left():
                while self._is_left() and len(handed.running) < handed.workers(self._phase):
                    item = self._waiting.popleft()
                    handed.give(item, self._remote.compute, self._task, handed.run_id, item[1])
                for item, found in handed.ended(lambda item: f"the item {item[0] + 1}"):
                    if isinstance(found, WorkersLost):
                        handed.leave_over(item[0], found)
                        self._waiting.append(item)
                        continue
                    done += 1
                    seconds = (time.monotonic() - began) / done * (total - done)
                    self._emit(Progress(done, total, seconds))
                    yield item[0], found
        finally:
            self._cluster.stop(handed.run_id)
        if done < total:
            raise Cancelled("The run was cancelled; what is finished is kept.")

    def _is_left(self) -> bool:
        """Return whether an item is waiting; none is after a cancel."""
        if self._stop.is_set():
            return False
        if not self._waiting:
            self._waiting.extend(islice(self._source, 1))
        return bool(self._waiting)
