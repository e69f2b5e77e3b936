"""Points of a path evaluated so far, and sums of their gradients by every quadrature rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region, cut
from napari_restore.explain.attribution.quadrature import Quadrature

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float64]
ROWS, COLUMNS = 512, 2048
"""Rows and columns of the map that are read together."""
JUMP = 3**-0.5
"""Error of a map as a share of its last change, where the gradients of its pixels jump along the path."""
BINS = 4096
"""Numbers that a point keeps of its map: norms of weighted sums of points are known to 2 % by them."""


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
        """Yield the region in strips of `ROWS` rows and at most `COLUMNS` columns."""
        return cut(self.region, ROWS, COLUMNS)

    def magnitude(self) -> npt.NDArray[np.float32]:
        """Return |Σ over bands|, (h, w) float32, of those that are finite."""
        values = np.empty(self.region.shape, np.float32)
        for strip in self.strips():
            values[strip.within(self.region)] = np.abs(self.finite(strip).sum(axis=0))
        return values

    def not_finite(self) -> int:
        """Return the number of values that are NaN or infinite."""
        return sum(int((~np.isfinite(self.read(strip))).sum()) for strip in self.strips())


class Sums:
    """Σ weight · gradient · speed over `region`, in float64, one sum per rule."""

    # Nested rules share nodes with different weights, and a node is evaluated once: hence one sum
    # for each rule that may still be needed.
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


class Node(NamedTuple):
    """One point of the path."""

    alpha: float
    value: float
    """D(γ(α))."""
    slope: float
    """dD/dα: the gradient times the speed, summed over all pixels."""


def sketched(region: Region, box: Region, part: Tensor) -> Floats:
    """Return a sketch (BINS,) of a part (1, C, h, w) in `box` of a map over `region`, summed over bands."""
    values = np.nan_to_num(part[0].sum(0).numpy(force=True).astype(np.float64), posinf=0, neginf=0)
    # Each pixel is added to one of the numbers, with a sign: both look random, and are always the
    # same. The length of a sum of sketches is on average that of the map's sum (Charikar et al.
    # 2002), and it is that itself of a map of at most `BINS` pixels.
    y, x = (np.arange(at.start, at.stop, dtype=np.uint64) for at in box.within(region))
    numbers = y[:, None] * np.uint64(region.width) + x
    if region.pixels > BINS:
        # The mixing of splitmix64.
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
        numbers ^= numbers >> np.uint64(31)
        values *= np.where(numbers >> np.uint64(63), -1.0, 1.0)
    bins = (numbers % np.uint64(BINS)).astype(np.int64)
    return np.asarray(np.bincount(bins.ravel(), values.ravel(), BINS), np.float64)


Add = Callable[[Region, "Tensor"], None]
"""Adds a part of gradient times speed, (1, C, h, w), in its box."""
AddAll = tuple[Add, Add]
"""`Add` for the pixels, and for those of the overview."""


class Accumulator:
    """Points and their sums by each of the nested `rules`, coarsest first."""

    def __init__(self, rules: Sequence[Quadrature], pixels: Sums, overview: Sums | None) -> None:
        """Start without points; `overview` is for gradients through the context."""
        self.rules, self.pixels, self.overview = rules, pixels, overview
        self.sums = [pixels] if overview is None else [pixels, overview]
        self.nodes: dict[float, Node] = {}
        """Nodes by α, in the order of evaluation."""
        self.sketches: dict[float, Floats] = {}
        """A sketch of the pixels' map of each node."""
        self.first = 0
        """Index of the present rule; the gap of the coarser ones was too large."""

    def adding(self, alpha: float) -> AddAll:
        """Return functions that add the parts of a new point."""
        weights = self.weights(alpha)
        self.sketches[alpha] = np.zeros(BINS)

        def add(box: Region, part: Tensor) -> None:
            self.pixels.add(weights, box, part)
            self.sketches[alpha] += sketched(self.pixels.region, box, part)

        # Without an overview nothing is added to it.
        return add, partial(self.sums[-1].add, weights)

    def weights(self, alpha: float) -> list[float]:
        """Return the weights of a point in every rule."""
        return [rule.weight_of(alpha) for rule in self.rules]

    def finish(self, node: Node) -> None:
        """Record a point whose parts were all added."""
        self.nodes[node.alpha] = node

    def map_error(self, rule: Quadrature) -> float | None:
        """Return about how far the map by `rule` is from the integral, as a share of its length; None where unknown."""
        # From its change since the rule of half the points, if there is one; all nodes were
        # evaluated. Gradients of networks jump along a path, at another place for every pixel: then
        # the error of a rule is on average 1/√3 of that change. Of smooth gradients it is less.
        half = rule.halved()
        if half is None:
            return None
        weights = {alpha: rule.weight_of(alpha) for alpha in map(float, rule.nodes)}
        own = sum(weight * self.sketches[alpha] for alpha, weight in weights.items())
        less = sum(half.weight_of(alpha) * self.sketches[alpha] for alpha in weights)
        length = float(np.linalg.norm(own))
        return JUMP * (float(np.linalg.norm(own - less)) / length) if length else None

    def drop(self) -> None:
        """Drop the present rule and proceed to the next finer one."""
        for sums in self.sums:
            sums.drop(self.first)
        self.first += 1

    @property
    def planned_points(self) -> int:
        """Number of points of the present rule, or of the finer one that was already begun."""
        counts = [len(rule.nodes) for rule in self.rules[self.first :]]
        return next((count for count in counts if count >= len(self.nodes)), counts[-1])

    def close(self, done: bool) -> None:
        """End the accumulation; `done` is whether the map is complete."""
