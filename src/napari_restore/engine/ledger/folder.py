"""Folders of the ledger: one process writes, many read, and none is removed while it is used."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
import uuid
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from napari_restore._json_shapes import read_json
from napari_restore.errors import ResourceError, option
from napari_restore.images import (
    guarded,
    is_locked,
    is_used,
    lock_file,
    make_private,
    mark_use,
    owner_in,
    remove_folder,
)

WRITER = "writer"
"""File of a folder that its writer has locked."""
LEASE = "lease.json"
RENEW_SECONDS = 2.0
STALE_SECONDS = 20.0
"""A lease that was not renewed for so long is free: its holder was killed."""
_LENGTH = 512
"""Bytes of the file: it is written over in place, as a network disk shows that at the next open."""


class StoreBusy(ResourceError):
    """Another run writes to the folder."""


def lock_shared(owner: object, path: Path) -> Callable[[], None]:
    """Mark `path` as in use until the returned function is called or `owner` is collected."""
    return weakref.finalize(owner, mark_use(path))


def lock_exclusive(owner: object, path: Path, *words: str) -> Callable[[], None]:
    """Lock `path` as `lock_writer`, also until `owner` is collected."""
    return weakref.finalize(owner, lock_writer(path, *words))


def lock_writer(
    path: Path,
    busy: str = "Another run ({}) is restoring this image with the same settings.",
    instead: str = "",
) -> Callable[[], None]:
    """Lock the folder `path` for writing and mark it as in use until the returned function is called.

    It is made if missing: whoever has the lock fills it. Raises `StoreBusy` if another run writes to
    it, on this machine or, by its lease, on another;
    `busy` is the message, with {} for that run, `instead` what to do instead of waiting.
    """
    instead = instead or f"give this one another {option('scratch')} folder"

    def error(who: str) -> StoreBusy:
        return StoreBusy(busy.format(who), f"Wait until it is done, or {instead}.")

    with guarded(path):
        make_private(path)
        locked = lock_file(path / WRITER)
        end = None if locked is None else mark_use(path)
    if locked is None or end is None:
        raise error(f"process {owner_in(path / WRITER)}")

    def release() -> None:
        # The lock last: whoever gets it must not find this user's mark.
        end()
        locked.release()

    try:
        # A network disk may be one without locks.
        holder = holder_of(path)
        if holder is not None:
            raise error(holder.name)
    except BaseException:
        release()
        raise
    return release


def writer_of(path: Path) -> int | None:
    """Return the process id of the living writer of `path`, this process included, or None."""
    lock = path / WRITER
    return owner_in(lock) if is_locked(lock) else None


def in_use(path: Path) -> bool:
    """Return whether a living process, this one included, reads or writes `path`."""
    return writer_of(path) is not None or is_used(path)


def remove_unused(path: Path) -> None:
    """Remove the folder, unless somebody uses it."""
    remove_folder(path, in_use)


# -- folders that several machines see ---------------------------------------------------


@dataclass(frozen=True)
class Holder:
    """Who holds a lease; `beat` changes whenever it is renewed."""

    id: str
    host: str
    process: int
    beat: int

    @property
    def name(self) -> str:
        return f"{self.host}, process {self.process}"


class Lease:
    """The lease on the store at `path`, from now until `release`; ask `holder_of` before."""

    # `lost` is called where another machine has taken it, for instance because this one was
    # suspended for a while.
    def __init__(self, path: Path, lost: Callable[[], None]) -> None:
        self._file, self._lost = path / LEASE, lost
        self._own = Holder(uuid.uuid4().hex, platform.node(), os.getpid(), 0)
        self._released = threading.Event()
        self._write(0)
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the lease back."""
        self._released.set()
        self._thread.join()
        found = _read(self._file)
        if found is not None and found.id == self._own.id:
            self._file.unlink(missing_ok=True)

    def _renew(self) -> None:
        beat = 0
        while not self._released.wait(RENEW_SECONDS):
            found = _read(self._file)
            if found is not None and found.id != self._own.id:
                self._lost()
                return
            beat += 1
            # A disk that is away for a moment: the lease holds a while without.
            with contextlib.suppress(OSError):
                self._write(beat)

    def _write(self, beat: int) -> None:
        content = json.dumps(asdict(self._own) | {"beat": beat}).ljust(_LENGTH - 1) + "\n"
        handle = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(handle, content.encode())
            os.fsync(handle)
        finally:
            os.close(handle)


def holder_of(path: Path) -> Holder | None:
    """Return who holds the lease on the store at `path`; None where nobody does."""
    # Waits until it is renewed, which another machine does every `RENEW_SECONDS`, or stale.
    first = _read(path / LEASE)
    if first is None:
        return None
    if first.host == platform.node():
        import psutil

        # This process may have written it in an earlier run.
        is_other = first.process != os.getpid() and psutil.pid_exists(first.process)
        return first if is_other else None
    began = time.monotonic()
    while time.monotonic() - began < STALE_SECONDS:
        time.sleep(RENEW_SECONDS / 10)
        now = _read(path / LEASE)
        if now is None:
            return None
        if now != first:
            return now
    return None


def _read(path: Path) -> Holder | None:
    """Return what a lease says; None where there is none, or it is being written."""
    try:
        found = read_json(path)
        return Holder(
            str(found["id"]), str(found["host"]), int(found["process"]), int(found["beat"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
