"""`--cluster` on the command line."""

from __future__ import annotations

import csv
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import napari_restore as nr
from napari_restore.engine import Progress, topic_of

from ._scenes import hazy, write_tiff

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def address():
    """A scheduler with two workers on threads of this process."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="tcp"
    ) as cluster:
        yield f"insecure+{cluster.scheduler_address}"


@pytest.mark.slow
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
        ("insecure+tcp://127.0.0.1:9", "There is no scheduler"),
        ("tcp://127.0.0.1:9", "can run programs as you"),
        ("tls://127.0.0.1:9", "are not set"),
        ("nowhere.json", "There is no scheduler file"),
        ("nowhere", "is no cluster"),
    ],
)
def test_no_cluster_there(cli, tmp_path, where, message, scheduler_patience):
    scheduler_patience(0.2)
    scene = write_tiff(tmp_path / "scene.tif", hazy())
    run = cli("restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--cluster", where)
    assert run.code == 2 and message in run.err
    assert not (tmp_path / "o.tif").exists()


@pytest.mark.nightly
def test_a_model_of_sweeps_runs_on_it(cli, sample, tmp_path, address):
    words = ("restore", sample, "--model", "inf-dehaze-small", "--srcwin", 0, 0, 300, 300)
    words = (*words, "--extent", "region")
    assert cli(*words, "-o", tmp_path / "alone.tif").code == 0
    run = cli(*words, "-o", tmp_path / "spread.tif", "--cluster", address)
    assert run.code == 0 and "Workers write" in run.err
    assert (tmp_path / "alone.tif").read_bytes() == (tmp_path / "spread.tif").read_bytes()


def without_times(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_table_equals_that_without_a_cluster(cli, tmp_path, address):
    scene = write_tiff(tmp_path / "scene.tif", hazy(200, 300))
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("x,y,width,height\n10,20,16,16\n900,900,9,9\n60,50,20,30\n")
    words = ("attribute", scene, "--boxes", boxes, "--model", "dcp", "--steps", 1)
    assert cli(*words, "-o", tmp_path / "alone.csv").code == 2
    run = cli(*words, "-o", tmp_path / "spread.csv", "--cluster", address)
    assert run.code == 2 and "lies outside" in run.err
    assert without_times(tmp_path / "alone.csv") == without_times(tmp_path / "spread.csv")


def test_one_map_is_refused(cli, sample, tmp_path, address):
    words = ("attribute", sample, "--box", 10, 10, 9, 9, "--model", "dcp", "-o", tmp_path / "o.tif")
    run = cli(*words, "--cluster", address)
    assert run.code == 2 and "Leave --cluster out, or name several boxes" in run.err


@pytest.mark.slow
@pytest.mark.nightly
def test_a_worker_that_is_killed_costs_its_row_only(tmp_path, points):
    """Real processes, one of which is killed when each has a row, after the first rows."""
    scene = write_tiff(tmp_path / "scene.tif", hazy(400, 500))
    boxes = [nr.Region.from_xywh(10 + 40 * n, 20, 32, 32) for n in range(8)]
    options = {"steps": 3, "memory": "1GiB", "device": "cpu"}
    alone = nr.attribute_table(scene, ["haze-unet"], boxes, **options)
    points.hold("item begins", after=2)
    with nr.connect("local:2") as cluster, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(
            nr.attribute_table, scene, ["haze-unet"], boxes, cluster=cluster, **options
        )
        other = points.wait("item begins", 1)
        victim = points.wait("item begins", 2)
        assert victim != other
        os.kill(victim, signal.SIGKILL)
        points.go("item begins")
        spread = asked.result()
        story = cluster.client.run_on_scheduler(given_out)
    assert sum(story.values()) - len(story) == 1
    alone, spread = ([{**row, "seconds": 0} for row in table.rows] for table in (alone, spread))
    assert alone == spread


def given_out(dask_scheduler):
    """Return how often each row was given to a worker."""
    return Counter(
        str(key)
        for key, _, finish, *_ in dask_scheduler.transition_log
        if finish == "processing" and "napari-restore" in str(key)
    )


@pytest.mark.nightly
def test_workers_that_are_killed_cost_their_tile_only(tmp_path, points):
    """Real processes, one of which is killed when each has stored a tile."""
    scene = write_tiff(tmp_path / "scene.tif", hazy(2048, 2048))
    image, model = nr.open_image(scene), nr.load_model("haze-unet")
    options = {"shared": True, "tile": 512, "workers": 1, "memory": "1GiB"}
    alone = nr.start(nr.plan(image, model, scratch=tmp_path / "a", **options)).result()
    points.hold("tile stored")
    with nr.connect("local:2") as cluster:
        plan = nr.plan(image, model, scratch=tmp_path / "b", **options)
        job = nr.start(plan, cluster=cluster)
        topic = topic_of(job.executor.dispatcher.run_id)
        other = points.wait("tile stored", 1)
        victim = points.wait("tile stored", 2)
        assert victim != other
        # Their reports of these tiles are on their way.
        for event in job:
            if isinstance(event, Progress) and event.done == 2:
                break
        os.kill(victim, signal.SIGKILL)
        points.go("tile stored")
        result = job.result()
        finished = [tuple(event["region"]) for _, event in cluster.client.get_events(topic)]
        assert len(finished) == len(set(finished)) == plan.layout.tiles
        assert (result.store.array()[:] == alone.store.array()[:]).all()
