"""Environments for the child processes of a window: checked, refused, made."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import venv
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from points import patience

from napari_restore import api
from napari_restore.api import _environments
from napari_restore.engine import OTHER_VERSION, WANTED, Worker, start_apart
from napari_restore.errors import Cancelled, InputError, ResourceError

OWN = version("napari-restore")
TORCH = "__version__ = '2.99.0'"
posix = pytest.mark.skipif(os.name == "nt", reason="the stand-in for uv is a script with #!")


@pytest.fixture
def environment(tmp_path: Path) -> Callable[..., Path]:
    """A function that makes an environment with stand-ins for napari-restore and torch."""

    def make(restore: str | None = OWN, torch: str | None = TORCH, worker: str = "") -> Path:
        folder = tmp_path / "an environment"
        venv.create(folder, with_pip=False)
        (site,) = [*folder.glob("lib/python*/site-packages"), *folder.glob("Lib/site-packages")]
        if torch is not None:
            (site / "torch.py").write_text(torch)
        if restore is not None:
            about = site / f"napari_restore-{restore}.dist-info"
            about.mkdir()
            about.joinpath("METADATA").write_text(
                f"Metadata-Version: 2.1\nName: napari-restore\nVersion: {restore}\n"
            )
            commands = site / "napari_restore" / "commands"
            commands.mkdir(parents=True)
            for file in (commands.parent / "__init__.py", commands / "__init__.py"):
                file.touch()
            (commands / "worker.py").write_text(worker)
        return folder

    return make


def test_a_folder_or_its_python_is_found_to_have_torch_and_this_version(
    environment: Callable[..., Path],
) -> None:
    folder = environment()
    found = api.check_environment(str(folder))
    assert (found.version, found.torch) == (OWN, "2.99.0")
    assert found.python_version == sys.version.split()[0]
    assert Path(found.python).is_relative_to(folder)
    assert api.check_environment(found.python) == found
    assert str(found) == f"Python {found.python_version}, torch 2.99.0"


@pytest.mark.parametrize(
    ("has", "message", "hint"),
    [
        ({"restore": None}, "has no napari-restore", f"pip install napari-restore=={OWN}"),
        ({"restore": "0.0.7"}, f"has napari-restore 0.0.7; this is {OWN}", f"=={OWN}"),
        ({"worker": "raise ValueError('size changed')"}, "size changed", f"=={OWN}"),
        ({"torch": None}, "torch cannot be imported", "pip install torch"),
        ({"torch": "raise OSError('no DLL')"}, "no DLL", "pip install torch"),
    ],
)
def test_an_environment_that_will_not_do_is_refused_in_a_sentence(
    environment: Callable[..., Path], has: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as refused:
        api.check_environment(str(environment(**has)))
    assert hint in refused.value.hint


def test_what_is_no_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no Python in"):
        api.check_environment(str(tmp_path))
    file = tmp_path / "python"
    file.write_text("no program")
    file.chmod(0o755)
    with pytest.raises(InputError, match="does not answer"):
        api.check_environment(str(file))


def test_the_modules_of_this_environment_do_not_leak(
    environment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("__version__ = 'leaked'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="torch cannot be imported"):
        api.check_environment(str(environment(torch=None)))


def test_a_check_that_is_cancelled_ends(environment: Callable[..., Path]) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        api.check_environment(str(environment()), stop)


@posix
def test_a_program_that_does_not_answer_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_environments, "PATIENCE", 0.3)
    file, mark = tmp_path / "python", tmp_path / "mark"
    file.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(20)\nopen({str(mark)!r}, 'w')\n")
    file.chmod(0o755)
    with pytest.raises(InputError, match="does not answer"):
        api.check_environment(str(file))
    assert not mark.exists()


# -- the child process ---------------------------------------------------------------


ECHO = """
import json, sys
for line in sys.stdin if __name__ == "__main__" else ():
    message = json.loads(line)
    found = {"event": "Finished", "task": message["task"], "by": sys.executable, "path": sys.path}
    print(json.dumps(found), flush=True)
