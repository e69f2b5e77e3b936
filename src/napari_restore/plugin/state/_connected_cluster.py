"""A cluster that a viewer is connected to; how it is connected, on a thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import napari_restore as nr
from napari_restore.errors import RestoreError
from napari_restore.plugin.tasks._main_thread import log_failure

if TYPE_CHECKING:
    from napari_restore.engine import Cluster
    from napari_restore.questions import RestoreKeywords


@dataclass(frozen=True, eq=False)
class ConnectedCluster:
    """A connection to the workers that compute the runs of a viewer."""

    cluster: Cluster
    name: str
    """As the user has given it."""
    threads: int
    """Threads of the worker that has the fewest."""
    memory: int
    """Bytes that a run may add to each worker where the user sets none."""
    dashboard: str | None

    def options(self, memory: int | str | None) -> RestoreKeywords:
        """Return the options of a plan for its workers; `memory` is what the user has set, or None."""
        return {"shared": True, "workers": self.threads, "memory": memory or self.memory}


@dataclass(frozen=True)
class Workers:
    """The workers of a cluster at a moment."""

    count: int
    threads: int
    """Of all of them together."""
    is_lost: bool
    """Whether the scheduler is gone."""


def connected(name: str) -> ConnectedCluster | RestoreError:
    """Return the connection to the cluster `name`, or why there is none; takes seconds."""
    cluster = None
    try:
        cluster = nr.connect(name)
        # Waits for the first one.
        threads = cluster.threads()
        # Now and not before the first tile: that takes as long as loading the libraries.
        cluster.check_versions()
        return ConnectedCluster(
            cluster, name, min(threads.values()), cluster.default_memory(), cluster.dashboard
        )
    except Exception as error:
        if cluster is not None:
            cluster.close()
        if isinstance(error, RestoreError):
            return error
        log_failure("no connection to a cluster")
        return RestoreError(
            f"The connection failed: {error!r}.", "This is a bug; please report it."
        )


def workers_of(cluster: Cluster) -> Workers:
    """Return the workers at the moment; not in the GUI thread, as it asks the scheduler."""
    threads = cluster.threads_now()
    return Workers(len(threads), sum(threads.values()), cluster.is_lost)
