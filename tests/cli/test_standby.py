"""A process on standby runs commands as new processes would."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from napari_restore.commands import _standby
from napari_restore.commands._main import STANDBY

from ._scenes import hazy, write_tiff

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is none")
COMMAND = [sys.executable, "-m", "napari_restore"]
OPTIONS = ["--model", "identity", "--fresh", "--overwrite", "--progress", "json"]
MODULE = _standby.WAITING
LISTENS = "00010000"
"""Flags of a socket in /proc/net/unix that accepts connections."""
END = 60
"""Seconds that anything may take, also beside other work."""


def until(condition: Callable[[], Any]) -> Any:
    """Return what `condition` returns once that is something."""
    end = time.monotonic() + END
    while time.monotonic() < end:
        if (found := condition()) is not None:
            return found
        time.sleep(0.02)
    raise AssertionError("it never came to be")


def waiting_process(environment: dict[str, str]) -> psutil.Process | None:
    """Return the process on standby for commands of an environment, which may still load libraries."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            here = process.environ().get("NAPARI_RESTORE_CACHE")
            is_it = here == environment["NAPARI_RESTORE_CACHE"] and MODULE in process.cmdline()
            # That of a command has the same words.
            if is_it and MODULE not in process.parent().cmdline() and not has_ended(process):
                return process
    return None


def has_ended(process: psutil.Process) -> bool | None:
    """Return True once a process has ended, also where nobody asks for its exit code."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE or None
    except psutil.NoSuchProcess:
        return True


def listening_process(environment: dict[str, str]) -> psutil.Process | None:
    """Return the same once it accepts commands."""
    process = waiting_process(environment)
    if process is None:
        return None
    address = process.cmdline()[-3]
    for line in Path("/proc/net/unix").read_text().splitlines():
        fields = line.split()
        if fields[-1] == f"@{address}" and fields[3] == LISTENS:
            return process
    return None


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of commands, which asks for a process on standby; that is ended afterwards."""
    if _standby.standby("5") is None:
        pytest.skip("without /proc there is none")
    asked = {**os.environ, STANDBY: "5", "NAPARI_RESTORE_CACHE": str(tmp_path / "cache")}
    yield asked
    while (process := waiting_process(asked)) is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in (*process.children(), process):
                each.kill()


def run(
    environment: dict[str, str], *words: object, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=4 * END,
        **options,
    )


@pytest.fixture
def ready(environment: dict[str, str], scene: Path, tmp_path: Path) -> psutil.Process:
    """The process on standby, after a first command."""
    first = run(environment, "restore", scene, "-o", tmp_path / "first.tif", *OPTIONS)
    assert first.returncode == 0, first.stderr
    return until(lambda: listening_process(environment))


def ran(process: psutil.Process) -> float:
    """Return the processor seconds of the commands that it has run."""
    times = process.cpu_times()
    return times.children_user + times.children_system


def test_a_command_runs_as_in_a_new_process(
    environment: dict[str, str], ready: psutil.Process, scene: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    words = ["restore", scene, "-o", "second.tif", *OPTIONS, "--json"]
    done = run({**environment, "COLUMNS": "40"}, *words, cwd=folder, umask=0o077)
    assert done.returncode == 0, done.stderr
    assert ran(ready) > 0
    record = json.loads(done.stdout)
    assert record["command"] == shlex.join(["napari-restore", *map(str, words)])
    assert {json.loads(line)["event"] for line in done.stderr.splitlines()} >= {"Phase", "TileDone"}
    out = folder / "second.tif"
    assert out.read_bytes() == (tmp_path / "first.tif").read_bytes()
    assert out.stat().st_mode & 0o777 == 0o600

    # The codes and sentences of errors are those of the command.
    missing = run(environment, "restore", "no.tif", "-o", "x.tif", *OPTIONS, cwd=folder)
    assert missing.returncode == 2 and missing.stdout == ""
    assert "no.tif" in missing.stderr and "Traceback" not in missing.stderr
    before = ran(ready)
    assert run(environment, "--version").stdout.startswith("napari-restore ")
    assert ran(ready) > before


def test_a_closed_stream_is_that_of_a_new_process(
    environment: dict[str, str], ready: psutil.Process, scene: Path
) -> None:
    words = shlex.join([*COMMAND, "info", str(scene), "--json"])
    closed = subprocess.run(
        ["sh", "-c", f"{words} >&-"], env=environment, capture_output=True, text=True
    )
    assert closed.returncode != 0 and "stdout" in closed.stderr


def test_edited_code_is_not_what_is_loaded(
    environment: dict[str, str], scene: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    own = folder / "sitecustomize.py"
    own.write_text("NUMBER = 1\n")
    usual = os.environ.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), usual]))
    first = run(environment, "restore", scene, "-o", tmp_path / "first.tif", *OPTIONS)
    assert first.returncode == 0, first.stderr
    process = until(lambda: listening_process(environment))
    before = ran(process)
    assert run(environment, "--version").returncode == 0 and ran(process) > before
    # Its folder stays the same.
    own.write_text("NUMBER = 2  # another one\n")
    assert run(environment, "--version").returncode == 0
    until(lambda: has_ended(process))


