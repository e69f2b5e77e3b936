"""A computed map, and how complete it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from napari_restore.explain.attribution._sums import Node, Summed
from napari_restore.explain.attribution.summary import MAP_GOAL

NEGLIGIBLE = 1e-6
"""Share of the largest |D| along the path below which a difference counts as rounding."""


@dataclass(frozen=True)
class ComputedMap:
    """A map and its completeness."""

    total: Summed = field(repr=False)
    overview: Summed | None = field(repr=False)
    """Shares of the overview's pixels, through the whole-image statistics."""
    rule: str | None
    """None of a method without a path."""
    nodes: tuple[Node, ...]
    """Nodes of the rule, in the order of α; none without a path."""
    sum: float | None
    """Sum of all shares that are finite; None where the method claims no completeness."""
    ends: tuple[float, float]
    """D(x′) and D(x); NaN where the method claims no completeness."""
    goal: float | None
    """Relative gap that was requested."""
    evaluations: int | None = None
    """How often D was computed; None of a path."""
    recomputed_difference: float | None = None
    """D(x) − D(x′) with recomputed routing, where the routing was fixed."""
    map_error: float | None = None
    """About how far the map is from that of infinitely many points, as a share of its length (the root of
    the sum of its squares, over pixels); None where the rule says nothing of it."""
    through_context: float | None = None
    """Part of D(x) − D(x′) that came through the context, which the map omits where the gradient stops
    there; None where unknown."""
    path_difference: float | None = None
    """D(x) − D(x′) along the path of a context, where that may be another than `difference`."""

    @property
    def difference(self) -> float:
        """D(x) − D(x′), which the shares should sum to."""
        return self.ends[1] - self.ends[0]

    @property
    def gap(self) -> float | None:
        """|sum − difference| / |difference|; None where the difference is rounding, or not finite."""
        if self.sum is None:
            return None
        scale = max((abs(node.value) for node in self.nodes), default=0.0)
        if (
            not math.isfinite(self.difference)
            or abs(self.difference) <= NEGLIGIBLE * scale
            or not self.difference
        ):
            return None
        return abs(self.sum - self.difference) / abs(self.difference)

    @property
    def is_complete(self) -> bool | None:
        """Whether the gap is at most `goal`; None without a gap."""
        return None if self.gap is None or self.goal is None else self.gap <= self.goal

    @property
    def is_converged(self) -> bool | None:
        """Whether the error of the map is at most `MAP_GOAL` goals; None where it is not known."""
        if self.map_error is None or self.goal is None:
            return None
        return self.map_error <= MAP_GOAL * self.goal

    @property
    def is_fine_enough(self) -> bool:
        """Whether no finer rule is needed: without a difference there is no gap that it could reduce."""
        return self.is_complete is None or (self.is_complete and self.is_converged is not False)
