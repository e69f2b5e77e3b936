"""Marks of the processes that use a folder of the cache, so that no other removes it."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from napari_restore.images.cache._lock import LockedFile, is_locked, is_own, lock_file

PATTERN = "in-use.*"


class _Mark:
    """Mark of this process in one folder, shared by all its users in the process."""

    def __init__(self, locked: LockedFile) -> None:
        self.locked = locked
        self.users = 0


_MARKS: dict[Path, _Mark] = {}
_LOCK = threading.RLock()


def mark_use(path: Path) -> Callable[[], None]:
    """Mark the folder `path` as in use by this process until the returned function is called.

    The mark is a locked file in it, which is removed with its last user. Raises `OSError` where it
    cannot be created.
    """
    with _LOCK:
        if path not in _MARKS:
            # The process id is for people; the other part distinguishes two containers.
            name = f"in-use.{os.getpid()}-{uuid.uuid4().hex[:8]}"
            locked = lock_file(path / name)
            assert locked is not None, "nobody else knows the name"
            _MARKS[path] = _Mark(locked)
        mark = _MARKS[path]
        mark.users += 1
    ended = False

    def end() -> None:
        nonlocal ended
        with _LOCK:
            if ended:
                return
            ended = True
            mark.users -= 1
            if mark.users == 0:
                _MARKS.pop(path, None)
                mark.locked.release()

    return end


def users_of(path: Path) -> int:
    """Return how often this process uses the folder, and how many others do."""
    with _LOCK:
        mark = _MARKS.get(path)
        return (0 if mark is None else mark.users) + used_by_others(path)


def used_by_others(path: Path) -> int:
    """Return how many other living processes use the folder."""
    return sum(1 for mark in _living(path) if not is_own(mark))


def is_used(path: Path) -> bool:
    """Return whether this or another living process uses the folder."""
    return next(_living(path), None) is not None


def _living(path: Path) -> Iterator[Path]:
    """Yield the marks of living processes; those of dead ones are removed."""
    for mark in path.glob(PATTERN):
        if is_locked(mark):
            yield mark
        else:
            # A folder of that name, or one that may not be written, is left alone.
            with contextlib.suppress(OSError):
                mark.unlink()
