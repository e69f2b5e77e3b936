"""A plan whose tiles the workers of a cluster compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_restore.engine._region import Region
from napari_restore.engine.executors._cluster_run import OnCluster, cluster_run
from napari_restore.engine.executors._connection import Cluster
from napari_restore.engine.planning._plan import Plan
from napari_restore.engine.running._events import Event, Finished, Stopped
from napari_restore.engine.running._job import Job
from napari_restore.engine.running._run import Run


class ClusterJob(Job):
    """A plan whose tiles the workers of a cluster compute; `task` is the plan as they read it.

    With `own`, the cluster is left when the run ends.
    """

    def __init__(
        self, plan: Plan, task: Mapping[str, Any], cluster: Cluster, *, own: bool = False
    ) -> None:
        self._task, self._cluster, self._own = task, cluster, own
        super().__init__(plan)

    def prioritise(self, region: Region) -> None:
        if isinstance(self._run, OnCluster):
            self._run.prioritise(region)

    def _new_run(self) -> Run:
        return cluster_run(self.plan, self._task, self._cluster, self._put, self._stop)

    def _put(self, event: Event | BaseException) -> None:
        if self._own and isinstance(event, (Finished, Stopped, BaseException)):
            self._cluster.close()
        super()._put(event)
