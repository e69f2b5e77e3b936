"""Connection to a cluster whose workers compute the tiles of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_restore.engine import Cluster, Plan


def connect(cluster: Any) -> Cluster:
    """Return a connection for `start`: a context manager, or `close` it.

    `cluster` is ``"local:N"`` for N processes on this machine, ``"tcp://HOST:PORT"`` of a
    scheduler, the .json file that a scheduler writes, or a `distributed.Client`, which stays open. Plan for it with
    ``shared=True`` and, where workers are on other machines, a `scratch` folder that all of them
    see. Raises `BadParameter` where there is no scheduler, or dask.distributed is not installed.
    """
    from napari_restore.api import cluster_worker
    from napari_restore.engine import Cluster, RemoteWork

    work = RemoteWork(
        cluster_worker.check,
        cluster_worker.restore_range,
        cluster_worker.stop,
        cluster_worker.count_blocks,
    )
    if isinstance(cluster, Cluster):
        return cluster
    if isinstance(cluster, str):
        return Cluster.connect(cluster, work)
    return Cluster(cluster, work, lent=True)


@contextmanager
def connected(cluster: Any) -> Iterator[Cluster]:
    """Connect as `connect`, and leave a cluster that was named by its address afterwards."""
    connection = connect(cluster)
    try:
        yield connection
    finally:
        if isinstance(cluster, str):
            connection.close()


def cluster_task(plan: Plan) -> dict[str, Any]:
    """Return the task that workers run; raises `BadParameter` for what exists only in memory."""
    from napari_restore.api._tasks import serialised_task
    from napari_restore.errors import BadParameter

    task = serialised_task(plan)
    if task is None:
        raise BadParameter(
            "Image and model must be files for a cluster.", "Save the image and open the file."
        )
    return task
