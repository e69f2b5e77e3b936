"""A run in a child process gives the same pixels and the same events."""

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import errors
from napari_restore.engine import Finished, Stopped, TileDone
from napari_restore.sample import SAMPLE

REGION = nr.Region(300, 400, 900, 1100)


def plan(model="dcp", **options):
    options = {"region": REGION, "tile": 256, "memory": "2GiB", **options}
    return nr.plan(SAMPLE, nr.load_model(model), **options)


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


def test_a_zarr_grows_beside_its_output(tmp_path):
    out = tmp_path / "große Szene.zarr"
    whole = plan(region=None, tile=1024, output=out)
    result = nr.start(whole, process=True).result()
    assert result.save(out) == out
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    again = nr.open_image(out)
    np.testing.assert_array_equal(again.read(REGION), result.read(REGION))
    assert again.transform == nr.open_image(SAMPLE).transform


def test_cancel_is_heard_before_the_first_tile():
    job = nr.start(plan(), process=True)
    job.cancel()
    assert isinstance(list(job)[-1], Stopped)
    with pytest.raises(errors.Cancelled):
        job.result()


def test_a_killed_child_is_an_error_not_a_hang():
    job = nr.start(plan(), process=True)
    for event in job:
        if isinstance(event, TileDone):
            job.kill()
            break
    with pytest.raises(errors.ResourceError, match="ended unexpectedly"):
        job.result()
    assert nr.start(plan()).result().record["measured"]["tiles_resumed"] >= 1


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


def test_an_error_in_the_child_is_the_same_error_here(tmp_path):
    import shutil

    copy = tmp_path / "copy.tif"
    shutil.copy(SAMPLE, copy)
    planned = nr.plan(copy, nr.load_model("dcp"), region=REGION)
    copy.unlink()
    with pytest.raises(errors.UnreadableImage, match="no file"):
        nr.start(planned, process=True).result()
