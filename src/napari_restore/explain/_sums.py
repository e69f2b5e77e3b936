"""Where gradients are added up: in memory, or on disk for maps of huge images."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from napari_restore.engine import Region
from napari_restore.errors import DiskFull

Floats = npt.NDArray[np.float64]
BLOCK = 256
"""Side in pixels of the chunks on disk: tiles of staged models are multiples of it."""
ROWS = 512
"""Rows of the map that are looked at together."""


class _Folder:
    """A new folder within another, removed when nobody holds this any more."""

    def __init__(self, parent: Path) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="attribution-", dir=parent))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Summed:
    """A finished sum over `region`, (bands, h, w) float64, read box by box."""

    def __init__(
        self, region: Region, bands: int, values: Any, folder: _Folder | None = None
    ) -> None:
        self.region, self.bands = region, bands
        self._values = values
        self._folder = folder

    def read(self, box: Region) -> Floats:
        """(bands, h, w) of a box within the region."""
        rows, columns = box.within(self.region)
        found: Floats = np.asarray(self._values[:, rows, columns])
        return found

    def strips(self) -> Iterator[Region]:
        """The region in strips of `ROWS` rows."""
        region = self.region
        for top in range(region.y0, region.y1, ROWS):
            yield Region(top, region.x0, min(region.y1, top + ROWS), region.x1)

    def magnitude(self) -> npt.NDArray[np.float32]:
        """(h, w) |Σ over bands|."""
        found = np.empty(self.region.shape, np.float32)
        for strip in self.strips():
            rows, _ = strip.within(self.region)
            found[rows] = np.abs(self.read(strip).sum(axis=0))
        return found


class Sums:
    """Σ weight · gradient · speed over `region`, in float64, one sum per rule.

    Nested rules share nodes with other weights, and a node is evaluated once: hence a sum
    for each rule that may still be needed. With a `folder` they lie in a new one within it.
    """

    def __init__(self, region: Region, bands: int, rules: int, folder: Path | None = None) -> None:
        self.region, self.bands = region, bands
        self._folder: _Folder | None = None
        self._sums: list[Any] = []
        shape = (bands, *region.shape)
        if folder is None:
            self._sums = [np.zeros(shape) for _ in range(rules)]
            return
        import zarr

        folder.mkdir(parents=True, exist_ok=True)
        needed = rules * region.pixels * bands * 8
        if shutil.disk_usage(folder).free < needed:
            raise DiskFull(
                f"The sums of this map need {needed / 2**30:.1f} GiB in {folder}, which has less.",
                "Name another folder with --scratch, or give a fixed number of --steps.",
            )
        self._folder = _Folder(folder)
        for number in range(rules):
            self._sums.append(
                zarr.create_array(
                    str(self._folder.path / f"{number}.zarr"),
                    shape=shape,
                    chunks=(bands, BLOCK, BLOCK),
                    dtype="f8",
                    fill_value=0.0,
                    compressors=None,
                )
            )

    def add(self, weights: Sequence[float], box: Region, part: Tensor) -> None:
        """Add a part (1, C, h, w), times the weight that its node has in each rule."""
        values = part[0].numpy(force=True)
        y, x = box.within(self.region)
        for total, weight in zip(self._sums, weights, strict=True):
            if total is not None and weight:
                total[:, y, x] = total[:, y, x] + weight * values

    def of(self, rule: int) -> Summed:
        """The sum of a rule."""
        assert self._sums[rule] is not None
        return Summed(self.region, self.bands, self._sums[rule], self._folder)

    def drop(self, rule: int) -> None:
        """Forget the sum of a rule that did not suffice."""
        self._sums[rule] = None
