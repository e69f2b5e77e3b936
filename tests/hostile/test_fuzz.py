"""A few hundred damaged files of all kinds, and that what watches over them would notice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_restore.errors import RestoreError
from napari_restore.images import Image

from .conftest import read_all

FUZZ = Path(__file__).parent / "fuzz"
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
linux = pytest.mark.skipif(sys.platform != "linux", reason="forks and limits are those of Linux")


@linux
@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_damaged_files_end_in_sentences(tmp_path: Path) -> None:
    """As `make fuzz` does with 20 000; what fails is repeated by the number that it names."""
    words = [sys.executable, str(FUZZ), "--cases", "40", "--report", str(tmp_path)]
    found = subprocess.run(words, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


WATCHED = """
import ctypes, os, socket, sys, threading
from pathlib import Path
import confine
folder = Path(sys.argv[1])
confine.PEAK = 32 << 20

def thread():
    lost = threading.Thread(target=lambda: 1 / 0)
    lost.start()
    lost.join()

works = {
    "nothing": lambda: None,
    "traceback: ZeroDivisionError": lambda: 1 / 0,
    "traceback: in another thread": thread,
    "hang": lambda: exec("while True: pass"),
    "peak": lambda: b"1" * (4 * confine.PEAK),
    "crash": lambda: ctypes.string_at(0),
    "connection": lambda: ctypes.CDLL(None).socket(socket.AF_INET, socket.SOCK_STREAM, 0),
    "traceback: Forbidden": lambda: os.system("true"),
}
for expected, work in works.items():
    confine.SECONDS = 1 if expected == "hang" else 10
    problem = confine.run_confined(work, folder / "log").problem
    print(expected, "|", problem)
    assert problem.startswith(expected) if expected != "nothing" else not problem
"""


@linux
@pytest.mark.slow
def test_the_watch_sees_what_goes_wrong(tmp_path: Path) -> None:
    """A crash, a hang, too much memory, a socket that C opened, another program."""
    subprocess.run(
        [sys.executable, "-c", WATCHED, str(tmp_path)],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(FUZZ)},
        check=True,
    )


CHANGED = """
import sys
from pathlib import Path
import cases, doors
from corpus import Seed
seed = Seed("text", {"input/a.txt": b"a"}, ("input/a.txt",), ("write",))
for place in ("input/a.txt", "victim/secret.tif", "home/new", "new"):
    doors.DOORS["write"] = lambda case, paths: (case / place).write_text("changed")
    (case,) = cases.good_cases([seed])
    problem = cases.run_case(case, Path(sys.argv[1]) / "case", "").problem
    assert problem == f"changed: {place}", problem
doors.DOORS["write"] = lambda case, paths: (case / "output" / "new").write_text("new")
assert not cases.run_case(case, Path(sys.argv[1]) / "case", "").problem
"""


@linux
@pytest.mark.slow
def test_the_watch_sees_changed_files(tmp_path: Path) -> None:
    path = os.pathsep.join([str(FUZZ), *sys.path])
    subprocess.run(
        [sys.executable, "-c", CHANGED, str(tmp_path)],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path},
        check=True,
    )


@pytest.mark.nightly
def test_changes_of_structures_are_made(tmp_path: Path) -> None:
    """Each keeps what it can of good files: none of them gives up on the corpus itself."""
    script = """
import random, sys
from pathlib import Path
from images import write_images
import corpus, structures
from mutate import mutate
folder = Path(sys.argv[1])
import numpy, zarr
write_images(folder)
(folder / "t.csv").write_text("x,y\\n1,2\\n")
(folder / "t.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
numpy.savez(folder / "t.npz", a=numpy.zeros(3))
(folder / "t.jsonl").write_text('{"a": 1}\\n')
(folder / "t.prj").write_text('GEOGCS["a"]')
(folder / "t.toml").write_text("a = 1\\n")
(folder / "t.onnx").write_bytes(corpus._graph())
seen = set()
for path in sorted(p for p in folder.rglob("*") if p.is_file()):
    data = path.read_bytes()
    for fits, change in structures.STRUCTURES:
        if fits(data, path.name):
            for number in range(20):
                changed, told = change(data, random.Random(number), mutate)
                assert isinstance(changed, bytes) and told
            assert mutate(data, path.name, random.Random(7)) == mutate(data, path.name, random.Random(7))
            seen.add(change)
missing = {change for _, change in structures.STRUCTURES} - seen - {structures.change_npy}
assert not missing, missing
"""
    path = os.pathsep.join([str(FUZZ), *sys.path])
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path},
        check=True,
    )


def _kept() -> list[Path]:
    """Files that once broke a reader, where a folder of them lies beside the checkout."""
    default = Path(__file__).parents[3] / "shared" / "hostile"
    folder = Path(os.environ.get("NAPARI_RESTORE_HOSTILE_DATA", default))
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        # A folder of one file and what lies beside it is named by both.
        path / path.name.split("-", 2)[2] if path.is_dir() and "-" in path.name else path
        for path in found
    ]


@pytest.mark.parametrize("path", _kept(), ids=lambda path: path.name)
def test_files_that_broke_readers(path: Path) -> None:
    found = read_all(path)
    assert isinstance(found, (Image, RestoreError))
