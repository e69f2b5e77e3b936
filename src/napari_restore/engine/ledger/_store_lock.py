"""Locks of store folders: one process writes, and a folder that is read is not removed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

from napari_restore.engine.ledger._lease import holder_of
from napari_restore.errors import ResourceError, option
from napari_restore.images import is_locked, lock_file, mark_use, owner_in

WRITER = "writer"


class StoreBusy(ResourceError):
    """Another run writes to the store."""


def lock_shared(owner: object, path: Path) -> Callable[[], None]:
    """Mark `path` as in use until the returned function is called or `owner` is collected."""
    return weakref.finalize(owner, mark_use(path))


def lock_exclusive(owner: object, path: Path) -> Callable[[], None]:
    """Lock `path` for writing and mark it as in use.

    Raises `StoreBusy` if another run writes to it, on this machine or, by its lease, on another.
    """
    locked = lock_file(path / WRITER)
    if locked is None:
        raise _busy(f"process {owner_in(path / WRITER)}")
    try:
        # A network disk may be one without locks.
        holder = holder_of(path)
        if holder is not None:
            raise _busy(holder.name)
    except BaseException:
        locked.release()
        raise
    end = mark_use(path)

    def release() -> None:
        locked.release()
        end()

    return weakref.finalize(owner, release)


def _busy(who: str) -> StoreBusy:
    return StoreBusy(
        f"Another run ({who}) is restoring this image with the same settings.",
        f"Wait until it is done, or give this one another {option('scratch')} folder.",
    )


def writer_of(path: Path) -> int | None:
    """Return the process id of the living writer of `path`, this process included, or None."""
    lock = path / WRITER
    return owner_in(lock) if is_locked(lock) else None
