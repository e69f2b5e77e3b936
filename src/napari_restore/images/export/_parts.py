"""Unfinished files: their names, and removal of those that a killed process left."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from pathlib import Path


def part_of(target: Path) -> Path:
    """Return a new name beside `target` to write under.

    It contains the id of the writing process.
    """
    return target.with_name(f"{_prefix(target)}{os.getpid()}-{_random()}.part{target.suffix}")


def aside_of(target: Path) -> Path:
    """Return a new name beside `target` for the existing file until it is replaced."""
    return target.with_name(f"{_prefix(target)}{os.getpid()}-{_random()}.old{target.suffix}")


def sidecars(path: Path) -> list[Path]:
    """Return files that GDAL reads together with `path`."""
    return [path.with_name(path.name + end) for end in (".aux.xml", ".ovr", ".msk")]


def remove_part(part: Path) -> None:
    """Delete what was written under a name of `part_of`."""
    # After an error zarr's other writes may still be landing.
    for _ in range(20):
        if not part.is_dir():
            break
        shutil.rmtree(part, ignore_errors=True)
        time.sleep(0.05)
    for path in (part, *sidecars(part)):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def remove_leftovers(target: Path) -> None:
    """Delete parts of `target` whose process ran on this machine and has ended.

    A file that was moved aside is deleted only where `target` exists: else it is the only copy.
    """
    kinds = "part|old" if target.exists() else "part"
    name = re.compile(rf"{re.escape(_prefix(target))}(\d+)-[0-9a-f]{{8}}\.(?:{kinds})\..+")
    try:
        candidates = [(path, name.fullmatch(path.name)) for path in target.parent.iterdir()]
    except OSError:
        return
    for path, match in candidates:
        if match is None or _runs(int(match[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            # Windows refuses while a virus scanner reads it: then the next write removes it.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _prefix(target: Path) -> str:
    # On a shared disk a process id identifies a process only together with its machine.
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:4]
    return f".{target.stem}-{machine}-"


def _random() -> str:
    return uuid.uuid4().hex[:8]


def _runs(number: int) -> bool:
    import psutil

    try:
        return bool(psutil.pid_exists(number))
    except (psutil.Error, OSError, OverflowError):
        return True
