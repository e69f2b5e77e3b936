"""A run in a child process gives the same pixels and the same events."""

import json
import sys

import numpy as np
import pytest
import rasterio
import tifffile
from points import patience

import napari_restore as nr
from napari_restore import errors
from napari_restore.api import serialised_task
from napari_restore.api._task_cache import TaskCache
from napari_restore.engine import Finished, Phase, Run, Stopped, TileDone, lock_exclusive
from napari_restore.engine.planning import probe
from napari_restore.engine.running import run as _run
from napari_restore.models import changed_part
from napari_restore.sample import SAMPLE

REGION = nr.Region(300, 400, 900, 1100)


def plan(model="dcp", **options):
    options = {"region": REGION, "tile": 256, "memory": "2GiB", **options}
    return nr.plan(SAMPLE, nr.load_model(model), **options)


BLOCKS = """
from torch import nn
from torch.nn import functional as F


class Blocks(nn.Module):
    def forward(self, x):
        h, w = x.shape[-2:]
        x = F.pad(x, (0, -w % 4, 0, -h % 4), mode="replicate")
        return (0.5 * x + 0.5 * F.interpolate(F.avg_pool2d(x, 4), scale_factor=4))[..., :h, :w]
"""


@pytest.fixture
def blocks(tmp_path):
    """The name of a network of blocks of 4 pixels, beside which a card may be written."""
    (tmp_path / "blocks.py").write_text(BLOCKS)
    return f"{tmp_path / 'blocks.py'}:Blocks"


WRONG = {"bands": 3, "multiple_of": 1, "halo": 0}


@pytest.mark.measured
@pytest.mark.parametrize("card", [None, WRONG], ids=["measured", "corrected"])
@pytest.mark.slow
@pytest.mark.ids("nightly", "measured")
def test_another_process_takes_what_was_measured(tmp_path, blocks, card, monkeypatch):
    if card is not None:
        (tmp_path / "blocks.json").write_text(json.dumps(card))
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="rgb")
    made = nr.plan(tmp_path / "image.tif", nr.load_model(blocks, trust=True), tile=32)
    assert made.model.card.multiple_of == 4
    monkeypatch.delattr(probe, "dependence")
    task = json.loads(json.dumps(serialised_task(made)))
    again = TaskCache().plan(task)
    assert changed_part(again.model, task) is None
    assert again.model.card == made.model.card


def test_another_process_reads_a_bracket_again_whose_frames_have_changed(tmp_path):
    paths = [tmp_path / f"{number}.tif" for number in range(3)]

    def write(*lights):
        for path, light in zip(paths, lights, strict=True):
            tifffile.imwrite(path, np.full((40, 50, 3), light, np.uint8), photometric="rgb")

    def asked():
        bracket = nr.open_bracket(paths, exposures=[-1, 0, 1], align="off")
        return json.loads(json.dumps(serialised_task(nr.plan(bracket, nr.load_model("mertens")))))

    write(40, 80, 160)
    cache = TaskCache()
    first = cache.plan(asked()).image
    assert cache.plan(asked()).image is first
    # The reference, whose fingerprint the task has, stays the same.
    write(40, 80, 200)
    now = cache.plan(asked()).image
    assert now is not first and now.frames[2].read((0, 0, 1, 1)).max() == 200


@pytest.mark.slow
@pytest.mark.nightly
def test_the_child_writes_what_a_thread_would():
    here = nr.start(plan()).result()
    expected = here.read(REGION)
    here.store.remove()
    job = nr.start(plan(), process=True)
    events = list(job)
    assert isinstance(events[-1], Finished)
    assert any(isinstance(event, TileDone) for event in events)
    result = job.result()
    assert result.record["measured"]["tiles_resumed"] == 0
    np.testing.assert_array_equal(result.read(REGION), expected)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_zarr_grows_beside_its_output(tmp_path):
    out = tmp_path / "große Szene.zarr"
    whole = plan(region=None, tile=1024, output=out)
    result = nr.start(whole, process=True).result()
    assert result.save(out) == out
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    again = nr.open_image(out)
    np.testing.assert_array_equal(again.read(REGION), result.read(REGION))
    assert again.transform == nr.open_image(SAMPLE).transform


def test_cancel_is_heard_before_the_first_tile(points):
    points.hold("run begins", "cancel requested")
    job = nr.start(plan(), process=True)
    points.wait("run begins")
    job.cancel()
    points.wait("cancel requested")
    points.go("run begins", "cancel requested")
    assert isinstance(list(job)[-1], Stopped)
    with pytest.raises(errors.Cancelled):
        job.result()


