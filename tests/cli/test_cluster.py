"""`--cluster` on the command line."""

from __future__ import annotations

import os
import signal

import pytest

import napari_restore as nr
from napari_restore.engine import Progress

from ._scenes import hazy, write_tiff

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def address():
    """A scheduler with two workers on threads of this process."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp"
    ) as cluster:
        yield cluster.scheduler_address


def test_a_file_equals_that_without_a_cluster(cli, tmp_path, address):
    scene = write_tiff(tmp_path / "scene.tif", hazy(700, 900))
    words = ("restore", scene, "--model", "dcp", "--tile", 512)
    assert cli(*words, "-o", tmp_path / "alone.tif").code == 0
    run = cli(*words, "-o", tmp_path / "spread.tif", "--cluster", address, "--json")
    assert run.code == 0, run.err
    assert run.json["measured"]["workers"]
    assert (tmp_path / "alone.tif").read_bytes() == (tmp_path / "spread.tif").read_bytes()


def test_a_folder_has_one_connection(cli, tmp_path, address, monkeypatch):
    connections = []
    connect = nr.api.connect
    monkeypatch.setattr(nr.api, "connect", lambda name: connections.append(name) or connect(name))
    for name in ("a.tif", "b.tif"):
        write_tiff(tmp_path / name, hazy())
    out = tmp_path / "out"
    words = ("restore", tmp_path / "a.tif", tmp_path / "b.tif", "-o", out, "--model", "identity")
    assert cli(*words, "--cluster", address).code == 0
    assert len(connections) == 1 and len(list(out.glob("*.tif"))) == 2


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("local:none", "names no number of processes"),
        ("tcp://127.0.0.1:9", "There is no scheduler"),
        ("nowhere.json", "There is no scheduler file"),
        ("nowhere", "is no cluster"),
    ],
)
def test_no_cluster_there(cli, tmp_path, monkeypatch, where, message):
    monkeypatch.setattr("napari_restore.engine.cluster._connection.PATIENCE", 0.2)
    scene = write_tiff(tmp_path / "scene.tif", hazy())
    run = cli("restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--cluster", where)
    assert run.code == 2 and message in run.err
    assert not (tmp_path / "o.tif").exists()


def test_a_model_of_sweeps_is_refused(cli, sample, tmp_path, address):
    words = ("restore", sample, "-o", tmp_path / "o.tif", "--model", "inf-dehaze-small")
    run = cli(*words, "--cluster", address)
    assert run.code == 2 and "one machine only. Leave --cluster out" in run.err


@pytest.mark.slow
def test_workers_that_are_killed_cost_their_tile_only(tmp_path):
    """Real processes, one of which is killed after the first tiles."""
    scene = write_tiff(tmp_path / "scene.tif", hazy(2048, 2048))
    image, model = nr.open_image(scene), nr.load_model("haze-unet")
    options = {"shared": True, "tile": 512, "workers": 1, "memory": "1GiB"}
    alone = nr.start(nr.plan(image, model, scratch=tmp_path / "a", **options)).result()
    with nr.connect("local:2") as cluster:
        plan = nr.plan(image, model, scratch=tmp_path / "b", **options)
        job = nr.start(plan, cluster=cluster)
        victim = next(iter(cluster.client.run(os.getpid).values()))
        for event in job:
            if isinstance(event, Progress) and event.done and victim:
                os.kill(victim, signal.SIGKILL)
                victim = None
        result = job.result()
        assert victim is None
        topic = f"napari-restore-{job._run._run_id}"
        finished = [tuple(box) for _, box in cluster.client.get_events(topic)]
        assert len(finished) == len(set(finished)) == plan.layout.tiles
        assert (result.store.array()[:] == alone.store.array()[:]).all()
