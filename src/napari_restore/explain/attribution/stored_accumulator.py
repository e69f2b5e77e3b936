"""Points and sums in a folder on disk, so that an interrupted run continues."""

from __future__ import annotations

import base64
import os
import shutil
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore._journal import Journal
from napari_restore._replacing import DamagedFile
from napari_restore.engine import (
    Region,
    create_array,
    cut,
    lock_exclusive,
    lock_shared,
    remove_unused,
    write_chunks,
)
from napari_restore.engine.machine.device import cores
from napari_restore.engine.machine.threads import map_parallel
from napari_restore.engine.planning.identity import digest_of
from napari_restore.errors import DiskFull, InputError, disk_full_as, is_disk_full, option
from napari_restore.explain.attribution._sums import Accumulator, AddAll, Floats, Node, Summed, Sums
from napari_restore.explain.attribution.quadrature import Quadrature
from napari_restore.images import mark_entry, users_of

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 512
"""Side in pixels of the chunks of a sum."""
COMMIT_THREADS = 2
"""Most threads that commit a point; with three bands each has some 40 MiB of chunks."""
NUMBER_BYTES = 8
POINT = "point"
"""Name of the file of the present point, and beginning of those that are kept."""


class PointFile:
    """One point: (bands, height, width) float32, little-endian, in C order; then its number."""

    # Parts of neighbouring tiles overlap, and each is added in place: of a chunked array every part
    # would write whole chunks again, some fifteen times the size of the point.
    def __init__(self, path: Path, bands: int, shape: tuple[int, int]) -> None:
        self.path, self._bands, self._shape = path, bands, shape

    def begin(self, number: int) -> None:
        """Fill the file with zeros, for the `number`-th point."""
        height, width = self._shape
        with self.path.open("wb") as file:
            file.seek(4 * self._bands * height * width)
            file.write(number.to_bytes(NUMBER_BYTES, "little"))

    def add(self, part: npt.NDArray[Any], y: slice, x: slice) -> None:
        """Add a part (bands, h, w)."""
        height, width = self._shape
        values = self._box(y, x) + part
        # Not by the mapped pages: where the disk is full, those end the process.
        with self.path.open("r+b") as file:
            for band, row in np.ndindex(values.shape[:2]):
                file.seek(4 * ((band * height + y.start + row) * width + x.start))
                file.write(values[band, row].astype("<f4", copy=False).tobytes())

    def read(self, y: slice, x: slice) -> npt.NDArray[np.float64]:
        """Return a box, (bands, h, w)."""
        return self._box(y, x).astype(np.float64)

    def check(self, number: int) -> None:
        """Raise `DamagedFile` unless this is the `number`-th point, `OSError` where there is none."""
        height, width = self._shape
        with self.path.open("rb") as file:
            file.seek(4 * self._bands * height * width)
            if file.read() != number.to_bytes(NUMBER_BYTES, "little"):
                raise DamagedFile(self.path)

    def sync(self) -> None:
        """Write what the system still has in memory to the disk."""
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())

    def _box(self, y: slice, x: slice) -> npt.NDArray[np.float32]:
        """Map a box of the file; raises `ValueError` where that is too short."""
        return np.memmap(self.path, "<f4", "r", 0, (self._bands, *self._shape))[:, y, x]


class PointSum:
    """Σ weight · point of whole points, read box by box as an array (bands, height, width)."""

    def __init__(self, points: Sequence[PointFile], weights: Sequence[float]) -> None:
        self._points, self._weights = points, weights

    def __getitem__(self, key: tuple[slice, slice, slice]) -> npt.NDArray[np.float64]:
        bands, y, x = key
        (weight, *others), (point, *rest) = self._weights, self._points
        total = weight * point.read(y, x)
        for weight, point in zip(others, rest, strict=True):
            total += weight * point.read(y, x)
        return np.asarray(total[bands])


