"""Runs on a cluster: the same bytes, whatever is lost on the way."""

from __future__ import annotations

import errno
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from points import patience

import napari_restore as nr
from napari_restore.api import cluster_worker
from napari_restore.api._cluster import cluster_task
from napari_restore.engine import (
    Cluster,
    DaskExecutor,
    Progress,
    RangeRun,
    Region,
    ResultStore,
    Run,
    TileDone,
    compute_context,
)
from napari_restore.engine.executors.connection import WorkersLost
from napari_restore.engine.executors.ranges import MOST, Ranges
from napari_restore.engine.ledger.folder import Lease
from napari_restore.engine.masks.open_mask import open_exclude
from napari_restore.engine.statistics.context import find_context
from napari_restore.engine.statistics.context_blocks import ContextBlocks
from napari_restore.errors import BadParameter, Cancelled, DiskFull, ResourceError
from napari_restore.images import chunk_cache

distributed = pytest.importorskip("distributed")

AREA = "POLYGON ((500100 4999900, 500900 4999900, 500900 4998800, 500100 4998800, 500100 4999900))"


def planned(scene: Path, scratch: Path, model: Any = "dcp", **options: Any) -> Any:
    whole = {"shared": True, "tile": 128, "workers": 1, "memory": "1GiB", **options}
    return nr.plan(nr.open_image(scene), nr.load_model(model), scratch=scratch, **whole)


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("model", ["dcp", "atmosphere-aerial"])
@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
@pytest.mark.slow
@pytest.mark.ids("nightly", ".tif-dcp", ".tif-atmosphere-aerial", ".zarr-atmosphere-aerial")
def test_outputs_equal_those_of_one_machine(
    scene: Path, tmp_path: Path, cluster: Cluster, model: str, suffix: str
) -> None:
    outputs = []
    for name, where in (("alone", None), ("cluster", cluster)):
        output = tmp_path / f"{name}{suffix}"
        image, net = nr.open_image(scene), nr.load_model(model)
        scratch = None if suffix == ".zarr" else tmp_path / name
        plan = nr.plan(
            image, net, shared=where is not None, tile=128, output=output, scratch=scratch
        )
        job = nr.start(plan) if where is None else nr.start(plan, cluster=where)
        job.result().save(output)
        outputs.append(output)
    alone, spread = (files_in(path) or path.read_bytes() for path in outputs)
    assert alone == spread


@pytest.mark.parametrize("exclude", [None, AREA])
@pytest.mark.slow
@pytest.mark.ids("nightly", "None")
def test_workers_count_the_statistics_of_the_image(
    scene: Path,
    tmp_path: Path,
    cluster: Cluster,
    exclude: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("napari_restore.engine.statistics.context_blocks.BLOCK_SIDE", 128)
    plan = planned(scene, tmp_path, exclude=exclude)
    counted: list[Region] = []
    part = ContextBlocks.part
    monkeypatch.setattr(
        ContextBlocks, "part", lambda self, box: counted.append(box) or part(self, box)
    )
    nr.start(plan, cluster=cluster).result()
    assert len(counted) == 12
    mask = open_exclude(plan.reading, plan.image)
    found = find_context(plan.image, mask)
    alone = compute_context(plan.image, exclude=mask)
    for name in ("overview", "histograms", "dark_counts", "dark_sums"):
        np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))


