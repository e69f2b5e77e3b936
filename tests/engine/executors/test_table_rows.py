"""Tables of attributions on a cluster: the same rows, whatever is lost on the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.explain._models import Small, scene, wrapped

import napari_restore as nr
from napari_restore import Region, images
from napari_restore.api import cluster_worker
from napari_restore.engine import Cluster, ItemRun, Progress, StoreBusy, Threads
from napari_restore.engine.executors.connection import WorkersLost
from napari_restore.engine.executors.item_run import Remote
from napari_restore.engine.machine.device import cores
from napari_restore.errors import (
    BadModel,
    BadParameter,
    Cancelled,
    InputError,
    ResourceError,
    SourceChanged,
)
from napari_restore.models import identity_of

BOXES = [Region(40, 60, 56, 84), Region(900, 900, 916, 916), Region(80, 30, 88, 60)]
"""The second is outside of the image."""
MODELS = ["dcp", "hot"]
OPTIONS: dict[str, Any] = {"device": "cpu", "steps": 2, "memory": "1GiB"}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "scene.png"
    Image.fromarray(np.round(255 * scene(128, 160)).astype(np.uint8)).save(path)
    return path


def told(table: Any) -> str:
    """Return all that a table has as JSON, but for times."""
    whole = table.to_dict()
    return json.dumps({**whole, "rows": [{**row, "seconds": 0} for row in whole["rows"]]})


@pytest.fixture
def computed(before_a_row: Callable[[Callable[[Any], object]], None]) -> list[Any]:
    """Boxes of the rows that are computed."""
    boxes: list[Any] = []
    before_a_row(boxes.append)
    return boxes


@pytest.mark.slow
@pytest.mark.nightly
def test_a_table_equals_that_of_one_machine(picture: Path, cluster: Cluster) -> None:
    events: list[Any] = []
    models = ["dcp", "atmosphere"]
    alone = nr.attribute_table(picture, models, BOXES, **OPTIONS)
    spread = nr.attribute_table(
        picture, models, BOXES, cluster=cluster, emit=events.append, **OPTIONS
    )
    assert told(alone) == told(spread)
    assert [row["error"] is None for row in spread.rows] == [True] * 2 + [False] * 2 + [True] * 2
    shown = [(event.done, event.total) for event in events if isinstance(event, Progress)]
    assert shown == [(done, 6) for done in range(7)]


def test_the_client_of_the_user_stays_connected(picture: Path, cluster: Cluster) -> None:
    for _ in range(2):
        nr.attribute_table(picture, ["dcp"], BOXES[:1], cluster=cluster.client, **OPTIONS)
    assert cluster.client.status == "running"


def test_an_image_that_cannot_be_read_fails_alone(
    picture: Path, tmp_path: Path, cluster: Cluster
) -> None:
    (tmp_path / "b.png").write_text("no image")
    images = [tmp_path / "b.png", picture]
    alone = nr.attribute_table(images, ["dcp"], BOXES[:1], **OPTIONS)
    spread = nr.attribute_table(images, ["dcp"], BOXES[:1], cluster=cluster, **OPTIONS)
    assert told(alone) == told(spread)
    assert [row["error"] is None for row in spread.rows] == [False, True]


def test_rows_are_computed_with_the_threads_of_the_client(
    picture: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    before_a_row: Callable[[Callable[[Any], object]], None],
) -> None:
    """Sums are divided among them."""
    own = Threads.of_process()
    client = replace(own, cores=own.cores + 1, torch=own.torch + 1)
    found: list[Threads] = []
    before_a_row(lambda box: found.append(type(own)(cores(), torch.get_num_threads())))
    monkeypatch.setattr(Threads, "of_process", lambda: client)
    nr.attribute_table(picture, ["dcp"], BOXES[:1], cluster=cluster, **OPTIONS)
    assert found == [client]


@pytest.mark.slow
def test_a_cancelled_table_goes_on_without_a_cluster(
    picture: Path, cluster: Cluster, computed: list[Any]
) -> None:
    stop = threading.Event()

    def cancel(event: Any) -> None:
        if isinstance(event, Progress) and event.done == 2:
            stop.set()

    boxes = [BOXES[0], BOXES[2], Region(10, 20, 26, 36), Region(20, 90, 40, 110)]
    part = nr.attribute_table(
        picture, MODELS, boxes, cluster=cluster, emit=cancel, stop=stop, **OPTIONS
    )
    assert part.status == "cancelled"
    assert 2 <= len(part.rows) < 8
    computed.clear()
    whole = nr.attribute_table(picture, MODELS, boxes, **OPTIONS)
    assert len(computed) == 8 - len(part.rows)
    computed.clear()
    assert told(whole) == told(nr.attribute_table(picture, MODELS, boxes, **OPTIONS))
    assert len(computed) == 8


@pytest.mark.slow
def test_a_table_of_a_lost_client_goes_on_on_a_cluster(
    picture: Path, cluster: Cluster, computed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [BOXES[0], BOXES[2], Region(10, 20, 26, 36)]

    def dies(event: Any) -> None:
        if isinstance(event, Progress) and event.done == 2:
            raise SystemExit

    with pytest.raises(SystemExit):
        nr.attribute_table(picture, ["dcp"], boxes, cluster=cluster, emit=dies, **OPTIONS)
    computed.clear()
    whole = nr.attribute_table(picture, ["dcp"], boxes, cluster=cluster, **OPTIONS)
    # The second row had ended, but was not kept yet.
    assert len(computed) == 2
    assert told(whole) == told(nr.attribute_table(picture, ["dcp"], boxes, **OPTIONS))


@pytest.mark.parametrize("always", [False, True])
def test_a_row_at_which_several_workers_are_lost(
    picture: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, always: bool
) -> None:
    """It is handed out once more; where it ends workers again, the run ends."""
    result, lost = cluster.result, []

    def loses(future: Any, what: str) -> Any:
        if always or not lost:
            lost.append(what)
            raise WorkersLost("4 workers were lost one after another.", "")
        return result(future, what)

    monkeypatch.setattr(cluster, "result", loses)
    if always:
        with pytest.raises(ResourceError, match="one after another"):
            nr.attribute_table(picture, ["dcp"], BOXES[:1], cluster=cluster, **OPTIONS)
        assert len(lost) == 2
    else:
        table = nr.attribute_table(picture, ["dcp"], BOXES[:1], cluster=cluster, **OPTIONS)
        assert table.status == "done"


def test_a_row_waits_for_the_worker_of_a_lost_client(
    picture: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    before_a_row: Callable[[Callable[[Any], object]], None],
) -> None:
    busy = [1, 2]

    def taken(box: Any) -> None:
        if busy:
            busy.pop()
            raise StoreBusy("The same attribution is already running.", "")

    before_a_row(taken)
    monkeypatch.setattr(cluster_worker, "BUSY", 0.01)
    table = nr.attribute_table(picture, ["dcp"], BOXES[:1], cluster=cluster, **OPTIONS)
    assert not busy and not table.failures


def test_a_cancel_leaves_all_workers_free(cluster: Cluster, points: Any) -> None:
    stop, begun = threading.Event(), threading.Event()

    def tell(event: Any) -> None:
        if isinstance(event, Progress):
            begun.set()

    remote = Remote(lambda task: None, waits_for_stop)
    run = ItemRun(cluster, remote, {"threads": Threads.of_process()}, "Waiting", tell, stop)
    points.hold("item begins")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(list, run.results([(0, None), (1, None), (2, None)], 3))
        points.wait("item begins")
        stop.set()
        points.go("item begins")
        with pytest.raises(Cancelled):
            asked.result()
    assert begun.is_set()
    assert not any(cluster.client.processing().values())


def waits_for_stop(task: Any, run: str, item: Any) -> None:
    with cluster_worker.turn_of(task, run) as stop:
        stop.wait()
        raise Cancelled("Stopped.")


# -- bad input -----------------------------------------------------------------------


def test_what_is_only_in_memory_is_refused(picture: Path, cluster: Cluster) -> None:
    with pytest.raises(BadParameter, match="must be files"):
        nr.attribute_table(picture, [wrapped(Small())], BOXES, cluster=cluster, **OPTIONS)
    with pytest.raises(BadParameter, match="must be files"):
        nr.attribute_table(scene(), ["dcp"], BOXES, cluster=cluster, **OPTIONS)


def test_partial_maps_are_refused(picture: Path, cluster: Cluster) -> None:
    with pytest.raises(BadParameter, match="Partial maps stay"):
        nr.attribute_table(
            picture, ["dcp"], BOXES, cluster=cluster, watch=lambda part: None, **OPTIONS
        )


def test_versions_that_differ_are_refused(
    picture: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {"processor": "x86_64 AVX512", "napari-restore": "0.0", "torch": "2", "numpy": "2"}
    monkeypatch.setattr(cluster, "_asked", lambda *words: {"tcp://other:1": there})
    with pytest.raises(BadParameter, match=r"tcp://other:1 has napari-restore 0\.0"):
        nr.attribute_table(picture, ["dcp"], BOXES, cluster=cluster, **OPTIONS)


def test_what_a_worker_does_not_see_is_named_with_it(
    picture: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = images.Image.from_spec

    def not_there(spec: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return opened(spec)
        raise InputError("/nowhere/scene.png does not exist.", "Check the path.")

    monkeypatch.setattr(images.Image, "from_spec", not_there)
    with pytest.raises(InputError, match=r"nowhere/scene\.png .*\(on tcp://127"):
        nr.attribute_table(picture, ["dcp"], BOXES, cluster=cluster, **OPTIONS)


def test_other_files_there_are_refused(picture: Path, tmp_path: Path) -> None:
    task: dict[str, Any] = {"models": [], "images": [], "baseline_fingerprint": None}
    with pytest.raises(SourceChanged, match="is another file there"):
        cluster_worker.check_table({**task, "files": {str(picture): "0" * 64}})
    spec = nr.open_image(picture).spec
    with pytest.raises(SourceChanged, match="is another file there"):
        cluster_worker.check_table(
            {**task, "files": {}, "images": [{"spec": spec, "fingerprint": "0"}]}
        )
    with pytest.raises(InputError, match="is not there"):
        cluster_worker.check_table({**task, "files": {str(tmp_path / "no.npz"): "0" * 64}})
    clear = {"options": {"baseline": str(picture)}, "baseline_fingerprint": "0"}
    with pytest.raises(SourceChanged, match="is another file there"):
        cluster_worker.check_table({**task, **clear, "files": {}})


@pytest.mark.parametrize(
    ("name", "part"), [("weights_sha256", "weights"), ("definition", "code and card")]
)
def test_another_model_is_refused(name: str, part: str) -> None:
    model = nr.load_model("haze-unet")
    known = {"spec": model.spec, **identity_of(model), name: "0" * 64}
    with pytest.raises(BadModel, match=f"The {part} of .* are not those of the client"):
        cluster_worker.model_of(known)


def test_threads_are_those_of_before_afterwards() -> None:
    before = Threads.of_process()
    other = replace(before, cores=before.cores + 3, torch=before.torch + 1)
    with other.used():
        assert Threads.of_process() == other
    assert Threads.of_process() == before
