"""Who is using a folder: one process writes, nobody removes what another one reads."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path

from napari_restore.errors import ResourceError
from napari_restore.images import is_locked, lock_file, mark_use, owner_in

WRITER = "writer"


class StoreBusy(ResourceError):
    """Another run writes to the store."""


def hold(owner: object, path: Path) -> Callable[[], None]:
    """Mark `path` as in use until the returned function is called or `owner` is collected."""
    return weakref.finalize(owner, mark_use(path))


def hold_for_writing(owner: object, path: Path) -> Callable[[], None]:
    """As `hold`, for the one who writes; raises `StoreBusy` while another one does."""
    locked = lock_file(path / WRITER)
    if locked is None:
        raise StoreBusy(
            f"Another run (process {owner_in(path / WRITER)}) is restoring this image with the "
            "same settings.",
            "Wait until it is done, or give this one another --scratch folder.",
        )
    end = mark_use(path)

    def release() -> None:
        locked.release()
        end()

    return weakref.finalize(owner, release)


def writer_of(path: Path) -> int | None:
    """Return the living process that writes to `path`, this one too, or None."""
    lock = path / WRITER
    return owner_in(lock) if is_locked(lock) else None
