"""Connects a viewer to a cluster whose workers then compute its runs, and disconnects it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import psygnal
from qtpy.QtCore import QObject, QTimer

from napari_restore.errors import Cancelled, ResourceError, RestoreError
from napari_restore.plugin.state.request import ConnectedCluster, Workers, connected, workers_of
from napari_restore.plugin.tasks.task import Task, in_background

if TYPE_CHECKING:
    from napari_restore.engine import Cluster
    from napari_restore.plugin.state.state import RestoreState

LOOK_MS = 3000
"""How often the workers are counted."""


class ClusterController(QObject):
    """Writes `state.cluster`; connecting, counting workers and leaving happen on other threads."""

    connecting = psygnal.Signal(str)
    """A connection to the cluster of this name is being made."""
    connected = psygnal.Signal(object, object)
    """There is a connection, or its workers were counted: `ConnectedCluster` and `Workers`."""
    disconnected = psygnal.Signal(object)
    """There is no connection any more; the `RestoreError` that says why, or None after a wish."""

    def __init__(self, state: RestoreState, parent: QObject) -> None:
        super().__init__(parent)
        self._state = state
        self._attempt: _Connecting | None = None
        self._is_looking = False
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self.look)
        # Closing the window destroys its widgets without closing them.
        parent.destroyed.connect(partial(_close_of, state))

    def connect_to(self, name: str) -> None:
        """Connect to the cluster `name`, as `napari_restore.connect` takes it."""
        if self._attempt is None and self._state.cluster is None:
            self._attempt = _Connecting(name)
            self._attempt.ended.connect(self._on_answer)
            self.connecting.emit(name)
            self._attempt.start(self)

    def disconnect_now(self, error: RestoreError | None = None) -> None:
        """Leave the cluster, or give up connecting; `error` says why where it is no wish."""
        self.close()
        self.disconnected.emit(error)

    def look(self) -> None:
        """Count the workers, and leave a cluster whose scheduler is gone."""
        cluster = self._state.cluster
        if cluster is not None and not self._is_looking:
            self._is_looking = True
            in_background(partial(workers_of, cluster.cluster), self._on_counted, cluster)

    def close(self) -> None:
        """Leave the cluster without a report: the panel is closed."""
        self._timer.stop()
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.abandon()
        _close_of(self._state)
        self._state.cluster = None

    def _on_answer(self, status: str, answer: Any) -> None:
        self._attempt = None
        if status != "done":
            self.disconnected.emit(answer)
            return
        cluster, workers = answer
        self._state.cluster = cluster
        self.connected.emit(cluster, workers)
        self._timer.start()

    def _on_counted(self, cluster: ConnectedCluster, workers: Workers) -> None:
        self._is_looking = False
        if cluster is not self._state.cluster:
            return
        if not workers.is_lost:
            self.connected.emit(cluster, workers)
        elif not self._state.running:
            # A run ends by itself, with a sentence of its own.
            self.disconnect_now(
                ResourceError(
                    f"The scheduler of {cluster.name} is gone.",
                    "Connect again, or run on this machine.",
                )
            )


class _Connecting(Task):
    """One connection being made, which is closed where nobody wants it any more."""

    def __init__(self, name: str) -> None:
        super().__init__(failure="The connection failed")
        self._name = name

    def work(self) -> tuple[ConnectedCluster, Workers]:
        made = connected(self._name)
        workers = workers_of(made.cluster)
        if self.stop.is_set():
            made.cluster.close()
            raise Cancelled("Connecting was cancelled.")
        return made, workers

    def finish(self) -> None:
        """Close a connection that was made as it was given up."""
        if self._is_abandoned and self.outcome[0] == "done":
            _close(self.outcome[1][0].cluster)


def _close_of(state: RestoreState) -> None:
    if state.cluster is not None:
        _close(state.cluster.cluster)


def _close(cluster: Cluster) -> None:
    """Close a connection, on a thread: a scheduler that is gone is waited for."""
    Task(lambda _: cluster.close(), failure="The cluster was not left").start()
