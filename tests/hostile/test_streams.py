"""Standard streams that are closed, full or gone; limits of the process; lines of C libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Tiff = Callable[..., Path]

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a POSIX shell")


def shell(
    command: str, *words: object, under: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """`napari-restore WORDS` in a shell, as `command`, which has `run` where the words go."""
    program = [sys.executable, "-m", "napari_restore", *map(str, words)]
    script = f'run() {{ {under} "$@"; }}\n' + command.replace("run", 'run "$@"', 1)
    done = subprocess.run(
        ["bash", "-c", script, "bash", *program],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    return done


CLOSED = "run >&-"
FULL = "run >/dev/full"


@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [
        (["models"], ""),
        (["models", "--json"], ""),
        (["--help"], "1"),
        (["restore", "--help"], ""),
        (["--version"], ""),
    ],
)
def test_an_answer_that_cannot_be_written_is_no_success(words: list[str], unbuffered: str) -> None:
    done = shell(FULL, *words, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 4
    assert "stdout" in done.stderr and done.stderr.count("\n") == 1


def test_a_closed_stdout() -> None:
    done = shell(CLOSED, "models")
    assert done.returncode == 2
    assert "stdout" in done.stderr and done.stderr.count("\n") == 1


def test_a_reader_that_leaves_is_no_failure() -> None:
    done = shell('run | true; exit "${PIPESTATUS[0]}"', "models")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("stream", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
@pytest.mark.slow
@pytest.mark.ids("nightly", "2>&-")
def test_errors_that_nobody_can_read_keep_their_exit_code(stream: str, tmp_path: Path) -> None:
    assert shell(f"run {stream}", "info", tmp_path / "none.tif").returncode == 2
    assert shell(f"run {stream}", "info").returncode == 2


@pytest.mark.parametrize(
    "stream", [">/dev/full", pytest.param("2>/dev/full", marks=pytest.mark.slow), "<&- >&- 2>&-"]
)
@pytest.mark.slow
@pytest.mark.ids("nightly", "2>/dev/full", ">/dev/full", "<&- >&- 2>&-")
def test_a_restored_file_is_there_whatever_becomes_of_the_streams(
    stream: str, tmp_path: Path, tiff: Tiff
) -> None:
    source, out = tiff(), tmp_path / "out.tif"
    done = shell(f"run {stream}", "restore", source, "-o", out, "--model", "identity")
    assert done.returncode == 0
    content = out.read_bytes()
    assert content.startswith(b"II") and b"Restoring" not in content


@pytest.mark.slow
@pytest.mark.nightly
def test_json_that_cannot_be_written_is_no_success(tmp_path: Path, tiff: Tiff) -> None:
    words = ["restore", tiff(), "-o", tmp_path / "out.tif", "--model", "identity", "--json"]
    assert shell(FULL, *words, "--progress", "off").returncode == 4


@pytest.mark.parametrize("limit", [200_000, 600_000])
def test_little_address_space_is_a_sentence(limit: int, tmp_path: Path, tiff: Tiff) -> None:
    words = ["restore", tiff(), "-o", tmp_path / "out.tif", "--model", "identity"]
    done = shell("run", *words, "--progress", "off", under=f"ulimit -v {limit};")
    assert done.returncode == 4
    assert "ulimit -v" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_budget_follows_the_address_space(tiff: Tiff) -> None:
    words = ["plan", tiff(), "--model", "identity", "--json"]
    done = shell("run", *words, under="ulimit -v 3000000;")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["memory_bytes"] < 0.6 * 3_000_000 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["none", pytest.param("deflate", marks=pytest.mark.slow)])
@pytest.mark.ids("nightly", "none", "deflate")
def test_lines_of_libtiff_stay_out_of_the_terminal(
    compression: str, tmp_path: Path, tiff: Tiff
) -> None:
    out = tmp_path / "out.tif"
    words = ["restore", tiff(size=1024), "-o", out, "--model", "identity"]
    words += ["--compress", compression, "--progress", "off"]
    # The store of the run has smaller files than the image, which is one.
    done = shell("run", *words, under="ulimit -f 700;")
    assert done.returncode in (2, 4)
    assert done.stderr.startswith("napari-restore: ") and done.stderr.count("\n") == 1
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["device", "pipe"])
@pytest.mark.ids("nightly", "pipe", "device")
def test_devices_and_pipes_are_not_replaced(kind: str, tmp_path: Path, tiff: Tiff) -> None:
    special = tmp_path / "special.tif"
    if kind == "pipe":
        os.mkfifo(special)
    else:
        special.symlink_to("/dev/full")
    for words in (["-o", special], ["-o", tmp_path / "out.tif", "--record", special]):
        done = shell("run", "restore", tiff(), "--model", "identity", "--overwrite", *words)
        assert done.returncode == 2 and "device or a pipe" in done.stderr
    assert not special.is_file()
    assert not (tmp_path / "out.tif").exists()
