"""The cache folder on disk, kept between sessions and limited in size.

Every entry is a folder ``KIND/KEY`` with a marker file. Nothing without our marker is ever removed,
so that a cache folder set to the wrong path deletes no foreign file. An entry is complete only when
its marker says so; an incomplete one is continued by the next builder or built again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from napari_restore._json_shapes import read_json
from napari_restore._replacing import replacing
from napari_restore.errors import BadOutput, disk_full_as
from napari_restore.images.cache.lock import (
    guarded,
    is_used,
    make_private,
    mark_use,
    used_by_others,
)

ENVIRONMENT = "NAPARI_RESTORE_CACHE"
MARKER = "entry.json"
SIGNATURE = "napari-restore cache entry"
AUTOMATIC_LIMIT = 32 << 30
"""Bytes of rebuildable entries (pyramids, streams) above which the oldest are removed."""
NEEDED = "needed"
"""Marks an entry that a copied command or a record names: it stays when others are removed."""
REBUILDABLE = ("pyramids", "streams")
_chosen = ""


def use_cache_folder(folder: str) -> None:
    """Keep the cache in `folder` from now on, unless the environment names one; "": the platform's."""
    # What lies in the old place stays there. Runs that have begun go on with it.
    global _chosen
    _chosen = os.path.abspath(os.path.expanduser(folder)) if folder else ""


def cache_environment() -> dict[str, str]:
    """Return the variable by which a process that is started finds this one's cache."""
    return {ENVIRONMENT: folder} if (folder := os.environ.get(ENVIRONMENT) or _chosen) else {}


def cache_dir() -> Path:
    """Return the cache folder: ``NAPARI_RESTORE_CACHE``, else that of `use_cache_folder`, else the platform's; created if missing.

    Raises `BadOutput` when it cannot be made, or when others may write to it.
    """
    usual = platformdirs.user_cache_dir("napari-restore", appauthor=False)
    path = Path(cache_environment().get(ENVIRONMENT, usual)).expanduser()
    try:
        # A user who moved the cache to another disk has left a link.
        make_private(path.resolve())
    except OSError as error:
        raise BadOutput(
            f"The cache folder {path} cannot be made ({error.strerror}).",
            f"Set {ENVIRONMENT} to a folder you may write to.",
        ) from error
    return path


def no_space_as_error(path: Path) -> AbstractContextManager[None]:
    """Turn errors of a full disk into `DiskFull` naming the folder of `path`."""
    return disk_full_as(
        f"No space is left in {path.parent}.",
        "Free some, or point NAPARI_RESTORE_CACHE or the output to another disk.",
    )


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of `path`, or of its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(os.fspath(path)).free


def entry_key(fingerprint: str, about: dict[str, Any]) -> str:
    """Return a folder name for one file read with one set of options."""
    digest = hashlib.sha256(json.dumps([fingerprint, about], sort_keys=True).encode()).hexdigest()
    return digest[:32]


@dataclass(frozen=True)
class CacheEntry:
    """An entry of the cache."""

    path: Path
    kind: str
    key: str
    size: int
    """Bytes on disk."""
    used: float
    """Time of the last opening, seconds since 1970."""
    complete: bool
    in_use: bool
    needed: bool
    """Whether a copied command or a record names it."""
    about: dict[str, Any]


class OpenEntry:
    """An opened cache folder, in use until `close` or until it is collected."""

    # While it is not `complete`, one process at a time builds it: where another living process
    # builds it, `path` is a private folder that is removed with this object.
    def __init__(self, path: Path, about: dict[str, Any], *, private: bool) -> None:
        self.path = path
        self.about = about
        self.private = private
        self._closer = weakref.finalize(self, _end_use, mark_use(path), path if private else None)
        marker = _read_marker(path)
        self.complete = bool(marker and marker["complete"])

    @classmethod
    def open(cls, kind: str, key: str, about: dict[str, Any]) -> OpenEntry:
        """Return the entry ``kind/key``, shared by all who open it in this process.

        `about` is JSON-able and describes what the entry must contain; one with another description
        (another format, other sizes) is removed first.
        """
        path = cache_dir() / kind / key
        with guarded(path), _LOCK:
            known = _OPEN.get(path)
            if known is not None and known.about == about and path.is_dir():
                return known
            if path.is_dir() and used_by_others(path) and not is_whole(path, about):
                path, private = path.with_name(f"{key}.{os.getpid()}-{uuid.uuid4().hex[:8]}"), True
            else:
                private = False
            _adopt(path, about)
            entry = cls(path, about, private=private)
            if not private:
                _OPEN[path] = entry
        if not entry.complete and kind in REBUILDABLE:
            trim_cache(AUTOMATIC_LIMIT, REBUILDABLE)
        return entry

    def finish(self) -> None:
        """Mark the entry as complete."""
        _write_marker(self.path, self.about, complete=True)
        self.complete = True

    def spoil(self) -> None:
        """Mark the entry as incomplete: a part is missing or damaged."""
        self.complete = False
        _write_marker(self.path, self.about, complete=False)

    def close(self) -> None:
        """End the use; a private folder is removed."""
        with _LOCK:
            if _OPEN.get(self.path) is self:
                del _OPEN[self.path]
        self._closer()


