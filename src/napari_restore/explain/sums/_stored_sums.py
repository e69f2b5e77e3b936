"""Sums on disk, of which a process that was stopped leaves nothing half added."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from napari_restore.engine import DamagedChunk, Region, create_array, write_chunks
from napari_restore.errors import DiskFull
from napari_restore.explain.sums._sums import Keeper, Summed, Sums
from napari_restore.images import is_disk_full

CHUNK = 512
"""Side in pixels of the chunks of a sum."""
NODE_CHUNK = 256
"""Side of those of a point: tiles of staged models are multiples of it."""
NODE = "node"


class StoredSums(Sums):
    """As `Sums`, in a folder; a point is taken in when it is whole, and once.

    What a point gives is gathered in an array of its own. Each chunk of a sum tells, in one more
    plane, how many points it holds, and is replaced in one step: so whoever comes after a process
    that was stopped sees which chunks the last point is in.
    """

    def __init__(
        self, region: Region, bands: int, rules: int, path: Path, keeper: Keeper, first: int = 0
    ) -> None:
        """In the folder `path`, made if missing, without the rules before `first`."""
        import zarr

        self.region, self.bands = region, bands
        self._path, self._keeper = path, keeper
        with room(path):
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
            self._node = group[NODE] if NODE in group else self._made(group)

    def _made(self, group: Any) -> Any:
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
        """What they take on disk: chunks at the edge are as large as others."""
        height, width = (-(-side // CHUNK) * CHUNK for side in region.shape)
        return height * width * bands * (8 * rules + 4)

    def begin(self) -> None:
        """A point begins: nothing of another one is left."""
        chunks = self._path / NODE / "c"
        if chunks.exists():
            shutil.rmtree(chunks)

    def add(self, weights: Sequence[float], box: Region, part: Tensor) -> None:
        """Add a part (1, C, h, w) to what the point gives; its weights count in `take_in`."""
        y, x = box.within(self.region)
        with room(self._path):
            self._node[:, y, x] = self._node[:, y, x] + part[0].numpy(force=True)

    def take_in(self, weights: Sequence[float], number: int) -> None:
        """Add the whole point, which is the `number`-th, to each sum that lacks it.

        Raises `DamagedChunk` where a sum is not one of so many points.
        """
        with room(self._path):
            for box in self._cells():
                self._take_in(weights, number, box)

    def _take_in(self, weights: Sequence[float], number: int, box: Region) -> None:
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
        """The chunks, in pixels of the arrays."""
        height, width = self.region.shape
        for y in range(0, height, CHUNK):
            for x in range(0, width, CHUNK):
                yield Region(y, x, min(height, y + CHUNK), min(width, x + CHUNK))

    def of(self, rule: int) -> Summed:
        assert self._sums[rule] is not None
        return Summed(self.region, self.bands, self._sums[rule], self._keeper)

    def remove(self, rule: int) -> None:
        """Free the disk of a sum that was dropped."""
        shutil.rmtree(self._path / str(rule), ignore_errors=True)


@contextmanager
def room(path: Path) -> Iterator[None]:
    """Raise `DiskFull` where something cannot be written to `path` for want of room."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DiskFull(
            f"No space left on the disk of {path}; the points that are done are kept.",
            "Free space, then ask the same again.",
        ) from error
