"""What goes wrong under way: little memory, a full disk, a changed source."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_restore.engine import ResultStore
from napari_restore.records import read_record

from ._scenes import hazy, read, write_tiff


def test_a_budget_too_small_for_a_tile(cli, scene, tmp_path):
    run = cli("restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--memory", "1KiB")
    assert run.code == 4 and "--memory" in run.err
    assert not (tmp_path / "o.tif").exists()


def full_disk(self, *_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_keeps_what_is_finished(cli, scene, tmp_path, monkeypatch):
    out = tmp_path / "o.tif"
    words = ["restore", scene, "-o", out, "--model", "dcp", "--tile", 128, "--json"]
    with monkeypatch.context() as patch:
        put, calls = ResultStore._put, []

        def second_fails(self, *given: object) -> None:
            calls.append(given)
            (full_disk if len(calls) > 1 else put)(self, *given)

        patch.setattr(ResultStore, "_put", second_fails)
        run = cli(*words)
    assert run.code == 4 and "space" in run.err.lower() and "Traceback" not in run.err
    assert run.json["error"]["type"] == "DiskFull"
    assert list(tmp_path.glob("*o*")) == []
    assert cli(*words).json["measured"]["tiles_resumed"] == 1


@pytest.mark.slow
def test_the_tiles_of_a_source_that_changed_since_are_set_aside(cli, scene, tmp_path, monkeypatch):
    out, clean = tmp_path / "o.tif", tmp_path / "clean.tif"
    words = ["restore", scene, "-o", out, "--model", "dcp", "--tile", 128, "--json"]
    before = scene.read_bytes()
    with monkeypatch.context() as patch:
        put, calls = ResultStore._put, []

        def second_fails(self, *given: object) -> None:
            calls.append(given)
            (full_disk if len(calls) > 1 else put)(self, *given)

        patch.setattr(ResultStore, "_put", second_fails)
        assert cli(*words).code == 4
    write_tiff(scene, hazy(seed=8))
    run = cli(*words)
    assert run.code == 0 and run.json["measured"]["tiles_resumed"] == 0
    assert "image has changed since an unfinished run" in run.err
    assert cli("restore", scene, "-o", clean, "--model", "dcp").code == 0
    assert np.array_equal(read(out), read(clean))
    # The image as it was: its run goes on.
    scene.write_bytes(before)
    assert cli(*words, "--overwrite").json["measured"]["tiles_resumed"] == 1


def test_a_record_that_cannot_be_written_does_not_hide_the_error(cli, scene, tmp_path, monkeypatch):
    monkeypatch.setattr("napari_restore.images.export._geotiff.write", full_disk)
    monkeypatch.setattr("napari_restore.commands._runner.write_record", full_disk)
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--json"]
    run = cli(*words, "--record", tmp_path / "r.json", "--maps", tmp_path / "maps")
    assert run.code == 4 and run.json["error"]["type"] == "DiskFull"
    assert "no record was written" in run.err
    # The same command must be able to go on.
    assert not list((tmp_path / "maps").iterdir())


def test_a_failed_run_has_a_record_that_the_next_replaces(cli, scene, tmp_path, monkeypatch):
    record = tmp_path / "r.json"
    words = ["restore", scene, "-o", tmp_path / "o.tif", "--model", "dcp", "--record", record]
    with monkeypatch.context() as patch:
        patch.setattr("napari_restore.images.export._geotiff.write", full_disk)
        assert cli(*words).code == 4
    told = read_record(record)
    assert told["status"] == "failed" and told["output"] is None
    assert cli(*words).code == 0
    assert read_record(record)["status"] == "done"


@pytest.mark.parametrize(
    "raised",
    [
        "ImportError('libtorch_cuda.so: undefined symbol: ncclMemFree')",
        "OSError(126, 'Error loading c10.dll or one of its dependencies.')",
    ],
)
@pytest.mark.ids("slow", "OSError(126, 'Error loading c10.dll or one of its dependencies.')")
def test_a_torch_that_cannot_be_imported_is_one_sentence(
    tmp_path: Path, sample: Path, raised: str
) -> None:
    broken = tmp_path / "site" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text(f"raise {raised}\n")
    paths = [str(broken.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    words = ["restore", str(sample), "-o", str(tmp_path / "out.tif"), "--model", "dcp"]
    run = subprocess.run(
        [sys.executable, "-m", "napari_restore", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 4, run.stderr
    assert (
        "torch cannot be imported: " in run.stderr and "pip install --force-reinstall" in run.stderr
    )
    assert "Traceback" not in run.stderr and not (tmp_path / "out.tif").exists()