_LOCK = threading.RLock()
_OPEN: weakref.WeakValueDictionary[Path, OpenEntry] = weakref.WeakValueDictionary()


def cache_entries(kinds: Iterable[str] | None = None) -> list[CacheEntry]:
    """Return all entries of the cache (of `kinds`), the most recently used first."""
    found = []
    for path in _marked(cache_dir(), None if kinds is None else set(kinds)):
        marker = _read_marker(path)
        if marker is None:
            continue
        size, used = _measure(path)
        found.append(
            CacheEntry(
                path,
                path.parent.name,
                path.name,
                size,
                used,
                bool(marker["complete"]),
                is_used(path),
                (path / NEEDED).exists(),
                marker["about"],
            )
        )
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def clear_cache(*, needed: bool = False) -> int:
    """Remove all unused entries, `needed` also those that commands and records name; return the bytes freed."""
    return trim_cache(0, needed=needed)


def mark_needed(path: Path) -> None:
    """Mark an entry as named in a copied command or a record."""
    (path / NEEDED).touch()


def trim_cache(max_bytes: int, kinds: Iterable[str] | None = None, *, needed: bool = False) -> int:
    """Remove the least recently used entries until the rest fits; return the bytes freed.

    Entries that this or another living process has open stay, and without `needed` those that
    copied commands and records name.
    """
    entries = cache_entries(kinds)
    total, freed = sum(entry.size for entry in entries), 0
    for entry in reversed(entries):
        # 0 bytes are none at all: entries without any go as well.
        if total - freed <= max_bytes and max_bytes > 0:
            break
        if entry.needed and not needed:
            continue
        if not entry.in_use and remove_entry(entry.path):
            freed += entry.size
    return freed


def mark_entry(path: Path, about: dict[str, Any], *, complete: bool = True) -> None:
    """Make `path` (two levels below `cache_dir`) an entry that may be listed and removed."""
    make_private(path)
    _write_marker(path, about, complete=complete)


def remove_entry(path: Path) -> bool:
    """Remove a marked folder; return False if it is foreign or in use."""
    return _read_marker(path) is not None and remove_folder(path)


def remove_folder(path: Path, in_use: Callable[[Path], bool] = is_used) -> bool:
    """Remove a folder of ours; return False if somebody, or the system, uses it."""
    # Renamed first: no process can open a half-removed entry.
    gone = path.with_name(f"{path.name}.removed-{uuid.uuid4().hex[:8]}")
    with guarded(path):
        if in_use(path):
            return False
        try:
            path.rename(gone)
        except OSError:
            return False
    # The marker is removed last: what a crash leaves of a removal is still an entry, removed next
    # time.
    for name in os.listdir(gone):
        if name != MARKER:
            remove_path(gone / name)
    shutil.rmtree(gone, ignore_errors=True)
    return True


def remove_path(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder with all in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _adopt(path: Path, about: dict[str, Any]) -> None:
    """Make `path` an entry described by `about`, removing one with another description."""
    if path.is_dir():
        marker = _read_marker(path)
        if marker is not None and marker["about"] == about:
            os.utime(path / MARKER)
            return
        if marker is not None or (path / MARKER).exists():
            shutil.rmtree(path, ignore_errors=True)
    mark_entry(path, about, complete=False)


def is_whole(path: Path, about: dict[str, Any]) -> bool:
    """Return whether `path` is a finished entry described by `about`."""
    marker = _read_marker(path)
    return marker is not None and marker["complete"] and marker["about"] == about


def _read_marker(path: Path) -> dict[str, Any] | None:
    try:
        marker = read_json(path / MARKER)
    except (OSError, ValueError):
        return None
    if not isinstance(marker, dict) or marker.get("signature") != SIGNATURE:
        return None
    # Even damaged, it stays an entry that may be listed and removed.
    about = marker.get("about")
    return {
        "complete": marker.get("complete") is True,
        "about": about if isinstance(about, dict) else {},
    }


def _write_marker(path: Path, about: dict[str, Any], *, complete: bool) -> None:
    text = json.dumps({"signature": SIGNATURE, "complete": complete, "about": about})
    with replacing(path / MARKER) as part:
        part.write_text(text, "utf-8")


def _marked(root: Path, kinds: Container[str] | None) -> Iterator[Path]:
    """Yield the entries below `root`; links are never followed, unreadable folders skipped."""
    for kind in _folders(root):
        if kinds is not None and kind.name not in kinds:
            continue
        for path in _folders(kind):
            # The rest of a removal that crashed still has its marker and is listed too.
            if (path / MARKER).is_file():
                yield path


def _folders(path: Path) -> list[Path]:
    """Return the folders in `path` that are no links, by name."""
    try:
        with os.scandir(path) as found:
            return sorted(Path(each.path) for each in found if each.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _measure(path: Path) -> tuple[int, float]:
    """Return (bytes, time of last use) of an entry."""
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                size += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    try:
        return size, (path / MARKER).stat().st_mtime
    except OSError:
        return size, time.time()


def _end_use(end: Callable[[], None], private: Path | None) -> None:
    end()
    if private is not None:
        shutil.rmtree(private, ignore_errors=True)
