"""Environments in which a window's child processes run: what one must have, and how one is made."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from napari_restore.engine import variables_apart
from napari_restore.errors import Cancelled, InputError, ResourceError
from napari_restore.images import is_used, mark_use

PACKAGE = "napari-restore"
LOOK_SECONDS = 0.1
MARK_ATTEMPTS = 3
PATIENCE = 120.0
"""Seconds that an environment has to say what is in it: torch takes some from a slow disk."""
CHECK = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
own = torch = None
broken = why = ""
try:
    own = version("napari-restore")
    import napari_restore.commands.worker
except PackageNotFoundError:
    pass
except Exception as error:
    broken = repr(error)
try:
    import torch
    torch = torch.__version__
except Exception as error:
    torch, why = None, repr(error)
python = sys.version.split()[0]
found = {"version": own, "broken": broken, "torch": torch, "why": why, "python": python}
print("\\n" + json.dumps(found))
"""
"""Program that says in its last line what an environment has."""
Emit = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    """A Python environment that child processes can run in."""

    python: str
    """Path of its interpreter."""
    version: str
    """Of napari-restore in it, that of this process."""
    torch: str
    python_version: str

    def __str__(self) -> str:
        return f"Python {self.python_version}, torch {self.torch}"


def check_environment(path: str, stop: threading.Event | None = None) -> Environment:
    """Return what an environment has; `path` is its folder or its interpreter. Takes seconds.

    Starts its Python, which imports torch. Raises `InputError` where it is none, or has no torch, or not
    the version of napari-restore that runs here: plans and questions have the fields of one version.
    """
    python = interpreter_in(path)
    own = version(PACKAGE)
    said = _said_by(python, stop)
    if said["version"] is None:
        raise InputError(
            f"The environment of {python} has no napari-restore.",
            f"Install it there: pip install {PACKAGE}=={own}.",
        )
    if said["version"] != own:
        raise InputError(
            f"The environment of {python} has napari-restore {said['version']}; this is {own}.",
            f"Install the same there: pip install {PACKAGE}=={own}.",
        )
    if said["broken"]:
        raise InputError(
            f"napari-restore cannot be imported in the environment of {python}: {said['broken']}.",
            f"Install it there again: pip install {PACKAGE}=={own}.",
        )
    if said["torch"] is None:
        raise InputError(
            f"torch cannot be imported in the environment of {python}: {said['why']}.",
            "Install it there: pip install torch.",
        )
    return Environment(python, own, said["torch"], said["python"])


def interpreter_in(path: str) -> str:
    """Return the interpreter that `path` is, or that lies in the folder of an environment.

    Raises `InputError` where there is none.
    """
    place = Path(os.path.abspath(os.path.expanduser(path.strip())))
    # Links stay: by its own path an interpreter finds the environment it belongs to.
    candidates = [place, *(place / name for name in _names())]
    for each in candidates:
        if each.is_file():
            return str(each)
    raise InputError(
        f"There is no Python in {place}.", "Choose the folder of an environment, or its Python."
    )


def _names() -> tuple[str, ...]:
    windows = ("Scripts/python.exe", "python.exe")
    return windows if os.name == "nt" else ("bin/python", "bin/python3")


def _said_by(python: str, stop: threading.Event | None) -> dict[str, Any]:
    lines: list[str] = []
    try:
        code = _run([python, "-I", "-X", "utf8", "-c", CHECK], lines.append, stop, PATIENCE)
        said = json.loads(lines[-1]) if code == 0 and lines else None
    except (OSError, ValueError):
        said = None
    if not isinstance(said, dict):
        raise InputError(
            f"{python} does not answer as a Python does.",
            "Choose the folder of an environment, or its Python.",
        )
    return said


def environment_folder() -> Path:
    """Return the folder of the first environment that `make_environment` makes; later ones have numbers."""
    import platformdirs

    return Path(platformdirs.user_data_dir(PACKAGE, appauthor=False)) / "environment"


def make_environment(
    emit: Emit, stop: threading.Event | None = None, folder: Path | None = None
) -> Environment:
    """Make an environment with torch and this version of napari-restore by uv; takes minutes.

    `emit` is called with what is being done. It lies in `folder`, by default `environment_folder`, or
    where that is taken beside it, as scripts of an environment name its folder and Windows renames none
    that is in use. An earlier one stays, in use or not, until `remove_earlier_environments`. After `stop`
    or a failure nothing is left of the new one. Raises `ResourceError`, `InputError` where what was made
    does not run, and `Cancelled` once `stop` is set.
    """
    uv = uv_program()
    if uv is None:
        raise ResourceError(
            "uv, which makes environments, is not installed.",
            "Install it (pip install uv), or choose an environment that you have made.",
        )
    first = environment_folder() if folder is None else folder
    emit("Making a folder …")
    try:
        folder = _new_folder(first)
    except OSError as error:
        raise ResourceError(
            f"{first.parent} cannot be written: {error.strerror or error}.",
            "Free space there, or choose an environment that you have made.",
        ) from error
    python = str(folder / _names()[0])
    leave = use_environment(python, first)
    try:
        _uv([uv, "venv", "--no-config", "--python", sys.executable, str(folder)], emit, stop)
        install = [uv, "pip", "install", "--python", python, *_requirement()]
        _uv(install, emit, stop)
        emit("Checking …")
        return check_environment(python, stop)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        leave()


