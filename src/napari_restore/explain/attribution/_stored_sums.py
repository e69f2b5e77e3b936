"""Sums on disk with atomic updates by chunks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from napari_restore.engine import DamagedChunk, Region, create_array, write_chunks
from napari_restore.errors import disk_full_as
from napari_restore.explain.attribution._sums import FolderLease, Summed, Sums

CHUNK = 512
"""Side in pixels of the chunks of a sum."""
NODE_CHUNK = 256
"""Side in pixels of the chunks of a point: tiles of staged models are multiples of it."""
NODE = "node"
"""Name of the array of the present point."""


class StoredSums(Sums):
    """As `Sums`, in a folder; a point is committed when it is complete, and exactly once.

    The parts of a point are collected in an array of their own. Each chunk of a sum has one more
    plane with the number of points in it, and is replaced atomically: after an interruption the
    next process sees which chunks lack the last point.
    """

    def __init__(
        self, region: Region, bands: int, rules: int, path: Path, lease: FolderLease, first: int = 0
    ) -> None:
        """Open or create the sums in the folder `path`, without the rules before `first`."""
        import zarr

        self.region, self.bands = region, bands
        self._path, self._lease = path, lease
        with disk_full_error(path):
            group: Any = zarr.open_group(str(path), mode="a", zarr_format=3)
            shape = (bands + 1, *region.shape)
            self._sums = [
                None
                if rule < first
                else group[str(rule)]
                if str(rule) in group
                else create_array(group, str(rule), shape, CHUNK, "<f8")
                for rule in range(rules)
            ]
            self._node = group[NODE] if NODE in group else self._create_node(group)

    def _create_node(self, group: Any) -> Any:
        return group.create_array(
            NODE,
            shape=(self.bands, *self.region.shape),
            chunks=(self.bands, NODE_CHUNK, NODE_CHUNK),
            dtype="f4",
            fill_value=0.0,
            compressors=None,
        )

    @staticmethod
    def bytes(region: Region, bands: int, rules: int) -> int:
        """Return the bytes on disk, where chunks at the edge are as large as others."""
        height, width = (-(-side // CHUNK) * CHUNK for side in region.shape)
        return height * width * bands * (8 * rules + 4)

    def begin(self) -> None:
        """Clear the array of the present point."""
        chunks = self._path / NODE / "c"
        if chunks.exists():
            shutil.rmtree(chunks)

    def add(self, weights: Sequence[float], box: Region, part: Tensor) -> None:
        """Add a part (1, C, h, w) to the present point; its weights count in `commit`."""
        y, x = box.within(self.region)
        with disk_full_error(self._path):
            self._node[:, y, x] = self._node[:, y, x] + part[0].numpy(force=True)

    def commit(self, weights: Sequence[float], number: int) -> None:
        """Add the complete point, the `number`-th, to each sum that lacks it.

        Raises `DamagedChunk` where a sum has another number of points.
        """
        with disk_full_error(self._path):
            for box in self._cells():
                self._commit(weights, number, box)

    def _commit(self, weights: Sequence[float], number: int, box: Region) -> None:
        y, x = box.slices
        point = None
        for rule, (total, weight) in enumerate(zip(self._sums, weights, strict=True)):
            if total is None:
                continue
            values = total[:, y, x]
            if (values[-1] == number).all():
                continue
            if (values[-1] != number - 1).any():
                raise DamagedChunk(self._path / str(rule))
            if point is None:
                point = self._node[:, y, x].astype(np.float64)
            values[:-1] += weight * point
            values[-1] = number
            write_chunks(total, self._path / str(rule), box, np.moveaxis(values, 0, 2))

    def _cells(self) -> Iterator[Region]:
        """Yield the chunks in pixels of the arrays."""
        height, width = self.region.shape
        for y in range(0, height, CHUNK):
            for x in range(0, width, CHUNK):
                yield Region(y, x, min(height, y + CHUNK), min(width, x + CHUNK))

    def of(self, rule: int) -> Summed:
        assert self._sums[rule] is not None
        return Summed(self.region, self.bands, self._sums[rule], self._lease)

    def remove(self, rule: int) -> None:
        """Delete a dropped sum from the disk."""
        shutil.rmtree(self._path / str(rule), ignore_errors=True)


def disk_full_error(path: Path) -> AbstractContextManager[None]:
    """Raise `DiskFull` where a write to `path` fails for lack of space."""
    return disk_full_as(
        f"No space left on the disk of {path}; the finished points are kept.",
        "Free space, then repeat the command.",
    )
