"""Files locked by a process: the operating system unlocks them when it ends, however it ends.

Neither a step of the clock nor a process id used twice can make a dead owner appear alive, or a
living one dead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from pathlib import Path

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
        # Where an open file cannot be removed it stays behind unlocked, which is as good.
        with contextlib.suppress(OSError):
            self.path.unlink()
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
