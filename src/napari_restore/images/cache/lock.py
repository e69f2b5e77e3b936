"""Locks of files, marks of who uses a folder, and folders that only their user may write to.

The operating system unlocks a file when its process ends, however it ends: neither a step of the
clock nor a process id used twice can make a dead owner appear alive, or a living one dead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from napari_restore.errors import BadOutput

ATTEMPTS = 10
PAUSE_SECONDS = 0.01
"""Pause before locking is tried again: `is_locked` takes a shared lock for a moment."""
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN, errno.EDEADLK)

_LOCKED_HERE: set[tuple[int, int]] = set()
"""Device and inode of the files that this process has locked."""
_GUARD = threading.Lock()


class LockedFile:
    """A file under an exclusive lock, which contains the id of its process, until `release`."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self.users = 0
        """Of the folder that it marks."""
        self._handle: int | None = handle
        status = os.fstat(handle)
        self._inode = status.st_dev, status.st_ino
        with _GUARD:
            _LOCKED_HERE.add(self._inode)

    def release(self) -> None:
        """Remove the file and unlock it; a second call does nothing."""
        with _GUARD:
            handle, self._handle = self._handle, None
            if handle is None:
                return
            _LOCKED_HERE.discard(self._inode)
        # Removed while it is locked, so that no process locks a file that is about to be removed.
        # Windows removes none that is open, be it by another process: there it is closed before.
        if sys.platform == "win32":
            os.close(handle)
        with contextlib.suppress(OSError):
            self.path.unlink()
        if sys.platform != "win32":
            os.close(handle)


def lock_file(path: Path) -> LockedFile | None:
    """Create and lock `path`; return None where another process, or this one, has locked it.

    Raises `OSError` where the file cannot be created. On a disk without locks the file counts as
    unlocked.
    """
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _try_lock(handle, exclusive=True) and _is_at(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, str(os.getpid()).encode("ascii"))
                return LockedFile(path, handle)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    return None


GUARD_FILE = ".napari-restore.lock"
_holding = threading.local()


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Let no other process or thread make, mark or remove folders beside `path` meanwhile."""
    # For moments only: others wait. Where the disk refuses, nothing is guarded. Within it, as for
    # what is collected meanwhile, another one does nothing.
    guard = None
    if not getattr(_holding, "now", False):
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
            while guard is None:
                guard = lock_file(path.parent / GUARD_FILE)
    if guard is None:
        yield
        return
    _holding.now = True
    try:
        yield
    finally:
        _holding.now = False
        guard.release()


def is_locked(path: Path) -> bool:
    """Return whether a living process, this one included, has locked `path`."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _try_lock(handle, exclusive=False)
    finally:
        os.close(handle)


def is_own(path: Path) -> bool:
    """Return whether this process has locked `path`."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    with _GUARD:
        return (status.st_dev, status.st_ino) in _LOCKED_HERE


def owner_in(path: Path) -> int:
    """Return the process id in a locked file; 0 where it cannot be read."""
    try:
        return int(path.read_bytes()[:20])
    except (OSError, ValueError):
        return 0


def _is_at(handle: int, path: Path) -> bool:
    """Return whether the open file still has that name: its owner may just have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


if sys.platform == "win32":
    import msvcrt

    # Windows refuses to read locked bytes: one far beyond the content is locked.
    _BEYOND = 1 << 30

    def _try_lock(handle: int, *, exclusive: bool) -> bool:
        """Lock a byte of the open file; return False where another process has locked it."""
        os.lseek(handle, _BEYOND, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
        return True
else:
    import fcntl

    def _try_lock(handle: int, *, exclusive: bool) -> bool:
        """Lock the open file; False where somebody else has it in a way that excludes this."""
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except OSError as error:
            # Any other failure: a file system without locks, on which nothing is ever locked.
            return error.errno not in _TAKEN
        return True


# -- use: no other process removes a folder that this one uses -----------------------------

PATTERN = "in-use.*"


_MARKS: dict[Path, LockedFile] = {}
"""Mark of this process in each folder, shared by all its users in the process."""
_LOCK = threading.RLock()


def mark_use(path: Path) -> Callable[[], None]:
    """Mark the folder `path` as in use by this process until the returned function is called.

    The mark is a locked file in it, which is removed with its last user. Raises `OSError` where it
    cannot be created.
    """
    with guarded(path), _LOCK:
        if path not in _MARKS:
            # The process id is for people; the other part distinguishes two containers.
            name = f"in-use.{os.getpid()}-{uuid.uuid4().hex[:8]}"
            locked = lock_file(path / name)
            assert locked is not None, "nobody else knows the name"
            _MARKS[path] = locked
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
                mark.release()

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
    marks: list[Path] = []
    # Another process may remove the folder meanwhile.
    with contextlib.suppress(FileNotFoundError):
        marks += path.glob(PATTERN)
    for mark in marks:
        if is_locked(mark):
            yield mark
        else:
            # A folder of that name, or one that may not be written, is left alone.
            with contextlib.suppress(OSError):
                mark.unlink()


# -- private folders: their content determines pixels --------------------------------------

OWNER_ONLY = 0o700
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def make_private(path: Path) -> None:
    """Create the folder `path`, open to its user alone, or check the existing one.

    Missing parent folders are created as well. Raises `BadOutput` where the folder belongs to
    another user or others may write to it, `OSError` where it cannot be created.
    """
    path.parent.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
    try:
        path.mkdir(mode=OWNER_ONLY)
    except FileExistsError:
        check_private(path)


def check_private(path: Path) -> None:
    """Raise `BadOutput` where another user could write files into the folder `path`."""
    # Systems without owners and modes, such as Windows, protect a user's folders themselves.
    if not hasattr(os, "getuid"):
        return
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise BadOutput(f"{path} is no folder, or a link to one.", "Name another folder.")
    if status.st_uid != os.getuid():
        raise BadOutput(
            f"The folder {path} belongs to another user, who could change results in it.",
            "Name a folder of your own.",
        )
    if status.st_mode & WRITABLE_BY_OTHERS:
        raise BadOutput(
            f"Other users may write to the folder {path} and could change results in it.",
            f"Forbid it with: chmod go-w {path}, or name another folder.",
        )