def use_environment(python: str, folder: Path | None = None) -> Callable[[], None]:
    """Keep `remove_earlier_environments` of any process off the environment of `python`.

    Ends when the returned function is called, or with this process. Does nothing for an environment that
    `make_environment` did not make, or where nothing can be written beside it.
    """
    first = environment_folder() if folder is None else folder
    made = next((each for each in _made(first) if Path(python).is_relative_to(each)), None)
    if made is None:
        return lambda: None
    marks = _marks(made)
    for _ in range(MARK_ATTEMPTS):
        try:
            marks.mkdir(exist_ok=True)
            end = mark_use(marks)
            break
        except FileNotFoundError:
            # Its last user has just removed the folder.
            continue
        except OSError:
            return lambda: None
    else:
        return lambda: None

    def leave() -> None:
        end()
        # Not where others use it, too.
        with contextlib.suppress(OSError):
            marks.rmdir()

    return leave


def _made(first: Path) -> list[Path]:
    """Return the folders of environments that were made, finished or not, or are being removed."""
    ours = re.compile(re.escape(first.name) + r"(-\d+)?(\.earlier|\.old)?")
    return [each for each in _entries(first.parent) if ours.fullmatch(each.name)]


def _marks(environment: Path) -> Path:
    """Return the folder of the marks of who uses an environment, which uv wants empty at first."""
    return environment.with_name(f"{environment.name}.users")


def _new_folder(first: Path) -> Path:
    """Make `first`, or the first folder beside it with a number that there is not; raises `OSError`."""
    first.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError


def remove_earlier_environments(python: str, folder: Path | None = None) -> None:
    """Remove what `make_environment` made, finished or not, but for the environment of `python`.

    Does nothing where `python` is of another folder. What another window uses or makes stays, and on
    Windows what is in use otherwise: its folder cannot be renamed, and only what has been renamed is removed.
    """
    found = _made(environment_folder() if folder is None else folder)
    others = [each for each in found if not Path(python).is_relative_to(each)]
    if others == found:
        return
    # What an earlier call has renamed, first: the name is needed again.
    for each in sorted(others, key=lambda path: path.suffix != ".old"):
        if is_used(_marks(each)):
            continue
        with contextlib.suppress(OSError):
            old = each if each.suffix == ".old" else each.rename(each.with_name(f"{each.name}.old"))
            shutil.rmtree(old, ignore_errors=True)
            _marks(each).rmdir()


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def uv_program() -> str | None:
    """Return the path of uv, on PATH or as a package of this environment; None where there is none."""
    return shutil.which("uv") or shutil.which("uv", path=sysconfig.get_path("scripts"))


def _requirement() -> list[str]:
    """Return the arguments of ``pip install`` for what runs here: a version, or the place it came from."""
    place = distribution(PACKAGE).read_text("direct_url.json")
    if place is None:
        return [f"{PACKAGE}=={version(PACKAGE)}"]
    about = json.loads(place)
    url, below = about["url"], about.get("subdirectory")
    if "vcs_info" in about:
        url = f"{about['vcs_info']['vcs']}+{url}@{about['vcs_info']['commit_id']}"
    if below and "dir_info" in about:
        # Only archives and repositories have parts that a fragment names.
        url = f"{url.rstrip('/')}/{quote(below)}"
    elif below:
        url = f"{url}#subdirectory={below}"
    editable = about.get("dir_info", {}).get("editable", False)
    return ["--editable", url] if editable else [f"{PACKAGE} @ {url}"]


def _uv(command: Sequence[str], emit: Emit, stop: threading.Event | None) -> None:
    """Run a command of uv; its last lines are the error."""
    lines: list[str] = []
    downloads = {"Downloading": 0, "Downloaded": 0}

    def line(text: str) -> None:
        lines.append(text)
        what = text.partition(" ")[0]
        if what in downloads:
            downloads[what] += 1
        if what == "Downloaded":
            text = f"{text} ({downloads['Downloaded']} of {downloads['Downloading']})"
        emit(text)

    if code := _run(command, line, stop):
        said = " ".join(lines[-3:]) or f"code {code}"
        raise ResourceError(
            f"uv could not make the environment: {said}",
            "Try again with a connection to the network, or choose an environment that you have made.",
        )


def _run(
    command: Sequence[str], line: Emit, stop: threading.Event | None, seconds: float = float("inf")
) -> int:
    """Run a command, `line` is called with each line of its output; return its exit code.

    Raises `Cancelled` once `stop` is set; a command that takes longer than `seconds` is killed.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**variables_apart(), "NO_COLOR": "1"},
    )
    said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process, said), daemon=True).start()
    ends = time.monotonic() + seconds
    try:
        for text in _lines_of(said, stop, ends):
            line(text)
        if time.monotonic() < ends:
            return process.wait()
    finally:
        # One that has ended is left alone.
        process.kill()
        process.wait()
    return process.returncode


def _read(process: subprocess.Popen[str], said: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            said.put(line.strip())
    said.put(None)


def _lines_of(
    said: queue.SimpleQueue[str | None], stop: threading.Event | None, ends: float
) -> Iterator[str]:
    while time.monotonic() < ends:
        if stop is not None and stop.is_set():
            raise Cancelled("Cancelled.", "Press it again.")
        try:
            text = said.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            continue
        if text is None:
            return
        if text:
            yield text
