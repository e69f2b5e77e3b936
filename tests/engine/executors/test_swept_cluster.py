"""Models that sweep over the image, on a cluster: each sweep is a stage."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_restore as nr
from napari_restore.engine import (
    Cluster,
    Progress,
    RangeRun,
    Region,
    ResultStore,
    TileDone,
)
from napari_restore.engine.executors.ranges import by_chunks
from napari_restore.engine.ledger.slab import SlabFile
from napari_restore.engine.planning.map_layout import network_bytes
from napari_restore.engine.running.sweep_work import SweepWork
from napari_restore.errors import BadParameter, Cancelled
from napari_restore.images import cache_dir
from napari_restore.models import Sweep

pytest.importorskip("distributed")

MODELS = ["andehazeformer-small", "inf-dehaze-small"]


@pytest.fixture
def scene(make_scene: Callable[..., Path]) -> Path:
    """Six tiles of 512 pixels, with nodata."""
    return make_scene(700, 1100)


def planned(scene: Path, scratch: Path, model: str, **options: Any) -> Any:
    whole = {"shared": True, "workers": 1, "memory": "2GiB", **options}
    if model != "inf-dehaze-small":
        whole.setdefault("tile", 512)
    return nr.plan(nr.open_image(scene), nr.load_model(model), scratch=scratch, **whole)


def pixels_of(result: Any) -> Any:
    height, width = result.store.shape[:2]
    return result.store.read(Region(0, 0, height, width))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Region]]:
    """Sweep and tile of everything that workers finish."""
    found: list[tuple[int, Region]] = []
    restore = RangeRun.restore

    def noted(self: Any, name: str, tiles: Any, stop: Any, done: Any, step: Any) -> Any:
        def note(tile: Region) -> None:
            found.append((step["number"], tile))
            done(tile)

        return restore(self, name, tiles, stop, note, step)

    monkeypatch.setattr(RangeRun, "restore", noted)
    return found


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes that are written to slab files, and read from them."""
    found = {"written": 0, "read": 0}
    put, get, get_part = SlabFile.put, SlabFile.get, SlabFile.get_part
    lock = threading.Lock()

    def add(way: str, size: int) -> None:
        with lock:
            found[way] += size

    def counted_put(self: Any, index: int, record: Any) -> None:
        add("written", self.record_bytes)
        put(self, index, record)

    def counted_get(self: Any, index: int, out: Any = None) -> Any:
        add("read", self.record_bytes)
        return get(self, index, out)

    def counted_part(self: Any, index: int, part: int, out: Any) -> bool:
        add("read", out.nbytes)
        return get_part(self, index, part, out)

    monkeypatch.setattr(SlabFile, "put", counted_put)
    monkeypatch.setattr(SlabFile, "get", counted_get)
    monkeypatch.setattr(SlabFile, "get_part", counted_part)
    return found


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.slow
@pytest.mark.ids("nightly", "andehazeformer-small", "inf-dehaze-small")
def test_a_plan_says_what_crosses_the_network(
    scene: Path, tmp_path: Path, cluster: Cluster, model: str, moved: dict[str, int]
) -> None:
    plan = planned(scene, tmp_path, model)
    expected = network_bytes(plan.staged, plan.model, plan.layout.tile)
    assert expected.note() in plan.notes
    nr.start(plan, cluster=cluster).result()
    # The related tokens of a tile have a margin; tiles at the edge have a smaller halo.
    assert expected.written <= moved["written"] <= 1.2 * expected.written
    assert 0.6 * expected.read <= moved["read"] <= 1.2 * expected.read


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.slow
@pytest.mark.ids("nightly", "inf-dehaze-small", "andehazeformer-small")
def test_pixels_equal_those_of_one_machine(
    scene: Path,
    tmp_path: Path,
    cluster: Cluster,
    model: str,
    computed: list[tuple[int, Region]],
) -> None:
    plan = planned(scene, tmp_path / "b", model)
    events = list(nr.start(plan, cluster=cluster))
    result = nr.start(plan).result()
    # What was counted is counted again.
    shutil.rmtree(cache_dir() / "settled", ignore_errors=True)
    image, net = nr.open_image(scene), nr.load_model(model)
    alone = nr.start(nr.plan(image, net, scratch=tmp_path / "a", memory="2GiB")).result()
    np.testing.assert_array_equal(pixels_of(alone), pixels_of(result))
    assert result.record["measured"]["tiles_done"] == 0
    assert len(computed) == len(set(computed))
    assert len({event.region for event in events if isinstance(event, TileDone)}) == len(
        {tile for number, tile in computed if number == len(plan.model.steps()) - 1}
    )
    shown = [event for event in events if isinstance(event, Progress)]
    assert shown[-1].done == shown[-1].total
    # Nothing is left of what workers wrote for each other.
    assert not list((plan.store / "staged" / "parts").iterdir())
    assert not list((plan.store / "staged").glob("*.slab"))