@pytest.mark.slow
def test_a_killed_child_is_an_error_not_a_hang(points):
    points.hold("tile stored")
    job = nr.start(plan(), process=True)
    points.wait("tile stored")
    job.executor.worker.kill()
    points.go("tile stored")
    with pytest.raises(errors.ResourceError, match="ended unexpectedly"):
        job.result()
    assert nr.start(plan()).result().record["measured"]["tiles_resumed"] >= 1


@pytest.mark.slow
@pytest.mark.nightly
def test_what_a_model_prints_does_not_end_among_the_events(tmp_path):
    file = tmp_path / "loud model.py"
    file.write_text(
        "import os, torch\n"
        "class Loud(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        print('hello'); os.system('echo hello')\n"
        "        return x * 0.5\n"
        "def make():\n"
        "    return Loud()\n"
    )
    card = {"id": "loud", "title": "Loud", "summary": "", "bands": 3}
    model = nr.load_model(f"{file}:make", card=card, trust=True)
    job = nr.start(nr.plan(SAMPLE, model, region=nr.Region(0, 0, 200, 200)), process=True)
    assert job.result().record["status"] == "done"


@pytest.mark.slow
def test_an_error_in_the_child_is_the_same_error_here(tmp_path):
    import shutil

    copy = tmp_path / "copy.tif"
    shutil.copy(SAMPLE, copy)
    planned = nr.plan(copy, nr.load_model("dcp"), region=REGION)
    copy.unlink()
    with pytest.raises(errors.UnreadableImage, match="no file"):
        nr.start(planned, process=True).result()


@pytest.fixture
def worker(forked_workers):
    from napari_restore import api

    made = api.new_worker()
    yield made
    made.close()


@pytest.mark.nightly
def test_one_child_runs_plan_after_plan_and_keeps_what_it_loaded(worker):
    first = nr.start(plan(), process=worker)
    assert first.result().record["status"] == "done"
    child = worker.process.pid
    nr.start(plan(), process=worker).result().store.remove()
    job = nr.start(plan(), process=worker, fresh=True)
    events = [type(event).__name__ for event in job]
    assert worker.process.pid == child
    assert events[-1] == "Finished"
    assert job.result().record["measured"]["tiles_done"] > 0


