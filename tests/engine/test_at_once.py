"""Several processes that begin the same at once: one makes a folder, the others wait or say who does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from points import patience
from tests.cli._scenes import hazy, write_tiff
from tests.cli.test_process import command_of, contents

from napari_restore.engine.ledger.folder import lock_writer, writer_of
from napari_restore.images.cache.lock import LockedFile, is_used

PROCESSES = 3
TOGETHER = """
import sys, time
from pathlib import Path
from napari_restore.engine import StoreBusy
from napari_restore.engine.ledger.store import ResultStore
from napari_restore.explain import RowJournal
from napari_restore.images.cache.folder import OpenEntry
import zarr

folder = Path(sys.argv[1])
(folder / f"ready.{sys.argv[2]}").touch()
until = time.monotonic() + 60
while not (folder / "go").exists() and time.monotonic() < until:
    time.sleep(0.002)
for number in range(8):
    path, options = folder / "scratch" / f"{number % 3}.zarr", {"shape": (9, 9, 3), "dtype": "u1"}
    while True:
        try:
            store = ResultStore.open(path, key=str(number), **options)
        except StoreBusy:
            time.sleep(0.002)
            continue
        assert store.array().shape == (3, 9, 9) and store.header["key"] == str(number)
        # As a run whose result has become the output.
        store.remove() if number % 2 else store.close()
        break
    entry = OpenEntry.open("streams", str(number), {"of": number})
    (folder / f"kept.{number}.{sys.argv[2]}").write_text(str(entry.private))
    while True:
        try:
            with RowJournal({"of": number % 2}, folder / "tables"):
                break
        except StoreBusy:
            time.sleep(0.002)
while len(list(folder.glob(f"kept.{number}.*"))) < int(sys.argv[3]) and time.monotonic() < until:
    time.sleep(0.002)
"""

LEFT = """
import atexit, sys
import numpy as np
import napari_restore as nr

jobs = []
atexit.register(lambda: print(jobs[0].status))
jobs.append(nr.start(nr.plan(np.ones((8192, 8192), np.uint8), "identity", tile=64, scratch=sys.argv[1])))
next(iter(jobs[0]))
"""


@pytest.mark.slow
def test_a_job_of_a_script_that_ends_is_cancelled(tmp_path: Path) -> None:
    # A thread inside of PyTorch would abort the process while Python ends.
    done = subprocess.run([sys.executable, "-c", LEFT, tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cancelled\n", "")


def test_folders_that_several_make_and_remove(tmp_path: Path, own_cache: Path) -> None:
    began = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, tmp_path, str(number), str(PROCESSES)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        while len(list(tmp_path.glob("ready.*"))) < PROCESSES:
            assert all(each.poll() is None for each in began)
            time.sleep(0.05)
        (tmp_path / "go").touch()
        for each in began:
            _, said = each.communicate(timeout=patience())
            assert (each.returncode, said) == (0, "")
    finally:
        for each in began:
            each.kill()
            each.communicate()
    last = [path.read_text() for path in tmp_path.glob("kept.7.*")]
    assert sorted(last) == ["False"] + ["True"] * (PROCESSES - 1)
    left = {path.name for folder in ("scratch", "tables") for path in (tmp_path / folder).iterdir()}
    assert not {name for name in left if "removed" in name or name.startswith(".")}


def test_the_next_writer_finds_no_mark_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[bool, bool]] = []
    release, path = LockedFile.release, tmp_path / "store"

    def look(locked: LockedFile) -> None:
        release(locked)
        found.append((writer_of(path) is not None, is_used(path)))

    unlock = lock_writer(path)
    monkeypatch.setattr(LockedFile, "release", look)
    unlock()
    assert found == [(True, False), (False, False)]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="another way to send Ctrl-C")
@pytest.mark.nightly
def test_a_command_waits_for_the_same_one(tmp_path: Path, own_cache: Path, points) -> None:
    scene = write_tiff(tmp_path / "s.tif", hazy(500, 500), tiled=True)
    words = ("restore", scene, "--model", "dcp", "--tile", 128, "--progress", "json", "-o")
    points.hold("tile stored")
    with subprocess.Popen(command_of(*words, tmp_path / "a.tif"), stderr=subprocess.PIPE) as first:
        try:
            assert points.wait("tile stored") == first.pid
            later = command_of(*words, tmp_path / "b.tif")
            with subprocess.Popen(later, stderr=subprocess.PIPE, text=True) as second:
                # Else it ends with a sentence on the other run.
                said = next(filter(lambda line: " run " in line, second.stderr), "")
                points.go("tile stored")
                rest = second.communicate(timeout=patience())[1]
            assert "Waiting for another run" in said, rest
        finally:
            points.go("tile stored")
        first.communicate(timeout=patience())
    assert first.returncode == second.returncode == 0, rest
    assert contents(tmp_path / "a.tif") == contents(tmp_path / "b.tif")
