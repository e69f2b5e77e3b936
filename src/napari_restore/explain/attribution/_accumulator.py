"""Points of a path evaluated so far, and their sums by every quadrature rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from napari_restore.engine import Region
from napari_restore.explain.attribution._quadrature import Quadrature
from napari_restore.explain.attribution._sums import Sums

if TYPE_CHECKING:
    from torch import Tensor


class Node(NamedTuple):
    """One point of the path."""

    alpha: float
    value: float
    """D(γ(α))."""
    slope: float
    """dD/dα: the gradient times the speed, summed over all pixels."""


Add = Callable[[Region, "Tensor"], None]
"""Adds a part of gradient times speed, (1, C, h, w), in its box."""
AddAll = tuple[Add, Add]
"""`Add` for the pixels, and for those of the overview."""


class Accumulator:
    """Points and their sums by each of the nested `rules`, coarsest first."""

    def __init__(self, rules: Sequence[Quadrature], pixels: Sums, overview: Sums | None) -> None:
        """Start without points; `overview` is for gradients through the context."""
        self.rules, self.pixels, self.overview = rules, pixels, overview
        self.nodes: dict[float, Node] = {}
        """Nodes by α, in the order of evaluation."""
        self.first = 0
        """Index of the present rule; the gap of the coarser ones was too large."""

    def adding(self, alpha: float) -> AddAll:
        """Return functions that add the parts of a new point."""
        weights = self.weights(alpha)

        def add(box: Region, part: Tensor) -> None:
            self.pixels.add(weights, box, part)

        def add_overview(box: Region, part: Tensor) -> None:
            assert self.overview is not None
            self.overview.add(weights, box, part)

        return add, add_overview

    def weights(self, alpha: float) -> list[float]:
        """Return the weights of a point in every rule, 0 in dropped ones."""
        return [
            rule.weight_of(alpha) if number >= self.first else 0.0
            for number, rule in enumerate(self.rules)
        ]

    def finish(self, node: Node) -> None:
        """Record a point whose parts were all added."""
        self.nodes[node.alpha] = node

    def drop(self) -> None:
        """Drop the present rule and proceed to the next finer one."""
        self.pixels.drop(self.first)
        if self.overview is not None:
            self.overview.drop(self.first)
        self.first += 1

    @property
    def planned_points(self) -> int:
        """Number of points of the present rule, or of the finer one that was already begun."""
        counts = [len(rule.nodes) for rule in self.rules[self.first :]]
        return next((count for count in counts if count >= len(self.nodes)), counts[-1])

    def close(self, done: bool) -> None:
        """End the accumulation; `done` is whether the map is complete."""