@pytest.mark.nightly
def test_what_a_killed_client_left_is_not_computed_again(
    scene: Path,
    tmp_path: Path,
    cluster: Cluster,
    computed: list[tuple[int, Region]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next run reads the parts of the sweep that it was in: here, one without a cluster."""
    plan = planned(scene, tmp_path, "andehazeformer-small")
    dispatcher = "napari_restore.engine.executors._dask.Dispatcher"

    def killed(self: Any, report: Any, stage: Any) -> None:
        if stage.number == 3:
            raise KeyError("killed")
        self._enter(report.lines, stage)

    with monkeypatch.context() as patch:
        patch.setattr(f"{dispatcher}._take", killed)
        with pytest.raises(KeyError, match="killed"):
            nr.start(plan, cluster=cluster).result()
    parts = list((plan.store / "staged" / "parts").glob("*.jsonl"))
    lines = sum(len(part.read_text().splitlines()) for part in parts)
    assert lines == len(computed)
    last = sum(number == 3 for number, _ in computed)
    assert 0 < last
    swept: list[int] = []
    keep = SweepWork.keep

    def noted(self: Any, one: Any, counts: Any) -> None:
        swept.append(one.number)
        keep(self, one, counts)

    monkeypatch.setattr(SweepWork, "keep", noted)
    result = nr.start(plan).result()
    sweeps = len(plan.model.steps()) - 1
    assert len(swept) + len(computed) == sweeps * 6
    alone = nr.start(planned(scene, tmp_path / "a", "andehazeformer-small")).result()
    np.testing.assert_array_equal(pixels_of(alone), pixels_of(result))


@pytest.mark.slow
@pytest.mark.nightly
def test_a_run_of_one_machine_goes_on_on_a_cluster(
    scene: Path, tmp_path: Path, cluster: Cluster, computed: list[tuple[int, Region]]
) -> None:
    plan = planned(scene, tmp_path, "inf-dehaze-small")
    job = nr.start(plan)
    for event in job:
        if isinstance(event, TileDone):
            job.cancel()
            break
    with pytest.raises(Cancelled):
        job.result()
    kept = len(ResultStore.attach(plan.store).journal)
    assert kept
    record = nr.start(plan, cluster=cluster).result().record
    assert record["measured"]["tiles_resumed"] == kept
    # Only the last step was left; a chunk that was restored in part is restored in whole.
    assert {number for number, _ in computed} == {2}
    chunks = by_chunks([tile for _, tile in computed], 256)
    assert len(computed) == sum(map(len, chunks.values()))


@pytest.mark.slow
@pytest.mark.parametrize(("model", "sweeps"), [(MODELS[0], (1, 10)), (MODELS[1], (0,))])
@pytest.mark.ids("nightly", "andehazeformer-small-sweeps0")
def test_what_a_lost_worker_finished_of_a_sweep_is_not_computed_again(
    scene: Path,
    tmp_path: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    sweeps: tuple[int, ...],
) -> None:
    """Tiles of Inf-Dehaze are smaller than a chunk of the result, which counts for the last step only."""
    plan = planned(scene, tmp_path, model)
    finished: list[tuple[int, Region]] = []
    restore, failures = RangeRun.restore, threading.Semaphore(2)

    def dies(self: Any, name: str, tiles: Any, stop: Any, done: Any, step: Any) -> Any:
        def note(tile: Region) -> None:
            finished.append((step["number"], tile))

        if step["number"] in sweeps and failures.acquire(blocking=False):
            restore(self, name, tiles[:1], stop, note, step)
            raise ConnectionError("the worker is lost")
        return restore(self, name, tiles, stop, note, step)

    monkeypatch.setattr(RangeRun, "restore", dies)
    submit = cluster.client.submit
    monkeypatch.setattr(
        cluster.client, "submit", lambda *a, **options: submit(*a, **options, retries=2)
    )
    nr.start(plan, cluster=cluster).result()
    assert len(finished) == len(set(finished))
    computed = sum(isinstance(each, Sweep) for each in plan.model.steps())
    assert len(finished) == computed * plan.layout.tiles


@pytest.mark.nightly
def test_a_cancel_in_a_sweep_frees_the_workers(
    scene: Path, tmp_path: Path, cluster: Cluster
) -> None:
    from napari_restore.api import cluster_worker

    plan = planned(scene, tmp_path, "andehazeformer-small")
    job = nr.start(plan, cluster=cluster)
    for event in job:
        if isinstance(event, Progress) and event.done and event.total == 6:
            job.cancel()
            break
    with pytest.raises(Cancelled):
        job.result()
    assert cluster_worker._run is None
    assert nr.start(plan, cluster=cluster).result().record["status"] == "done"


def test_maps_in_the_memory_of_one_machine_are_refused(
    scene: Path, tmp_path: Path, cluster: Cluster
) -> None:
    plan = planned(scene, tmp_path, "andehazeformer-small", shared=False, residuals="ram")
    with pytest.raises(BadParameter, match="not seen by the others"):
        nr.start(plan, cluster=cluster)


def test_a_shared_plan_keeps_maps_on_disk(scene: Path, tmp_path: Path) -> None:
    staged = planned(scene, tmp_path, "andehazeformer-small", tile=None).staged
    assert all(not each.slots.ram and not each.slots.device for each in staged.maps)
