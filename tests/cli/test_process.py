"""Stopped, killed and started: the program in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from points import patience

from napari_restore import api
from napari_restore.commands import main

from ._scenes import hazy, read, write_tiff


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="another way to send Ctrl-C")
@pytest.mark.nightly
def test_ctrl_c_ends_with_3_and_the_same_command_goes_on(tmp_path, points):
    source = write_tiff(tmp_path / "s.tif", hazy(1200, 1200), tiled=True)
    out = tmp_path / "out.tif"
    words = ["restore", source, "-o", out, "--model", "dcp", "--tile", "128", "--memory", "400MiB"]
    command = [sys.executable, "-m", "napari_restore", *map(str, words), "--json"]
    code, rest, said = stopped_after_a_tile(command, points, signal.SIGINT)
    assert code == 3, said
    assert json.loads(rest)["error"]["type"] == "Cancelled"
    assert "Traceback" not in said
    assert not out.exists()
    assert not list(tmp_path.glob(".*out*")) and not list(tmp_path.glob("out*"))

    done = subprocess.run(command, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    assert record["measured"]["tiles_resumed"] >= 1 and record["measured"]["tiles_done"] >= 1
    whole = tmp_path / "whole.tif"
    assert main(["restore", str(source), "-o", str(whole), "--model", "dcp", "--fresh"]) == 0
    assert np.array_equal(read(out), read(whole))


def command_of(*words: object) -> list[str]:
    return [sys.executable, "-m", "napari_restore", *map(str, words)]


def stopped_after_a_tile(command: list[str], points: Any, number: int) -> tuple[int, str, str]:
    """Run, and send the signal when one tile is stored; the exit code, what was printed and said."""
    points.hold("tile stored", "cancel requested")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, encoding="utf-8") as child:
        assert points.wait("tile stored") == child.pid
        child.send_signal(number)
        if number != signal.SIGKILL:
            points.wait("cancel requested")
        points.go("tile stored", "cancel requested")
        printed, said = child.communicate(timeout=patience())
    return child.returncode, printed, said


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="another way to kill")
@pytest.mark.parametrize("name", ["out.tif", pytest.param("out.zarr", marks=pytest.mark.nightly)])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path, own_cache, name, capsys, points):
    source = write_tiff(tmp_path / "s.tif", hazy(900, 1000), tiled=True)
    out, whole = tmp_path / name, tmp_path / f"whole{Path(name).suffix}"
    words = ["restore", source, "-o", out, "--model", "dcp", "--tile", 128, "--memory", "400MiB"]
    code, _, _ = stopped_after_a_tile(command_of(*words), points, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert not out.exists()
    # Where the signal arrives while a chunk is written, this is left.
    for chunk in list(own_cache.rglob("c/0/0/0")) + list(tmp_path.rglob("c/0/0/0")):
        chunk.with_name(".0.0123abcd.part").write_bytes(b"half")
    assert main([*map(str, words), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["measured"]
    assert measured["tiles_resumed"] >= 1 and measured["tiles_done"] >= 1
    words = ["restore", source, "-o", whole, "--model", "dcp", "--tile", 128, "--fresh"]
    assert main([str(word) for word in words]) == 0
    assert contents(out) == contents(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["s.tif", name, whole.name])


def contents(path: Path) -> dict[str, bytes]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in files if p.is_file()}


@pytest.mark.nightly
def test_the_environment_is_set_before_the_libraries_load():
    # Tells, at the moment torch is looked for, what it will find.
    code = """
import os, sys
os.environ.pop("OMP_WAIT_POLICY", None)
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch", os.environ.get("OMP_WAIT_POLICY"), file=sys.stderr)
sys.meta_path.insert(0, Watch())
from napari_restore.commands import main
assert "torch" not in sys.modules
main(["models", "no-such-model"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line for line in done.stderr.splitlines() if line.startswith("torch")] == [
        "torch PASSIVE"
    ]


def test_a_bug_says_so_and_ends_with_1(cli, monkeypatch):

    def broken() -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(api, "models", broken)
    run = cli("models", "--json")
    assert run.code == 1
    assert "bug" in run.err and "ZeroDivisionError" in run.err
    assert run.json["error"]["type"] == "ZeroDivisionError"