@pytest.mark.slow
def test_a_model_whose_helper_is_edited_is_loaded_anew(worker, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(
        "import os, sys, torch\n"
        "sys.path.insert(0, os.path.dirname(__file__))\n"
        "import helper\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x * helper.GAIN\n"
        "def make():\n"
        "    return Net()\n"
    )

    def planned(gain=None):
        if gain is not None:
            (tmp_path / "helper.py").write_text(f"GAIN = {gain}\n")
        card = {"id": "mine", "title": "", "summary": "", "bands": 3}
        model = nr.load_model(f"{tmp_path / 'mine.py'}:make", card=card, trust=True)
        return nr.plan(SAMPLE, model, region=nr.Region(0, 0, 200, 200))

    first = np.asarray(nr.start(planned(0.5), process=worker).result())
    late = planned()
    second = planned(0.25)
    with pytest.raises(errors.SourceChanged, match="code and card of mine"):
        nr.start(late, process=worker).result()
    again = np.asarray(nr.start(second, process=worker).result())
    np.testing.assert_allclose(again, first / 2, atol=1)


@pytest.mark.slow
def test_a_task_cancelled_in_the_queue_never_begins(worker, points):
    from napari_restore.sample import SAMPLE

    points.hold("tile stored")
    points.hold("cancel requested", after=1)
    long = nr.start(nr.plan(SAMPLE, "dcp", tile=128, memory="2GiB"), process=worker)
    points.wait("tile stored")
    waiting = nr.start(plan("identity"), process=worker)
    waiting.cancel()
    long.cancel()
    points.wait("cancel requested")
    points.go("tile stored", "cancel requested")
    assert isinstance(list(long)[-1], Stopped)
    assert [type(event) for event in waiting] == [Stopped]
    after = nr.start(plan("identity"), process=worker).result()
    assert after.record["status"] == "done"


@pytest.mark.nightly
def test_a_child_that_died_is_replaced(worker, points):
    points.hold("tile stored")
    job = nr.start(plan(), process=worker)
    died = points.wait("tile stored")
    assert worker.process.pid == died
    job.executor.worker.kill()
    points.go("tile stored")
    with pytest.raises(errors.ResourceError, match="ended unexpectedly"):
        job.result()
    assert nr.start(plan(), process=worker).result().record["status"] == "done"
    assert worker.process.pid != died


@pytest.mark.slow
def test_an_error_does_not_end_the_child(worker, tmp_path):
    import shutil

    copy = tmp_path / "copy.tif"
    shutil.copy(SAMPLE, copy)
    planned = nr.plan(copy, nr.load_model("identity"), region=REGION)
    copy.unlink()
    with pytest.raises(errors.UnreadableImage):
        nr.start(planned, process=worker).result()
    child = worker.process.pid
    nr.start(plan("identity"), process=worker).result()
    assert worker.process.pid == child


@pytest.mark.slow
@pytest.mark.nightly
def test_a_closed_worker_ends_its_child(worker, points):
    points.hold("tile stored")
    nr.start(plan(), process=worker)
    points.wait("tile stored")
    child = worker.process
    worker.close()
    assert child.wait(patience()) is not None
    assert worker.process is None


@pytest.mark.nightly
def test_a_changed_file_is_opened_again(worker, tmp_path):
    import shutil

    copy = tmp_path / "copy.tif"
    shutil.copy(SAMPLE, copy)
    before = nr.start(nr.plan(copy, "identity", region=REGION), process=worker).result()
    old = before.read(REGION)
    before.store.close()
    with rasterio.open(copy, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.write(255 - file.read())
    changed = nr.plan(copy, "identity", region=REGION)
    again = nr.start(changed, process=worker, fresh=True).result()
    np.testing.assert_array_equal(again.read(REGION), nr.open_image(copy).read(REGION))
    assert (again.read(REGION) != old).mean() > 0.9


@pytest.mark.slow
def test_the_plan_runs_as_it_was_settled(worker):
    planned = plan(tile=384)
    record = nr.start(planned, process=worker).result().record
    plan_record = planned.to_dict()
    assert record["plan"] == {**record["plan"], **plan_record}


@pytest.mark.slow
def test_the_record_counts_both_processes(worker):
    record = nr.start(plan(), process=worker).result().record["measured"]
    from napari_restore.engine.machine.budget import process_memory

    assert record["peak_ram_bytes"] > process_memory(children=False)
    assert record["peak_ram_bytes"] >= record["idle_ram_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize("travels", [True, False], ids=["in the child", "on a thread"])
def test_a_window_waits_for_a_run_of_the_same(worker, travels):
    image = nr.open_image(SAMPLE)
    source = image if travels else image.read((0, 0, 600, 700))
    planned = nr.plan(source, "identity", region=nr.Region(0, 0, 600, 700), tile=256)
    first = nr.start(planned).result()
    release = lock_exclusive(first, planned.store)
    job = nr.start(planned, process=worker)
    phases = (event.name for event in job if isinstance(event, Phase))
    assert next(name for name in phases if "Waiting" in name)
    release()
    measured = job.result().record["measured"]
    # What the other one has finished is not made again.
    assert measured["tiles_done"] == 0 and measured["tiles_resumed"] == planned.layout.tiles


@pytest.mark.slow
@pytest.mark.nightly
def test_the_wait_for_another_run_is_no_work_of_this_one(monkeypatch):
    planned = plan("identity")
    first = nr.start(planned).result()
    release = lock_exclusive(first, planned.store)
    asked = []

    def writer(path):
        # It lets go just before this one looks whether it still has to wait.
        asked.append(path)
        release()
        return None

    monkeypatch.setattr(_run, "writer_of", writer)
    monkeypatch.setattr(_run, "WAIT_SECONDS", 5.0)
    events: list = []
    run = Run(planned, events.append, wait=True)
    assert run.run()["measured"]["seconds"] < 5
    assert asked and any(isinstance(e, Phase) and "Waiting" in e.name for e in events)


def test_waiting_for_another_run_can_be_cancelled(worker):
    planned = plan("identity")
    first = nr.start(planned).result()
    release = lock_exclusive(first, planned.store)
    job = nr.start(planned, process=worker)
    next(e for e in job if isinstance(e, Phase) and "Waiting" in e.name)
    job.cancel()
    assert isinstance(list(job)[-1], Stopped)
    release()