@contextlib.contextmanager
def under_way(
    environment: dict[str, str], ready: psutil.Process, folder: Path
) -> Iterator[tuple[subprocess.Popen[str], psutil.Process, list[object]]]:
    """A run with a finished tile: the process of its user, that of the command, and its words."""
    # Large enough to be under way for seconds.
    source = write_tiff(folder / "s.tif", hazy(2400, 3000), tiled=True)
    words: list[object] = ["restore", source, "-o", folder / "out.tif", "--model", "dcp"]
    words += ["--tile", 128, "--memory", "400MiB", "--progress", "json"]
    with subprocess.Popen(
        [*COMMAND, *map(str, words)], env=environment, stderr=subprocess.PIPE, text=True
    ) as user:
        assert user.stderr is not None
        user.stderr.readline()
        (command,) = ready.children()
        for line in user.stderr:
            if json.loads(line)["event"] == "TileDone":
                break
        yield user, command, words
    until(lambda: has_ended(command))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_the_command(
    environment: dict[str, str], ready: psutil.Process, tmp_path: Path, number: signal.Signals
) -> None:
    with under_way(environment, ready, tmp_path) as (user, _, words):
        user.send_signal(number)
        user.communicate(timeout=END)
    # Ctrl-C ends with a code of its own; whatever else ends a process is seen by who started it.
    assert user.returncode == (3 if number == signal.SIGINT else -number)
    assert not (tmp_path / "out.tif").exists()
    resumed = run(environment, *words, "--json")
    assert json.loads(resumed.stdout)["measured"]["tiles_resumed"] >= 1


@pytest.mark.slow
def test_a_killed_command_is_one_of_the_user(
    environment: dict[str, str], ready: psutil.Process, tmp_path: Path
) -> None:
    with under_way(environment, ready, tmp_path) as (user, command, _):
        command.kill()
        assert "Traceback" not in user.communicate(timeout=END)[1]
    assert user.returncode == -signal.SIGKILL
    assert run(environment, "--version").returncode == 0 and not has_ended(ready)


@pytest.mark.slow
def test_a_command_ends_where_the_process_is_killed(
    environment: dict[str, str], ready: psutil.Process, tmp_path: Path
) -> None:
    with under_way(environment, ready, tmp_path) as (user, _, _):
        ready.kill()
        assert _standby.ENDED in user.communicate(timeout=END)[1]
    assert user.returncode == 1


@pytest.mark.slow
def test_it_ends_when_nobody_comes(environment: dict[str, str], tmp_path: Path) -> None:
    scene = write_tiff(tmp_path / "s.tif", hazy())
    environment[STANDBY] = "0.1"
    run(environment, "restore", scene, "-o", tmp_path / "o.tif", *OPTIONS)
    process = until(lambda: waiting_process(environment))
    until(lambda: has_ended(process))
    assert run(environment, "--version").returncode == 0


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", "1e9"])
def test_what_is_no_number_of_minutes(text: str) -> None:
    refused = run({**os.environ, STANDBY: text}, "--version")
    assert refused.returncode == 2 and refused.stdout == ""
    assert "no number of minutes" in refused.stderr and "Traceback" not in refused.stderr


def test_its_address_is_that_of_what_a_command_would_load(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = dict(os.environ)
    usual = _standby.address_of(environment, "")
    for name, value in {"TERM": "dumb", "PWD": "/", "KITTY_WINDOW_ID": "7"}.items():
        assert _standby.address_of({**environment, name: value}, "") == usual
    for name, value in {"OMP_NUM_THREADS": "31", "GDAL_CACHEMAX": "7", "LANG": "xx"}.items():
        assert _standby.address_of({**environment, name: value}, "") != usual, name
    for name, value in {"getresuid": lambda: (1, 1, 1), "getpriority": lambda *_: 7}.items():
        with monkeypatch.context() as patch:
            patch.setattr(os, name, value)
            assert _standby.address_of(environment, "") != usual
    with monkeypatch.context() as patch:
        patch.setattr(_standby, "state_of", lambda path: (1, 1))
        assert _standby.address_of(environment, "") != usual


def test_another_user_or_container_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert _standby.is_own(one)
        with monkeypatch.context() as patch:
            patch.setattr(os, "getuid", lambda: 12345)
            assert not _standby.is_own(one)
        place = _standby._place
        with monkeypatch.context() as patch:
            patch.setattr(_standby, "_place", lambda who: [str(who == "self"), *place(who)])
            assert not _standby.is_own(one)