class StoredSums(Sums):
    """As `Sums`, in a folder; a point is committed when it is complete, and exactly once."""

    # The parts of a point are collected in a file of their own. Where rules are nested, those of
    # the first are kept as they are until it is complete: it mostly suffices, and sums of the
    # others would be rewritten for nothing with each of its points. Each chunk of a sum has one
    # more plane with the number of points in it, and is replaced atomically: after an interruption
    # the next process sees which chunks lack points.
    def __init__(
        self,
        region: Region,
        bands: int,
        rules: int,
        path: Path,
        lease: SharedLease,
        *,
        first: int = 0,
        kept: int = 0,
    ) -> None:
        """Open or create the sums in the folder `path`, without the rules before `first`.

        `kept` is the number of points that are kept.
        """
        import zarr

        self.region, self.bands = region, bands
        self._path, self._lease, self._kept = path, lease, kept
        self._weights: Sequence[Sequence[float]] = ()
        with disk_full_error(path):
            group: Any = zarr.open_group(str(path), mode="a", zarr_format=3)
            shape = (bands + 1, *region.shape)
            self._sums = [None] * first + [
                group[name] if name in group else create_array(group, name, shape, CHUNK, "<f8")
                for name in map(str, range(first, rules))
            ]

    @staticmethod
    def bytes(region: Region, bands: int, rules: int, points: int) -> int:
        """Return the bytes on disk of sums and points, where chunks at the edge are as large as others."""
        height, width = (-(-side // CHUNK) * CHUNK for side in region.shape)
        return height * width * bands * (8 * rules + 4 * points)

    def _point(self, number: int) -> PointFile:
        name = f"{POINT}-{number}" if number <= self._kept else POINT
        return PointFile(self._path / name, self.bands, self.region.shape)

    def begin(self, number: int) -> None:
        """Begin the `number`-th point."""
        self._present = self._point(number)
        with disk_full_error(self._path):
            self._present.begin(number)

    def add(self, weights: Sequence[float], box: Region, part: Tensor) -> None:
        """Add a part (1, C, h, w) to the present point; its weights count in `commit`."""
        with disk_full_error(self._path):
            self._present.add(part[0].numpy(force=True), *box.within(self.region))

    def sync(self) -> None:
        """Write the present point to the disk: after a loss of power it may have to be committed."""
        with disk_full_error(self._path):
            self._present.sync()

    def commit(self, weights: Sequence[Sequence[float]]) -> None:
        """Add complete points to each sum that lacks them; `weights` are those of all points by rule.

        Raises `DamagedFile` where a sum has another number of points, or the file another point.
        """
        self._weights, number = weights, len(weights)
        if number < self._kept:
            self.check_kept(number)
            return
        with disk_full_error(self._path):
            # A cell is a chunk of each sum: no file is written by two threads.
            threads = min(cores(), COMMIT_THREADS)
            for _ in map_parallel(self._cells(), self._commit, threads, name="commit"):
                pass
            if number > self._kept:
                # Not at once: the sums that were made of them may not be on the disk yet.
                for kept in range(1, self._kept + 1):
                    self._point(kept).path.unlink(missing_ok=True)

    def check_kept(self, number: int) -> None:
        """Raise `DamagedFile` or `OSError` where one of the first `number` points is no longer there."""
        for point in range(1, number + 1):
            self._point(point).check(point)

    def _commit(self, box: Region) -> None:
        y, x = box.slices
        number = len(self._weights)
        is_first = number == self._kept
        before = 0 if is_first else number - 1
        # The other rules may not be needed.
        sums = self._sums[:1] if is_first and self._sums[0] is not None else self._sums
        missing = []
        for rule, total in enumerate(sums):
            if total is None:
                continue
            values = total[:, y, x]
            if (values[-1] == number).all():
                continue
            if (values[-1] != before).any():
                raise DamagedFile(self._path / str(rule))
            missing.append((rule, total, values))
        for point in range(before + 1, number + 1) if missing else ():
            file = self._point(point)
            file.check(point)
            part = file.read(y, x)
            for rule, _, values in missing:
                values[:-1] += self._weights[point - 1][rule] * part
        for rule, total, values in missing:
            values[-1] = number
            write_chunks(total, self._path / str(rule), box, np.moveaxis(values, 0, 2))

    def _cells(self) -> Iterator[Region]:
        """Yield the chunks in pixels of the arrays."""
        return cut(Region(0, 0, *self.region.shape), CHUNK)

    def of(self, rule: int) -> Summed:
        assert self._sums[rule] is not None
        values, number = self._sums[rule], len(self._weights)
        if number < self._kept:
            points = [self._point(point) for point in range(1, number + 1)]
            values = PointSum(points, [weights[rule] for weights in self._weights])
        return Summed(self.region, self.bands, values, self._lease)

    def remove(self, rule: int) -> None:
        """Delete a dropped sum from the disk."""
        shutil.rmtree(self._path / str(rule), ignore_errors=True)


def disk_full_error(path: Path) -> AbstractContextManager[None]:
    """Raise `DiskFull` where a write to `path` fails for lack of space."""
    return disk_full_as(
        f"No space left on the disk of {path}; the finished points are kept.",
        "Free space, then repeat the command.",
    )


FORMAT = 4
"""Raised when the layout on disk changes; part of every folder's name."""
POINTS = "points.jsonl"
"""Journal of the points, and of the rules that were dropped."""
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


def opened_sum(parts: Mapping[str, Any]) -> Summed:
    """Return the sum of `Summed.to_parts`; its folder on disk, if any, stays while it is in use."""
    region, bands = parts["region"], parts["bands"]
    if "values" in parts:
        return Summed(region, bands, parts["values"])
    import zarr

    lease = SharedLease(Path(parts["folder"]))
    return Summed(region, bands, zarr.open_array(parts["array"], mode="r"), lease)


class StoredAccumulator(Accumulator):
    """An accumulator on disk, which a later process with the same settings continues; raises `StoreBusy`."""

    # A point counts once it is in the journal; only then is it committed to the sums, and a commit
    # that was interrupted is completed by the next process. Within the cache the folder is a cache
    # entry.
    pixels: StoredSums
    overview: StoredSums | None
    sums: list[StoredSums]  # type: ignore[assignment]

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
        key = digest_of([FORMAT, *settings, [[rule.name, len(rule.nodes)] for rule in rules]])
        self.path = parent / f"attribution-{key}"
        self._journal = Journal(self.path / POINTS, {"key": key})
        with disk_full_error(parent):
            self._close = lock_exclusive(
                self,
                self.path,
                "The same attribution is already running ({}).",
                f"use another {option('scratch')} folder",
            )
            mark_entry(self.path, {"attribution": key}, complete=False)
            # Also while others read it: the folder must outlive them now.
            (self.path / DELIVERED).unlink(missing_ok=True)
        self._shared_lease = SharedLease(self.path)
        self._regions = {"pixels": region} | ({} if overview is None else {"overview": overview})
        self._kept = len(rules[0].nodes) if len(rules) > 1 else 0
        self._bands = bands
        try:
            self._open_or_reset()
        except BaseException:
            self.close(done=False)
            raise

    def _check_disk(self, nodes: int, first: int) -> None:
        """Raise `DiskFull` where the disk has too little space for the sums and points not yet written."""
        rules, points = len(self.rules) - first, 1
        if nodes <= self._kept:
            # Until the point after them is committed.
            rules, points = (rules, self._kept + 1) if first else (1, self._kept)
        needed = sum(
            StoredSums.bytes(box, self._bands, rules, points) for box in self._regions.values()
        )
        # Zeros of the present point may take no space yet.
        present = f"{POINT}-{nodes + 1}" if nodes < self._kept else POINT
        if shutil.disk_usage(self.path).free < needed - _size(self.path, present):
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
                self._commit()
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            if is_disk_full(error):
                raise
            self._clear()
            self._open_sums([], [], 0)

    def _read(self) -> tuple[list[Node], list[Floats], int]:
        """Return points, their sketches and the present rule; raises `ValueError`, `KeyError` and the like."""
        self._journal.mend()
        entries = self._journal.read()
        if not entries:
            # Without a journal no sum is complete.
            self._clear()
        points = [entry for entry in entries if "node" in entry]
        nodes = [Node(*map(float, entry["node"])) for entry in points]
        sketches = [np.frombuffer(base64.b64decode(entry["sketch"]), "<f8") for entry in points]
        first = sum("dropped" in entry for entry in entries)
        order = list(dict.fromkeys(float(alpha) for rule in self.rules for alpha in rule.nodes))
        if [node.alpha for node in nodes] != order[: len(nodes)]:
            raise ValueError("The points are not those of these rules.")
        if not 0 <= first < len(self.rules):
            raise ValueError("There is no such rule.")
        return nodes, sketches, first

    def _open_sums(self, nodes: Sequence[Node], sketches: Sequence[Floats], first: int) -> None:
        """Open the sums of these points."""
        self._check_disk(len(nodes), first)
        sums = {
            name: StoredSums(
                box,
                self._bands,
                len(self.rules),
                self.path / name,
                self._shared_lease,
                first=first,
                kept=self._kept,
            )
            for name, box in self._regions.items()
        }
        super().__init__(self.rules, sums["pixels"], sums.get("overview"))
        self.nodes = {node.alpha: node for node in nodes}
        self.sketches = {node.alpha: each for node, each in zip(nodes, sketches, strict=True)}
        self.first = first

    def _clear(self) -> None:
        """Remove points and sums."""
        self._journal.clear()
        for name in self._regions:
            shutil.rmtree(self.path / name, ignore_errors=True)

    def adding(self, alpha: float) -> AddAll:
        for sums in self.sums:
            sums.begin(len(self.nodes) + 1)
        return super().adding(alpha)

    def finish(self, node: Node) -> None:
        super().finish(node)
        for sums in self.sums:
            sums.sync()
        sketch = base64.b64encode(self.sketches[node.alpha].astype("<f8").tobytes()).decode()
        self._append({"node": list(node), "sketch": sketch})
        self._commit()

    def _commit(self) -> None:
        for sums in self.sums:
            sums.commit([self.weights(alpha) for alpha in self.nodes])

    def drop(self) -> None:
        dropped = self.first
        if not dropped:
            self._check_kept()
        self._check_disk(len(self.nodes), dropped + 1)
        super().drop()
        # The journal first: every sum it refers to must exist.
        self._append({"dropped": dropped})
        # This process has two locks, for writing and reading; more are readers of that very sum.
        if users_of(self.path) <= 2:
            for sums in self.sums:
                sums.remove(dropped)
        if not dropped:
            self._commit()

    def _check_kept(self) -> None:
        """Raise `InputError` where a point that the finer rules need is gone or damaged."""
        try:
            for sums in self.sums:
                sums.check_kept(self._kept)
        except (OSError, ValueError) as error:
            raise InputError(
                f"A finished point of this map is gone or damaged in {self.path}.",
                "Close what shows the map, remove that folder, and repeat the command.",
            ) from error

    def _append(self, entry: Mapping[str, Any]) -> None:
        with disk_full_error(self.path):
            self._journal.append(entry, durable=True)

    def close(self, done: bool) -> None:
        """Release the write lock; a result that was not delivered stays for a later run."""
        self._close()
        if not done:
            self._shared_lease.leave()


def _size(path: Path, without: str) -> int:
    """Return the total bytes of the files in a folder but those of a name."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name != without)
    return sum(file.stat().st_size for file in files)
