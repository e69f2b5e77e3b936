"""Runs of the window on a cluster: connecting, running, losing it, going on without it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager
from points import patience

import napari_restore as nr
from napari_restore.api import cluster_worker
from napari_restore.engine import RangeRun, TileDone
from napari_restore.errors import BadParameter, ResourceError
from napari_restore.plugin.runs.run_controller import RunController
from napari_restore.plugin.state.request import TargetChoice

distributed = pytest.importorskip("distributed")
pytestmark = [pytest.mark.viewer, pytest.mark.slow]


@pytest.fixture
def scheduler() -> Iterator[Any]:
    """A real scheduler with one worker, on threads of this process."""
    own = distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address=":0",
        protocol="tcp",
    )
    yield own
    is_lost = own.scheduler.status is distributed.Status.closed
    with contextlib.suppress(TimeoutError):
        # It would wait for workers of which a lost scheduler knows nothing.
        own.close(timeout=1 if is_lost else patience())
    if cluster_worker._run is not None:
        # What a lost worker has would go with its process.
        cluster_worker.stop(cluster_worker._run[0])
    # What has not closed in time warns when it is collected, in whatever test that is.
    own.status = distributed.Status.closed


@pytest.fixture
def scene(panel: Any, tmp_path: Path, colours: np.ndarray) -> np.ndarray:
    """Twelve tiles, opened in the window; *Unchanged* restores all of them."""
    path = tmp_path / "scene.tif"
    tifffile.imwrite(path, colours, photometric="rgb", tile=(512, 512))
    panel.viewer.open(path, plugin="napari-restore")
    panel.models.choose("identity")
    panel.target.choose(TargetChoice.WHOLE)
    panel.state.set_options(tile=512)
    return colours


def connect(panel: Any, qtbot: Any, name: str) -> None:
    shown = panel.advanced.cluster
    shown.button.setChecked(True)
    shown.name.setText(name)
    shown.connection.click()
    qtbot.waitUntil(lambda: panel.state.cluster is not None)


def disconnect(panel: Any) -> None:
    panel.advanced.cluster.connection.click()
    assert panel.state.cluster is None


@pytest.mark.nightly
def test_workers_compute_what_the_window_shows(
    panel: Any, scene: np.ndarray, scheduler: Any, qtbot: Any, finished_run: Any
) -> None:
    connect(panel, qtbot, f"insecure+{scheduler.scheduler_address}")
    assert "1 worker, 1 thread" in panel.advanced.cluster.line.text()
    on_cluster = finished_run()
    assert len(on_cluster.record["measured"]["workers"]) == 1
    np.testing.assert_array_equal(np.asarray(on_cluster.layer.data[0])[..., :3], scene)
    result = on_cluster.layer.metadata["napari_restore_result"]
    np.testing.assert_array_equal(result.array, scene)
    disconnect(panel)
    assert panel.advanced.cluster.connection.text() == "Connect"
    # What the workers have made is not made again.
    assert finished_run() is on_cluster


@pytest.mark.nightly
def test_tiles_on_the_screen_come_first(
    panel: Any, scene: np.ndarray, scheduler: Any, qtbot: Any, finished_run: Any
) -> None:
    viewer = panel.viewer
    viewer.scene.camera.center = (0, 1200, 1600)
    viewer.scene.camera.zoom *= 16
    connect(panel, qtbot, f"insecure+{scheduler.scheduler_address}")
    found: list[Any] = []

    def watch() -> None:
        panel.runs.running.happened.connect(
            lambda step, event: found.append(event.region) if isinstance(event, TileDone) else None
        )

    panel.runs.started.connect(watch)
    finished_run()
    assert (found[0].y0, found[0].x0) == (1024, 1536)


def test_a_cluster_that_is_not_there(
    panel: Any, qtbot: Any, scheduler_patience: Callable[[float], None]
) -> None:
    scheduler_patience(0.2)
    shown = panel.advanced.cluster
    shown.button.click()
    shown.name.setText("insecure+tcp://127.0.0.1:9")
    shown.connection.click()
    qtbot.waitUntil(lambda: shown.connection.text() == "Connect")
    assert shown.line.text() == (
        "There is no scheduler at tcp://127.0.0.1:9. Start one with dask scheduler."
    )
    assert panel.state.cluster is None


def test_a_connection_that_was_given_up_is_closed(
    panel: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, go, closed = threading.Event(), threading.Event(), threading.Event()

    class Fake:
        threads = threads_now = staticmethod(lambda: {"a": 1})
        check_versions = staticmethod(lambda: None)
        default_memory = staticmethod(lambda: 2**30)
        dashboard, is_lost = None, False
        close = staticmethod(closed.set)

    def connect_late(name: str) -> Any:
        made.set()
        go.wait(patience())
        return Fake

    monkeypatch.setattr(nr, "connect", connect_late)
    shown = panel.advanced.cluster
    shown.name.setText("local:2")
    shown.connection.click()
    qtbot.waitUntil(made.is_set)
    shown.connection.click()
    assert shown.connection.text() == "Connect"
    go.set()
    qtbot.waitUntil(closed.is_set)
    assert panel.state.cluster is None


def test_what_a_cluster_cannot_run_says_so(
    panel: Any, colours: np.ndarray, scheduler: Any, qtbot: Any, finished_run: Any
) -> None:
    panel.viewer.add_image(colours, name="in memory")
    panel.models.choose("identity")
    connect(panel, qtbot, f"insecure+{scheduler.scheduler_address}")
    error = finished_run("failed")
    assert isinstance(error, BadParameter)
    assert panel.bar.message.text().startswith("Image and model must be files for a cluster.")
    assert panel.state.cluster is not None
    disconnect(panel)
    assert finished_run().record["status"] == "done"


def test_other_tabs_say_that_they_stay_on_this_machine(
    panel: Any, scheduler: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(panel, qtbot, f"insecure+{scheduler.scheduler_address}")
    monkeypatch.setattr(RunController, "_begin", lambda self, task: task)
    panel.runs.begin(object, "Attention is")
    panel.runs.begin(object, "Attention is")
    notes = [note.message for note in notification_manager.records]
    assert notes.count("Attention is computed on this machine, not on the cluster.") == 1


def test_a_run_whose_scheduler_is_lost_goes_on_without_it(
    panel: Any,
    scene: np.ndarray,
    scheduler: Any,
    qtbot: Any,
    finished_run: Any,
    monkeypatch: pytest.MonkeyPatch,
    scheduler_patience: Callable[[float], None],
) -> None:
    scheduler_patience(1.0)
    connect(panel, qtbot, f"insecure+{scheduler.scheduler_address}")
    gone = threading.Event()
    restore = RangeRun.restore
    calls: list[str] = []

    def until_it_is_gone(self: RangeRun, name: str, *arguments: Any) -> Any:
        calls.append(name)
        if len(calls) > 1:
            gone.wait(patience())
        return restore(self, name, *arguments)

    def lose(step: Any, event: Any) -> None:
        if isinstance(event, TileDone) and not lost:
            lost.append(event.region)
            threading.Thread(target=end).start()

    def end() -> None:
        scheduler.sync(scheduler.scheduler.close)
        gone.set()

    lost: list[Any] = []
    monkeypatch.setattr(RangeRun, "restore", until_it_is_gone)
    panel.runs.started.connect(lambda: panel.runs.running.happened.connect(lose))
    error = finished_run("failed")
    assert isinstance(error, ResourceError)
    assert panel.bar.message.text().startswith("The scheduler of the cluster is gone;")
    # Nobody has to press Disconnect.
    qtbot.waitUntil(lambda: panel.state.cluster is None)
    assert "is gone. Connect again, or run on this machine." in panel.advanced.cluster.line.text()
    # Nor does the reason go with the cluster.
    assert panel.bar.message.text().startswith("The scheduler of the cluster is gone;")
    result = finished_run()
    assert result.record["measured"]["tiles_resumed"] >= 1
    np.testing.assert_array_equal(np.asarray(result.layer.data[0])[..., :3], scene)
