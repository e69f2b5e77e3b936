"""Points and sums in a folder on disk, so that an interrupted run continues."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari_restore._json_shapes import read_json
from napari_restore.engine import Region, lock_exclusive, lock_shared, remove_unused
from napari_restore.errors import DiskFull, is_disk_full, option
from napari_restore.explain.attribution._accumulator import Accumulator, AddAll, Node
from napari_restore.explain.attribution._quadrature import Quadrature
from napari_restore.explain.attribution._stored_sums import StoredSums, disk_full_error
from napari_restore.images import mark_entry, users_of

FORMAT = 1
"""Raised when the layout on disk changes; part of every folder's name."""
POINTS = "points.json"
DELIVERED = "delivered"
"""Marker file: the result was delivered, so the last process to use the folder removes it."""


class SharedLease:
    """Shared lock on a folder; the last one removes the folder if its result was delivered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.leave = weakref.finalize(self, _leave, path, lock_shared(self, path))

    def deliver(self, is_delivered: bool) -> None:
        """Set or clear the marker that the result was delivered."""
        # On a full disk the folder stays until the cache is cleared.
        with suppress(OSError):
            if is_delivered:
                (self.path / DELIVERED).touch()
            else:
                (self.path / DELIVERED).unlink(missing_ok=True)


def _leave(path: Path, unlock: Callable[[], None]) -> None:
    """Release the lock; remove a delivered folder that nobody else uses."""
    unlock()
    if (path / DELIVERED).exists():
        remove_unused(path)


class StoredAccumulator(Accumulator):
    """An accumulator on disk, which a later process with the same settings continues.

    A point counts once it is in the journal; only then is it committed to the sums, and a commit
    that was interrupted is completed by the next process. Within the cache the folder is a cache
    entry. Raises `StoreBusy` while another process writes to it.
    """

    pixels: StoredSums
    overview: StoredSums | None

    def __init__(
        self,
        parent: Path,
        settings: Sequence[Any],
        rules: Sequence[Quadrature],
        region: Region,
        bands: int,
        overview: Region | None,
    ) -> None:
        """Open or create the folder; `settings` are JSON-able and determine all points and their positions."""
        self.rules = rules
        key = _key([FORMAT, *settings, [[rule.name, len(rule.nodes)] for rule in rules]])
        self.path = parent / f"attribution-{key}"
        with disk_full_error(parent):
            mark_entry(self.path, {"attribution": key}, complete=False)
            self._close = lock_exclusive(
                self,
                self.path,
                "The same attribution is already running ({}).",
                f"use another {option('scratch')} folder",
            )
            # Also while others read it: the folder must outlive them now.
            (self.path / DELIVERED).unlink(missing_ok=True)
        self._shared_lease = SharedLease(self.path)
        self._regions = {"pixels": region} | ({} if overview is None else {"overview": overview})
        self._bands = bands
        try:
            self._open_or_reset()
        except BaseException:
            self.close(done=False)
            raise

    def _check_disk(self, rules: int) -> None:
        """Raise `DiskFull` where the disk has too little space for the sums not yet written."""
        needed = sum(StoredSums.bytes(box, self._bands, rules) for box in self._regions.values())
        if shutil.disk_usage(self.path).free < needed - _size(self.path):
            raise DiskFull(
                f"The sums of this map need {needed / 2**30:.1f} GiB in {self.path.parent}, which "
                "has less.",
                f"Name another folder with {option('scratch')}, "
                f"or give a fixed number of {option('steps')}.",
            )

    def _open_or_reset(self) -> None:
        """Continue from the folder; start from zero where it is empty or damaged."""
        try:
            self._open_sums(*self._read())
            if self.nodes:
                self._commit(list(self.nodes)[-1])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            if is_disk_full(error):
                raise
            self._clear()
            self._open_sums([], 0)

    def _read(self) -> tuple[list[Node], int]:
        """Return points and present rule of the journal; raises `ValueError`, `KeyError` and the like."""
        if not (self.path / POINTS).exists():
            # Without a journal no sum is complete.
            self._clear()
            return [], 0
        journal = read_json(self.path / POINTS)
        nodes, first = [Node(*map(float, node)) for node in journal["nodes"]], int(journal["first"])
        order = list(dict.fromkeys(float(alpha) for rule in self.rules for alpha in rule.nodes))
        if [node.alpha for node in nodes] != order[: len(nodes)]:
            raise ValueError("The points are not those of these rules.")
        if not 0 <= first < len(self.rules):
            raise ValueError("There is no such rule.")
        return nodes, first

    def _open_sums(self, nodes: Sequence[Node], first: int) -> None:
        """Open the sums of these points."""
        self._check_disk(len(self.rules) - first)
        sums = {
            name: StoredSums(
                box, self._bands, len(self.rules), self.path / name, self._shared_lease, first
            )
            for name, box in self._regions.items()
        }
        super().__init__(self.rules, sums["pixels"], sums.get("overview"))
        self.nodes = {node.alpha: node for node in nodes}
        self.first = first

    def _clear(self) -> None:
        """Remove points and sums."""
        (self.path / POINTS).unlink(missing_ok=True)
        for name in self._regions:
            shutil.rmtree(self.path / name, ignore_errors=True)

    @property
    def _stored(self) -> list[StoredSums]:
        return [self.pixels] if self.overview is None else [self.pixels, self.overview]

    def adding(self, alpha: float) -> AddAll:
        for sums in self._stored:
            sums.begin()
        return super().adding(alpha)

    def finish(self, node: Node) -> None:
        super().finish(node)
        self._write()
        self._commit(node.alpha)

    def _commit(self, alpha: float) -> None:
        for sums in self._stored:
            sums.commit(self.weights(alpha), len(self.nodes))

    def drop(self) -> None:
        dropped = self.first
        super().drop()
        # The journal first: every sum it refers to must exist.
        self._write()
        # This process has two locks, for writing and reading; more are readers of that very sum.
        if users_of(self.path) <= 2:
            for sums in self._stored:
                sums.remove(dropped)

    def _write(self) -> None:
        """Replace the journal atomically."""
        journal = {"first": self.first, "nodes": [list(node) for node in self.nodes.values()]}
        temporary = self.path / f"{POINTS}.new"
        with disk_full_error(self.path):
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(journal, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / POINTS)

    def close(self, done: bool) -> None:
        """Release the write lock; a result that was not delivered stays for a later run."""
        self._close()
        if not done:
            self._shared_lease.leave()


def _key(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _size(path: Path) -> int:
    """Return the total bytes of the files in a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
