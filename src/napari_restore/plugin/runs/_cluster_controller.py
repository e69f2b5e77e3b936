"""Connects a viewer to a cluster whose workers then compute its runs, and disconnects it."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import QObject, QTimer

from napari_restore.errors import ResourceError, RestoreError
from napari_restore.plugin.state._connected_cluster import (
    ConnectedCluster,
    Workers,
    connected,
    workers_of,
)
from napari_restore.plugin.tasks._background import in_background

if TYPE_CHECKING:
    from napari_restore.engine import Cluster
    from napari_restore.plugin.state._state import RestoreState

LOOK_MS = 3000
"""How often the workers are counted."""


class ClusterController(QObject):
    """Writes `state.cluster`; connecting, counting workers and leaving happen on other threads."""

    connecting = Signal(str)
    """A connection to the cluster of this name is being made."""
    connected = Signal(object, object)
    """There is a connection, or its workers were counted: `ConnectedCluster` and `Workers`."""
    disconnected = Signal(object)
    """There is no connection any more; the `RestoreError` that says why, or None after a wish."""

    def __init__(self, state: RestoreState, parent: QObject) -> None:
        super().__init__(parent)
        self._state = state
        self._held = _Held()
        self._attempt: _Attempt | None = None
        self._is_looking = False
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_MS)
        self._timer.timeout.connect(self.look)
        # Closing the window destroys its widgets without closing them.
        parent.destroyed.connect(self._held.release)

    def connect_to(self, name: str) -> None:
        """Connect to the cluster `name`, as `napari_restore.connect` takes it."""
        if self._attempt is None and self._state.cluster is None:
            self._attempt = self._held.attempt = _Attempt(name)
            self.connecting.emit(name)
            in_background(self._attempt.connect, self._on_answer, self._attempt)

    def disconnect_now(self) -> None:
        """Leave the cluster, or give up connecting."""
        self._leave(None)

    def look(self) -> None:
        """Count the workers, and leave a cluster whose scheduler is gone."""
        cluster = self._state.cluster
        if cluster is not None and not self._is_looking:
            self._is_looking = True
            in_background(partial(workers_of, cluster.cluster), self._on_counted, cluster)

    def close(self) -> None:
        """Leave the cluster without a report: the panel is closed."""
        self._timer.stop()
        self._state.cluster = self._attempt = None
        self._held.release()

    def _on_answer(
        self, attempt: _Attempt, answer: tuple[ConnectedCluster, Workers] | RestoreError
    ) -> None:
        if attempt is not self._attempt:
            # It was given up, and has closed what it connected to.
            return
        self._attempt = self._held.attempt = None
        if isinstance(answer, RestoreError):
            self.disconnected.emit(answer)
            return
        cluster, workers = answer
        self._held.cluster = cluster.cluster
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
            self._leave(
                ResourceError(
                    f"The scheduler of {cluster.name} is gone.",
                    "Connect again, or run on this machine.",
                )
            )

    def _leave(self, error: RestoreError | None) -> None:
        self._timer.stop()
        self._attempt = None
        self._held.release()
        self._state.cluster = None
        self.disconnected.emit(error)


class _Held:
    """The connection and the attempt at one of a viewer; outlives its widgets."""

    def __init__(self) -> None:
        self.cluster: Cluster | None = None
        self.attempt: _Attempt | None = None

    def release(self) -> None:
        """Close what there is, on a thread: a scheduler that is gone is waited for."""
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            attempt.give_up()
        cluster, self.cluster = self.cluster, None
        if cluster is not None:
            threading.Thread(target=cluster.close, name="napari-restore leaves a cluster").start()


class _Attempt:
    """One connection being made on a thread, which closes it where nobody wants it any more."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._given_up = False
        self._made: Cluster | None = None

    def connect(self) -> tuple[ConnectedCluster, Workers] | RestoreError:
        """Connect; called on the thread."""
        answer = connected(self._name)
        if isinstance(answer, RestoreError):
            return answer
        workers = workers_of(answer.cluster)
        with self._lock:
            self._made = answer.cluster
            unwanted = self._given_up
        if unwanted:
            answer.cluster.close()
        return answer, workers

    def give_up(self) -> None:
        """Close the connection, when it is made."""
        with self._lock:
            self._given_up = True
            made = self._made
        if made is not None:
            threading.Thread(target=made.close, name="napari-restore leaves a cluster").start()