@pytest.mark.slow
def test_a_cancel_while_workers_count_keeps_no_statistics(
    scene: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(scene, tmp_path)
    job = None
    ended = cluster.ended

    def cancelled_first(futures: Any, seconds: float) -> list[Any]:
        job.cancel()
        return []

    monkeypatch.setattr(cluster, "ended", cancelled_first)
    job = nr.start(plan, cluster=cluster)
    with pytest.raises(Cancelled):
        job.result()
    assert find_context(plan.image) is None
    monkeypatch.setattr(cluster, "ended", ended)
    assert nr.start(plan, cluster=cluster).result().record["status"] == "done"


@pytest.mark.slow
def test_workers_free_what_they_keep_of_a_run(
    scene: Path, tmp_path: Path, cluster: Cluster
) -> None:
    nr.start(planned(scene, tmp_path), cluster=cluster).result()
    assert cluster_worker._run is None
    assert not chunk_cache._bounds


@pytest.mark.slow
def test_progress_counts_the_tiles_of_all_workers(
    scene: Path, tmp_path: Path, cluster: Cluster
) -> None:
    plan = planned(scene, tmp_path)
    events = list(nr.start(plan, cluster=cluster))
    shown = [(event.done, event.total) for event in events if isinstance(event, Progress)]
    assert shown[-1] == (12, 12)
    last = [event.detail for event in events if isinstance(event, Progress) and event.done == 12]
    assert re.fullmatch(
        r"[0-9.]+ tiles/s(, [0-9.]+ [KMG]?i?B read, [0-9.]+ [KMG]?i?B written)?", last[-1]
    )
    assert len({event.region for event in events if isinstance(event, TileDone)}) == 12
    assert not list((plan.store / "parts").iterdir())
    record = events[-1].record
    assert record["measured"]["tiles_done"] == 12
    assert all(each["added_ram_bytes"] >= 0 for each in record["measured"]["workers"].values())


@pytest.mark.slow
def test_a_cancelled_run_goes_on_without_a_cluster(
    scene: Path, tmp_path: Path, cluster: Cluster
) -> None:
    plan = planned(scene, tmp_path)
    job = nr.start(plan, cluster=cluster)
    for event in job:
        if isinstance(event, TileDone):
            job.cancel()
            break
    with pytest.raises(Cancelled):
        job.result()
    kept = len(ResultStore.attach(plan.store).journal)
    assert kept
    result = nr.start(plan).result()
    assert result.record["measured"]["tiles_resumed"] == kept
    assert result.record["measured"]["tiles_done"] == 12 - kept


def test_a_run_that_another_machine_has_taken_over_says_so(
    scene: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []

    class Taken(Lease):
        def __init__(self, path: Path, lost: Any) -> None:
            super().__init__(path, lost)
            taken.append(lost)

    monkeypatch.setattr("napari_restore.engine.executors._dask.Lease", Taken)
    job = nr.start(planned(scene, tmp_path), cluster=cluster)
    for event in job:
        if isinstance(event, TileDone):
            taken[0]()
            break
    with pytest.raises(ResourceError, match="taken over"):
        job.result()


@pytest.mark.slow
def test_what_a_lost_worker_finished_is_not_computed_again(
    scene: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies after the first tile of a range: here, as an error that dask tries again."""
    plan = planned(scene, tmp_path)
    finished: list[Region] = []
    restore, failures = RangeRun.restore, threading.Semaphore(1)

    def dies(self: Any, name: str, tiles: Any, stop: Any, done: Any, step: Any) -> Any:
        if failures.acquire(blocking=False):
            restore(self, name, tiles[:1], stop, finished.append, step)
            raise ConnectionError("the worker is lost")
        return restore(self, name, tiles, stop, finished.append, step)

    monkeypatch.setattr(RangeRun, "restore", dies)
    submit = cluster.client.submit
    monkeypatch.setattr(
        cluster.client, "submit", lambda *a, **options: submit(*a, **options, retries=1)
    )
    nr.start(plan, cluster=cluster).result()
    assert len(finished) == len(set(finished)) == 12


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.ids("slow", "False")
def test_a_range_at_which_several_workers_are_lost(
    scene: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    """It is handed out once more; where the same tile ends workers again, the run ends."""
    plan = planned(scene, tmp_path)
    result, lost = cluster.result, []

    def loses(future: Any, what: str) -> Any:
        if what.startswith("the tile") and (always or not lost):
            lost.append(what)
            raise WorkersLost("4 workers were lost one after another.", "")
        return result(future, what)

    monkeypatch.setattr(cluster, "result", loses)
    # What those workers had finished before counts.
    monkeypatch.setattr(RangeRun, "restore", lambda *a, **b: None) if always else None
    job = nr.start(plan, cluster=cluster)
    if always:
        with pytest.raises(ResourceError, match="one after another"):
            job.result()
    else:
        assert job.result().record["measured"]["tiles_done"] == 12


@pytest.mark.slow
def test_parts_of_a_lost_client_are_taken_over(
    scene: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(scene, tmp_path)
    with monkeypatch.context() as patch:
        # The client dies before it has taken any report.
        patch.setattr(
            "napari_restore.engine.executors._dask.Dispatcher._take",
            lambda self, report, stage: (_ for _ in ()).throw(KeyError("killed")),
        )
        with pytest.raises(KeyError, match="killed"):
            nr.start(plan, cluster=cluster).result()
    parts = list((plan.store / "parts").glob("*.jsonl"))
    lines = sum(len(part.read_text().splitlines()) for part in parts)
    assert lines
    result = nr.start(plan).result()
    assert result.record["measured"]["tiles_resumed"] >= lines
    assert not list((plan.store / "parts").iterdir())


@pytest.mark.slow
def test_levels_are_made_by_whoever_ends_the_run(
    make_scene: Callable[..., Path],
    tmp_path: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = make_scene(1000, 1100)
    plan = planned(scene, tmp_path / "a", pyramid=True, tile=512)
    with monkeypatch.context() as patch:
        state = "napari_restore.engine.running.state.RunState"
        patch.setattr(
            f"{state}.complete_levels",
            lambda self: (_ for _ in ()).throw(ResourceError("killed", "")),
        )
        patch.setattr(f"{state}.make_levels", lambda self, core: None)
        with pytest.raises(ResourceError, match="killed"):
            nr.start(plan, cluster=cluster).result()
    result = nr.start(plan).result()
    alone = nr.start(planned(scene, tmp_path / "b", pyramid=True, tile=512)).result()
    assert alone.store.level_count > 1
    for number in range(alone.store.level_count):
        expected, found = (store.array(str(number))[:] for store in (alone.store, result.store))
        np.testing.assert_array_equal(expected, found)


@pytest.mark.slow
def test_a_tile_has_its_levels_when_it_is_reported(
    make_scene: Callable[..., Path], tmp_path: Path, cluster: Cluster
) -> None:
    plan, levelled = planned(make_scene(1100, 1100), tmp_path, pyramid=True, tile=512), []

    def note(event: Any) -> None:
        if isinstance(event, TileDone):
            y0, x0, y1, x1 = (edge // 4 for edge in event.region)
            levelled.append(run.state.store.array("2")[:, y0:y1, x0:x1].any())

    run = Run(plan, note, executor=DaskExecutor(cluster_task(plan), cluster))
    run.run()
    assert len(levelled) == 9
    assert all(levelled)


@pytest.mark.slow
def test_tiles_in_view_come_first(scene: Path, tmp_path: Path, cluster: Cluster) -> None:
    plan, found = planned(scene, tmp_path), []

    def note(event: Any) -> None:
        if isinstance(event, TileDone):
            found.append(event.region)

    run = Run(plan, note, executor=DaskExecutor(cluster_task(plan), cluster))
    run.executor.prioritise(Region(150, 275, 175, 400))
    run.run()
    # Four are handed out at once; two workers may end in either order.
    assert {(128, 256), (128, 384)} <= {(tile.y0, tile.x0) for tile in found[:4]}


def test_dask_work_of_this_process_stays_here(cluster: Cluster) -> None:
    before = distributed.client._get_global_client()
    with nr.connect(f"insecure+{cluster.client.scheduler.address}") as other:
        assert other.client is not before
        assert distributed.client._get_global_client() is before


@pytest.mark.slow
def test_the_client_of_the_caller_stays_open(scene: Path, tmp_path: Path, cluster: Cluster) -> None:
    with distributed.Client(cluster.client.scheduler.address, set_as_default=False) as client:
        nr.start(planned(scene, tmp_path, "identity"), cluster=client).result()
        assert client.status == "running"


def test_a_connection_tells_when_the_scheduler_is_gone(
    scheduler_patience: Callable[[float], None],
) -> None:
    scheduler_patience(1.0)
    own = distributed.LocalCluster(
        n_workers=1, processes=False, dashboard_address=":0", protocol="tcp"
    )
    with nr.connect(f"insecure+{own.scheduler_address}") as connection:
        assert not connection.is_lost
        own.close()
        with pytest.raises(ResourceError, match="scheduler of the cluster is gone"):
            until = time.monotonic() + patience()
            while time.monotonic() < until:
                connection.worker_count()
        assert connection.is_lost
        assert connection.threads_now() == {}


# -- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("local:0", "names no number"),
        ("local:two", "names no number"),
        ("host", "is no cluster"),
        ("none.json", "no scheduler file"),
    ],
)
def test_addresses_that_are_none(address: str, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        nr.connect(address)


def test_no_scheduler(scheduler_patience: Callable[[float], None]) -> None:
    scheduler_patience(0.2)
    with pytest.raises(BadParameter, match=r"There is no scheduler at tcp://127\.0\.0\.1:9"):
        nr.connect("insecure+tcp://127.0.0.1:9")


@pytest.mark.parametrize("form", ["{}", "{}.json"])
@pytest.mark.parametrize("protocol", ["tcp", "ws", "ucx"])
def test_a_scheduler_without_certificates_needs_consent(
    form: str,
    protocol: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheduler_patience: Callable[[float], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.json").write_text(f'{{"address": "{protocol}://127.0.0.1:9"}}')
    named = "s.json" if ".json" in form else f"{protocol}://127.0.0.1:9"
    tried: list[str] = []

    def client(place: str, **_: Any) -> None:
        tried.append(place)
        raise OSError

    monkeypatch.setattr(distributed, "Client", client)
    with pytest.raises(BadParameter, match="can run programs as you") as raised:
        nr.connect(named)
    assert f"insecure+{named}" in raised.value.sentence and not tried
    with pytest.raises(BadParameter, match="There is no scheduler"):
        nr.connect(f"insecure+{named}")
    assert tried == [f"{protocol}://127.0.0.1:9"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"address": "127.0.0.1"}'])
def test_files_that_no_scheduler_wrote(content: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(BadParameter, match=r"or it is damaged|is no cluster"):
        nr.connect(str(tmp_path / "s.json"))


def test_certificates_that_are_missing() -> None:
    import dask

    with pytest.raises(BadParameter, match="are not set"):
        nr.connect("tls://127.0.0.1:9")
    files = dict.fromkeys(("ca-file", "client.cert", "client.key"), "none.pem")
    names = {f"distributed.comm.tls.{name}": file for name, file in files.items()}
    with (
        dask.config.set(names),
        pytest.raises(BadParameter, match=r"cannot be read \(No such file"),
    ):
        nr.connect("tls://127.0.0.1:9")


def test_a_plan_whose_tiles_share_chunks_is_refused(
    make_scene: Callable[..., Path], tmp_path: Path, cluster: Cluster
) -> None:
    plan = nr.plan(
        nr.open_image(make_scene(500, 600)), nr.load_model("dcp"), scratch=tmp_path, tile=384
    )
    with pytest.raises(BadParameter, match="share chunks"):
        nr.start(plan, cluster=cluster)


def test_an_array_is_refused(tmp_path: Path, cluster: Cluster) -> None:
    plan = nr.plan(np.zeros((600, 600, 3), np.uint8), "dcp", shared=True, scratch=tmp_path)
    with pytest.raises(BadParameter, match="must be files"):
        nr.start(plan, cluster=cluster)


def test_versions_that_differ_are_refused(
    scene: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(scene, tmp_path)
    there = {"processor": "x86_64 AVX512", "napari-restore": "0.0", "torch": "2", "numpy": "2"}
    monkeypatch.setattr(cluster, "_asked", lambda *a: {"tcp://other:1": there})
    with pytest.raises(BadParameter, match=r"tcp://other:1 has napari-restore 0\.0"):
        nr.start(plan, cluster=cluster).result()


def test_what_a_worker_does_not_see_is_named_with_it(
    scene: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(scene, tmp_path)

    def elsewhere(task: Any) -> None:
        raise ResourceError("The folder /mnt/x of the result is not visible there.", "Share it.")

    work = cluster.work
    monkeypatch.setattr(cluster, "work", replace(work, check=elsewhere))
    with pytest.raises(ResourceError, match=r"not visible there \(on tcp://127"):
        nr.start(plan, cluster=cluster).result()


@pytest.mark.parametrize(
    ("name", "error", "kind", "message"),
    [
        (
            "napari_restore.engine.ledger.store.write_chunks",
            OSError(errno.ENOSPC, "No space left on device"),
            DiskFull,
            r"No space left on the disk .* \(on tcp://127",
        ),
        (
            "napari_restore.engine.running.tile_reader.TileReader.read",
            ResourceError("The disk of scene.tif cannot be read.", "Mount it."),
            ResourceError,
            r"cannot be read \(on tcp://127",
        ),
        (
            "napari_restore.engine.ledger.store.write_chunks",
            FileNotFoundError(errno.ENOENT, "No such file or directory"),
            ResourceError,
            r"A worker failed: FileNotFoundError.* \(on tcp://127",
        ),
    ],
)
@pytest.mark.slow
@pytest.mark.ids(
    "nightly",
    "napari_restore.engine.ledger.store.write_chunks-error0-DiskFull-No space left on the disk .* \\\\(on tcp://127",
)
def test_what_fails_on_one_machine_is_named_with_it(
    scene: Path,
    tmp_path: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: Exception,
    kind: type[Exception],
    message: str,
) -> None:
    plan = planned(scene, tmp_path)
    with monkeypatch.context() as patch:

        def fails(*arguments: Any, **options: Any) -> None:
            raise error

        patch.setattr(name, fails)
        with pytest.raises(kind, match=message):
            nr.start(plan, cluster=cluster).result()
    assert nr.start(plan, cluster=cluster).result().record["status"] == "done"


@pytest.mark.parametrize(
    ("name", "part"), [("weights_sha256", "weights"), ("definition", "code and card")]
)
@pytest.mark.ids("slow", "definition-code and card")
def test_another_model_is_refused(name: str, part: str, scene: Path, tmp_path: Path) -> None:
    plan = planned(scene, tmp_path, "haze-unet")
    task = {**nr.api._cluster.cluster_task(plan), name: "0" * 64}
    with pytest.raises(nr.errors.BadModel, match=f"The {part} of .* are not those of the plan"):
        cluster_worker._plan(task)


# -- ranges --------------------------------------------------------------------------


def grid(rows: int, columns: int, edge: int = 512) -> list[Region]:
    return [
        Region(y * edge, x * edge, (y + 1) * edge, (x + 1) * edge)
        for y in range(rows)
        for x in range(columns)
    ]


def test_ranges_hand_out_each_tile_once() -> None:
    tiles = grid(13, 11)
    ranges, found = Ranges(tiles, 512), []
    while len(ranges):
        part = ranges.pop(3)
        ranges.measured(len(part), 0.01)
        assert 0 < len(part) <= MOST
        found += part
    assert sorted(found) == sorted(tiles)
    assert len(found) == len(tiles)


def test_ranges_take_about_as_long_as_they_should() -> None:
    ranges = Ranges(grid(40, 40), 512)
    assert len(ranges.pop(2)) == 1
    ranges.measured(1, 0.5)
    assert len(ranges.pop(2)) == 4
    ranges.measured(1, 9.5)
    assert len(ranges.pop(2)) == 1


def test_a_range_is_a_neighbourhood() -> None:
    ranges = Ranges(grid(16, 16), 512)
    ranges.measured(16, 2.0)
    part = ranges.pop(2)
    assert len(part) == 16
    assert max(tile.y1 for tile in part) == max(tile.x1 for tile in part) == 4 * 512


def test_ranges_begin_in_the_middle_of_the_view() -> None:
    ranges = Ranges(grid(16, 16), 512)
    view = Region(9 * 512, 5 * 512, 12 * 512, 8 * 512)
    ranges.look_at(view)
    first = [ranges.pop(2)[0] for _ in range(10)]
    assert (first[0].y0, first[0].x0) == (10 * 512, 6 * 512)
    assert all(not tile.intersect(view).is_empty for tile in first[:9])
    assert (first[9].y0, first[9].x0) == (0, 0)


def test_ranges_follow_a_view_that_moves() -> None:
    ranges = Ranges(grid(16, 16), 512)
    ranges.look_at(Region(0, 0, 512, 512))
    ranges.look_at(None)
    assert ranges.pop(2)[0] == Region(0, 0, 512, 512)
    ranges.look_at(Region(7680, 7680, 8192, 8192))
    assert ranges.pop(2)[0] == Region(7680, 7680, 8192, 8192)
