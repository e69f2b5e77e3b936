"""The points of a path asked so far, and what they add up to by every rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from napari_restore.engine import Region
from napari_restore.explain._quadrature import Quadrature
from napari_restore.explain.sums._sums import Sums


class Node(NamedTuple):
    """One point of the path."""

    alpha: float
    value: float
    """D(γ(α))."""
    slope: float
    """dD/dα: the gradient times the speed, summed over all pixels."""


Add = Callable[[Region, Tensor], None]
"""Takes part of gradient times speed, (1, C, h, w), and the box that it lies in."""
AddAll = tuple[Add, Add]
"""For the pixels, and for those of the overview."""


class Accumulator:
    """Points, and their sums by each of `rules`, of which each holds the nodes of the one before."""

    def __init__(self, rules: Sequence[Quadrature], pixels: Sums, overview: Sums | None) -> None:
        """`overview` is for the pixels of the overview, if they are asked."""
        self.rules, self.pixels, self.overview = rules, pixels, overview
        self.nodes: dict[float, Node] = {}
        """By α, in the order in which they were asked."""
        self.first = 0
        """The rule that is being tried: those before it did not suffice."""

    def adding(self, alpha: float) -> AddAll:
        """What takes the parts of a point that begins."""
        weights = self.weights(alpha)

        def add(box: Region, part: Tensor) -> None:
            self.pixels.add(weights, box, part)

        def add_overview(box: Region, part: Tensor) -> None:
            assert self.overview is not None
            self.overview.add(weights, box, part)

        return add, add_overview

    def weights(self, alpha: float) -> list[float]:
        """Of a point in every rule; nothing in those that did not suffice."""
        return [
            rule.weight_of(alpha) if number >= self.first else 0.0
            for number, rule in enumerate(self.rules)
        ]

    def finish(self, node: Node) -> None:
        """All parts of a point were added."""
        self.nodes[node.alpha] = node

    def drop(self) -> None:
        """The rule that was tried does not suffice: the next one is."""
        self.pixels.drop(self.first)
        if self.overview is not None:
            self.overview.drop(self.first)
        self.first += 1

    @property
    def tried(self) -> int:
        """Points of the rule that is being tried, or of the one beyond it that was begun."""
        counts = [len(rule.nodes) for rule in self.rules[self.first :]]
        return next((count for count in counts if count >= len(self.nodes)), counts[-1])

    def close(self, done: bool) -> None:
        """Nothing is added any more; `done` tells whether that is because the map is there."""
