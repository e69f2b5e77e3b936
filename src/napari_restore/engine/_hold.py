"""Who is using a folder: one process writes, nobody removes what another one reads."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from napari_restore.errors import ResourceError
from napari_restore.images import holders_of, process_stamp

_LOCK = threading.RLock()
_READERS: dict[Path, int] = {}
_WRITERS: set[Path] = set()


class StoreBusy(ResourceError):
    """Another run writes to the store."""


def hold(owner: object, path: Path) -> Callable[[], None]:
    """Mark `path` as in use until the returned function is called or `owner` is collected.

    The mark is the file ``in-use.PID`` that the cache respects, too.
    """
    mark = path / f"in-use.{os.getpid()}"
    with _LOCK:
        if _READERS.get(path, 0) == 0:
            mark.write_text(process_stamp(os.getpid()))
        _READERS[path] = _READERS.get(path, 0) + 1
    return weakref.finalize(owner, _release, path, mark)


def hold_for_writing(owner: object, path: Path) -> Callable[[], None]:
    """As `hold`, for the one who writes; raises `StoreBusy` while another one does."""
    lock = path / "writer"
    with _LOCK:
        other = writer_of(path)
        if other is None and not _take(lock):
            # Somebody was faster.
            other = writer_of(path) or 0
        if other is not None:
            raise StoreBusy(
                f"Another run (process {other}) is restoring this image with the same settings.",
                "Wait until it is done, or give this one another --scratch folder.",
            )
        _WRITERS.add(path)
    release = hold(owner, path)
    return weakref.finalize(owner, _release_writer, path, lock, release)


def _take(lock: Path) -> bool:
    """Make the file in one step, whole; False if it is there. One that a crash left goes first."""
    own = lock.with_name(f"writer.{os.getpid()}")
    own.write_text(f"{os.getpid()} {process_stamp(os.getpid())}")
    try:
        if lock.exists() and writer_of(lock.parent) is None:
            lock.unlink(missing_ok=True)
        try:
            os.link(own, lock)
        except FileExistsError:
            return False
        except OSError:
            # A disk without links: two that start within a millisecond may both begin.
            os.replace(own, lock)
        return True
    finally:
        own.unlink(missing_ok=True)


def writer_of(path: Path) -> int | None:
    """The living process that writes to `path`, or None."""
    if path in _WRITERS:
        return os.getpid()
    try:
        pid, stamp = (path / "writer").read_text().split()
    except (OSError, ValueError):
        return None
    if int(pid) == os.getpid() or stamp != process_stamp(int(pid)):
        # Left by a crash.
        return None
    return int(pid)


def is_used(path: Path) -> bool:
    """Whether this or another process uses `path`."""
    return users_of(path) > 0


def users_of(path: Path) -> int:
    """How often this process holds `path`, and how many others do."""
    return _READERS.get(path, 0) + sum(pid != os.getpid() for pid in holders_of(path))


def _release(path: Path, mark: Path) -> None:
    with _LOCK:
        _READERS[path] = _READERS.get(path, 1) - 1
        if _READERS[path] <= 0:
            _READERS.pop(path, None)
            with contextlib.suppress(OSError):
                mark.unlink(missing_ok=True)


def _release_writer(path: Path, lock: Path, release: Callable[[], None]) -> None:
    with _LOCK:
        _WRITERS.discard(path)
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)
    release()
