"""Points and sums in a folder named by the question, which goes on where it was stopped."""

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
from napari_restore.engine import Region, StoreBusy, lock_exclusive, lock_shared, writer_of
from napari_restore.errors import DiskFull
from napari_restore.explain._quadrature import Quadrature
from napari_restore.explain.sums._accumulator import Accumulator, AddAll, Node
from napari_restore.explain.sums._stored_sums import StoredSums, room
from napari_restore.images import is_disk_full, is_used, mark_entry, users_of

FORMAT = 1
"""Raised when the layout on disk changes; part of every folder's name."""
POINTS = "points.json"
DELIVERED = "delivered"
"""File that stands for: who leaves last removes the folder."""


class Reading:
    """A folder that stays while this lives, and goes with the last one if it was delivered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.leave = weakref.finalize(self, _leave, path, lock_shared(self, path))

    def deliver(self, is_delivered: bool) -> None:
        """Say whether whoever asked has got what is in it."""
        # Without room for the file the folder stays until the cache is cleared.
        with suppress(OSError):
            if is_delivered:
                (self.path / DELIVERED).touch()
            else:
                (self.path / DELIVERED).unlink(missing_ok=True)


def _leave(path: Path, unlock: Callable[[], None]) -> None:
    unlock()
    if (path / DELIVERED).exists() and not is_used(path) and writer_of(path) is None:
        shutil.rmtree(path, ignore_errors=True)


class StoredAccumulator(Accumulator):
    """A accumulator that the next process to ask the same finds as far as this one has come.

    A point counts from the moment its line is in the journal; only then is it taken into the
    sums, and of a point half taken in the rest is done by who comes next. The folder is an
    entry of the cache where it lies there. Raises `StoreBusy` while another one writes to it.
    """

    pixels: StoredSums
    overview: StoredSums | None

    def __init__(
        self,
        parent: Path,
        question: Sequence[Any],
        rules: Sequence[Quadrature],
        region: Region,
        bands: int,
        overview: Region | None,
    ) -> None:
        """`question` is JSON-able and says all that changes a point or its place."""
        self.rules = rules
        key = _key([FORMAT, *question, [[rule.name, len(rule.nodes)] for rule in rules]])
        self.path = parent / f"attribution-{key}"
        with room(parent):
            mark_entry(self.path, {"attribution": key}, complete=False)
            self._close = self._locked()
            # Whoever reads it, too: now it must outlast them.
            (self.path / DELIVERED).unlink(missing_ok=True)
        self._reading = Reading(self.path)
        self._boxes = {"pixels": region} | ({} if overview is None else {"overview": overview})
        self._bands = bands
        try:
            self._open()
        except BaseException:
            self.close(done=False)
            raise

    def _locked(self) -> Callable[[], None]:
        try:
            return lock_exclusive(self, self.path)
        except StoreBusy as error:
            raise StoreBusy(
                f"The same question is being answered (process {writer_of(self.path)}).",
                "Wait until it is done, or give this one another --scratch folder.",
            ) from error

    def _check_room(self, rules: int) -> None:
        """Raise `DiskFull` where the disk has too little for what is not there yet."""
        needed = sum(StoredSums.bytes(box, self._bands, rules) for box in self._boxes.values())
        if shutil.disk_usage(self.path).free < needed - _size(self.path):
            raise DiskFull(
                f"The sums of this map need {needed / 2**30:.1f} GiB in {self.path.parent}, which "
                "has less.",
                "Name another folder with --scratch, or give a fixed number of --steps.",
            )

    def _open(self) -> None:
        """Go on from what is there, or begin where that is nothing or damaged."""
        try:
            self._begin(*self._read())
            if self.nodes:
                self._take_in(list(self.nodes)[-1])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            if is_disk_full(error):
                raise
            self._clear()
            self._begin([], 0)

    def _read(self) -> tuple[list[Node], int]:
        """Points and the first rule, of the journal; raises `ValueError` or the like."""
        if not (self.path / POINTS).exists():
            # Whatever else lies there was never in a journal.
            self._clear()
            return [], 0
        told = read_json(self.path / POINTS)
        nodes, first = [Node(*map(float, node)) for node in told["nodes"]], int(told["first"])
        order = list(dict.fromkeys(float(alpha) for rule in self.rules for alpha in rule.nodes))
        if [node.alpha for node in nodes] != order[: len(nodes)]:
            raise ValueError("These are not the points of this question.")
        if not 0 <= first < len(self.rules):
            raise ValueError("There is no such rule.")
        return nodes, first

    def _begin(self, nodes: Sequence[Node], first: int) -> None:
        """Open the sums of so many points."""
        self._check_room(len(self.rules) - first)
        sums = {
            name: StoredSums(
                box, self._bands, len(self.rules), self.path / name, self._reading, first
            )
            for name, box in self._boxes.items()
        }
        super().__init__(self.rules, sums["pixels"], sums.get("overview"))
        self.nodes = {node.alpha: node for node in nodes}
        self.first = first

    def _clear(self) -> None:
        """Remove points and sums."""
        (self.path / POINTS).unlink(missing_ok=True)
        for name in self._boxes:
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
        self._take_in(node.alpha)

    def _take_in(self, alpha: float) -> None:
        for sums in self._stored:
            sums.take_in(self.weights(alpha), len(self.nodes))

    def drop(self) -> None:
        dropped = self.first
        super().drop()
        # First the journal: a sum that it knows of must be there.
        self._write()
        # This one holds the folder to write and to read; more are others who read that very sum.
        if users_of(self.path) <= 2:
            for sums in self._stored:
                sums.remove(dropped)

    def _write(self) -> None:
        """The journal, whole or as it was."""
        told = {"first": self.first, "nodes": [list(node) for node in self.nodes.values()]}
        beside = self.path / f"{POINTS}.new"
        with room(self.path):
            with open(beside, "w", encoding="utf-8") as file:
                json.dump(told, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path / POINTS)

    def close(self, done: bool) -> None:
        """Let others write; what was not delivered stays, for the next time."""
        self._close()
        if not done:
            self._reading.leave()


def _key(parts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _size(path: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