"""


def test_the_child_runs_in_the_environment_and_can_be_moved(
    environment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    python = api.check_environment(str(environment(worker=ECHO))).python
    worker = Worker("napari_restore.commands.worker")
    worker.use(python)
    try:
        events: list[dict[str, Any]] = []
        ended = threading.Event()

        def listen(event: dict[str, Any]) -> None:
            events.append(event)
            ended.set()

        worker.submit({}, listen)
        assert ended.wait(patience())
        assert events[0]["by"] == python
        assert str(tmp_path) not in events[0]["path"]
        before = worker.process
        worker.use("")
        assert worker.process is None
        assert before is not None and before.wait(patience()) == 0
    finally:
        worker.close()


def test_an_environment_that_was_changed_since_is_reported(
    environment: Callable[..., Path], tmp_path: Path
) -> None:
    folder = environment(worker=f"if __name__ == '__main__': raise SystemExit({OTHER_VERSION})")
    worker = Worker("napari_restore.commands.worker", api.check_environment(str(folder)).python)
    with pytest.raises(ResourceError, match="another version of napari-restore than"):
        worker.ask("plan", {})
    worker.use(str(tmp_path / "gone"))
    with pytest.raises(ResourceError, match="cannot be started"):
        worker.ask("plan", {})


def test_the_child_refuses_to_answer_another_version() -> None:
    program = [sys.executable, "-m", "napari_restore.api.worker"]
    for wanted, code in (("0.0.7", OTHER_VERSION), (OWN, 0)):
        environ = {**os.environ, WANTED: wanted}
        assert subprocess.run(program, env=environ, input="", text=True).returncode == code


# -- making one ----------------------------------------------------------------------

FAKE = """#!{python}
import json, pathlib, sys, time
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(arguments) + "\\n")
if arguments[0] == "venv":
    (pathlib.Path(arguments[-1]) / "pyvenv.cfg").touch()
    print("Creating virtual environment", flush=True)
else:
    print("Downloading torch (800.0MiB)", flush=True)
    print("Downloading numpy (16.1MiB)", flush=True)
    print(" Downloaded numpy", flush=True)
{then}
"""


@pytest.fixture
def fake_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A function that puts a stand-in for uv on PATH, and returns the folder it makes."""

    def put(then: str) -> Path:
        programs, folder = tmp_path / "bin", tmp_path / "data" / "made"
        programs.mkdir()
        file = programs / "uv"
        log = str(tmp_path / "log")
        file.write_text(FAKE.format(python=sys.executable, log=log, then=then))
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        return folder

    return put


