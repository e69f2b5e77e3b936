"""Sums of gradients in memory, and finished sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float64]
ROWS = 512
"""Rows of the map that are read together."""


class FolderLease(Protocol):
    """Keeps a folder on disk for as long as it is referenced."""

    path: Path

    def deliver(self, is_delivered: bool) -> None: ...


class Summed:
    """A finished sum over `region`, (bands, h, w) float64, read box by box."""

    def __init__(
        self, region: Region, bands: int, values: Any, lease: FolderLease | None = None
    ) -> None:
        """Wrap `values`, which may have more planes than bands."""
        self.region, self.bands = region, bands
        self._values = values
        self._lease = lease

    def deliver(self, is_delivered: bool = True) -> None:
        """Mark the sum as delivered: its folder is removed with the last reference."""
        if self._lease is not None:
            self._lease.deliver(is_delivered)

    def to_parts(self) -> dict[str, Any]:
        """Return what `opened_sum` opens: the values, or on disk folder and array."""
        about = {"region": self.region, "bands": self.bands}
        if self._lease is None:
            return {**about, "values": np.asarray(self._values[: self.bands])}
        array = f"{self._values.store.root}/{self._values.path}"
        return {**about, "folder": str(self._lease.path), "array": array}

    def read(self, box: Region) -> Floats:
        """Return a box within the region, (bands, h, w) float64."""
        rows, columns = box.within(self.region)
        values: Floats = np.asarray(self._values[: self.bands, rows, columns])
        return values

    def finite(self, box: Region) -> Floats:
        """Return `read` with 0 in place of values that are not finite."""
        return np.nan_to_num(self.read(box), nan=0, posinf=0, neginf=0)

    def strips(self) -> Iterator[Region]:
        """Yield the region in strips of `ROWS` rows."""
        region = self.region
        for top in range(region.y0, region.y1, ROWS):
            yield Region(top, region.x0, min(region.y1, top + ROWS), region.x1)

    def magnitude(self) -> npt.NDArray[np.float32]:
        """Return |Σ over bands|, (h, w) float32, of those that are finite."""
        values = np.empty(self.region.shape, np.float32)
        for strip in self.strips():
            rows, _ = strip.within(self.region)
            values[rows] = np.abs(self.finite(strip).sum(axis=0))
        return values

    def not_finite(self) -> int:
        """Return the number of values that are NaN or infinite."""
        return sum(int((~np.isfinite(self.read(strip))).sum()) for strip in self.strips())


class Sums:
    """Σ weight · gradient · speed over `region`, in float64, one sum per rule.

    Nested rules share nodes with different weights, and a node is evaluated once: hence one sum
    for each rule that may still be needed.
    """

    def __init__(self, region: Region, bands: int, rules: int) -> None:
        self.region, self.bands = region, bands
        self._sums: list[Any] = [np.zeros((bands, *region.shape)) for _ in range(rules)]

    def add(self, weights: Sequence[float], box: Region, part: Tensor) -> None:
        """Add a part (1, C, h, w), times the weight that its node has in each rule."""
        values = part[0].numpy(force=True)
        y, x = box.within(self.region)
        for total, weight in zip(self._sums, weights, strict=True):
            if total is not None and weight:
                total[:, y, x] = total[:, y, x] + weight * values

    def of(self, rule: int) -> Summed:
        """Return the sum of a rule."""
        assert self._sums[rule] is not None
        return Summed(self.region, self.bands, self._sums[rule])

    def drop(self, rule: int) -> None:
        """Free the sum of a dropped rule."""
        self._sums[rule] = None