@posix
def test_uv_makes_it_with_this_version_and_reports(
    fake_uv: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fake_uv("")
    monkeypatch.setattr(_environments, "_requirement", lambda: ["napari-restore==1.2.3"])
    monkeypatch.setattr(_environments, "check_environment", lambda python, stop: python)
    said: list[str] = []
    made: Any = api.make_environment(said.append, folder=folder)
    assert made == str(folder / "bin" / "python")
    venv_call, install = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert venv_call[0] == "venv" and venv_call[-1] == str(folder)
    assert install == ["pip", "install", "--python", made, "napari-restore==1.2.3"]
    assert said[-3:] == ["Downloading numpy (16.1MiB)", "Downloaded numpy (1 of 2)", "Checking …"]


@posix
def test_making_is_cancelled_and_failures_leave_nothing(
    fake_uv: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = fake_uv("    time.sleep(600)")
    stop = threading.Event()

    def emit(text: str) -> None:
        if "torch" in text:
            stop.set()

    with pytest.raises(Cancelled):
        api.make_environment(emit, stop, folder)
    assert not folder.exists()
    (tmp_path / "bin" / "uv").write_text("#!/bin/sh\necho no route to host\nexit 2\n")
    with pytest.raises(ResourceError, match="no route to host"):
        api.make_environment(lambda text: None, None, folder)
    assert not folder.exists()


@posix
def test_a_failure_keeps_the_earlier_one(fake_uv: Callable[[str], Path]) -> None:
    folder = fake_uv("    sys.exit('no space left')")
    folder.mkdir(parents=True)
    (folder / "mine").touch()
    with pytest.raises(ResourceError, match="no space left"):
        api.make_environment(lambda text: None, None, folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert (folder / "mine").exists()


def made_at(first: Path) -> Path:
    """Make an environment, which `check_environment` returns as its Python; return its folder."""
    made: Any = api.make_environment(lambda text: None, folder=first)
    return Path(made).parents[1]


@posix
def test_one_is_made_beside_what_is_in_use_which_goes_later(
    fake_uv: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows renames no folder in which a file is open: that of a running Python, say."""
    first = fake_uv("")
    monkeypatch.setattr(_environments, "check_environment", lambda python, stop: python)
    in_use = {first}
    rename = Path.rename

    def like_windows(self: Path, target: Path) -> Path:
        if self in in_use:
            raise PermissionError(13, "The process cannot access the file", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", like_windows)

    def there() -> set[str]:
        return {path.name for path in first.parent.iterdir()}

    assert made_at(first) == first
    (first / "file").touch()
    # A user's own, what a kill left, and one of a version that renamed the folder aside.
    for name in ("made-mine", "made-7", "made.earlier"):
        (first.parent / name).mkdir()
    second = made_at(first)
    assert second.name == "made-2"
    api.remove_earlier_environments(str(second / "bin" / "python"), first)
    assert there() == {"made", "made-2", "made-mine"} and (first / "file").exists()
    in_use.clear()
    api.remove_earlier_environments(str(second / "bin" / "python"), first)
    assert there() == {"made-2", "made-mine"}
    assert made_at(first) == first
    # The one in use is another: what was made may be another window's.
    api.remove_earlier_environments("/another/bin/python", first)
    assert there() == {"made", "made-2", "made-mine"}


@posix
def test_what_another_window_uses_or_makes_is_not_removed(
    fake_uv: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fake_uv("")
    monkeypatch.setattr(_environments, "check_environment", lambda python, stop: python)
    python = str(made_at(first) / "bin" / "python")
    words = (
        f"from napari_restore import api; from pathlib import Path; first = Path({str(first)!r})"
    )
    words += f"; leave = api.use_environment({python!r}, first); print('used', flush=True); input()"
    window = subprocess.Popen(
        [sys.executable, "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert window.stdout is not None and window.stdout.readline() == "used\n"
    making: list[set[str]] = []

    def checked(python: str, stop: Any) -> str:
        # While this one is made, another window has made its own.
        api.remove_earlier_environments(str(first.with_name("made-9") / "bin" / "python"), first)
        making.append({path.name for path in first.parent.iterdir() if path.is_dir()})
        return python

    first.with_name("made-9").mkdir()
    monkeypatch.setattr(_environments, "check_environment", checked)
    second = made_at(first)
    assert {"made", "made-2", "made-9"} <= making[0]
    api.remove_earlier_environments(str(second / "bin" / "python"), first)
    assert first.exists() and not first.with_name("made-9").exists()
    # However it ends.
    window.kill()
    window.communicate()
    api.remove_earlier_environments(str(second / "bin" / "python"), first)
    assert [path.name for path in first.parent.iterdir() if path.is_dir()] == ["made-2"]


def test_no_variable_leads_another_environment_to_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`__PYVENV_LAUNCHER__` is set by Pythons of macOS, and heeded there whatever -I says."""
    leading = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    monkeypatch.setattr(sys, "platform", "darwin")
    for name in leading:
        monkeypatch.setenv(name, "/of/this/one")
    given: list[dict[str, str]] = []

    def popen(command: list[str], **options: Any) -> Any:
        given.append(options["env"])
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(ResourceError, match="cannot be started"):
        start_apart("/other/bin/python", ["-m", "napari_restore.commands.worker"])
    with pytest.raises(InputError, match="does not answer"):
        api.check_environment(sys.executable)
    assert len(given) == 2
    for environment in given:
        assert environment["PATH"] == os.environ["PATH"]
        assert not environment.keys() & set(leading)


def test_without_uv_one_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_environments.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(ResourceError, match="uv, which makes environments") as refused:
        api.make_environment(lambda text: None, folder=tmp_path / "made")
    assert "pip install uv" in refused.value.hint


@pytest.mark.parametrize(
    ("place", "arguments"),
    [
        (None, [f"napari-restore=={OWN}"]),
        ({"url": "file:///a/b", "dir_info": {"editable": True}}, ["--editable", "file:///a/b"]),
        ({"url": "file:///a.whl", "archive_info": {}}, ["napari-restore @ file:///a.whl"]),
        (
            {"url": "https://a/b.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            ["napari-restore @ git+https://a/b.git@c0ffee"],
        ),
        (
            {
                "url": "https://a/b.git",
                "vcs_info": {"vcs": "git", "commit_id": "c0ffee"},
                "subdirectory": "plugins/restore",
            },
            ["napari-restore @ git+https://a/b.git@c0ffee#subdirectory=plugins/restore"],
        ),
        (
            {"url": "https://a/b.tar.gz", "archive_info": {}, "subdirectory": "restore"},
            ["napari-restore @ https://a/b.tar.gz#subdirectory=restore"],
        ),
        (
            {"url": "file:///a/b", "dir_info": {}, "subdirectory": "my restore"},
            ["napari-restore @ file:///a/b/my%20restore"],
        ),
        (
            {"url": "file:///a/b/", "dir_info": {"editable": True}, "subdirectory": "restore"},
            ["--editable", "file:///a/b/restore"],
        ),
    ],
)
def test_what_is_installed_is_what_runs_here(
    place: Any, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if place is None else json.dumps(place)

    monkeypatch.setattr(_environments, "distribution", lambda name: Distribution())
    assert _environments._requirement() == arguments
