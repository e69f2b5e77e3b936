"""Gradients added up along a path until what they add up to is what the model did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from napari_restore.engine import Region
from napari_restore.explain._quadrature import Quadrature
from napari_restore.explain._sums import Summed, Sums

NEGLIGIBLE = 1e-6
"""Share of the largest |D| along the path below which a difference is rounding."""


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
Evaluate = Callable[[float, AddAll], Node]


class Reached(NamedTuple):
    """How far an integral is."""

    done: int
    """Nodes evaluated."""
    total: int
    """Nodes of the rule that is being tried."""
    sum: Summed
    """What that rule's map is by now …"""
    share: float
    """… and the weights of its nodes in it, of 1."""


@dataclass(frozen=True)
class Integral:
    """A map, and how far it can be trusted."""

    total: Summed = field(repr=False)
    overview: Summed | None = field(repr=False)
    """What the pixels of the overview contribute through the whole-image facts."""
    rule: str
    nodes: tuple[Node, ...]
    """Those that count for the map, in the order of α."""
    sum: float
    """What all attributions add up to."""
    difference: float
    """D(x) − D(x′): what they should add up to."""
    goal: float

    @property
    def gap(self) -> float | None:
        """|sum − difference| / |difference|; None where the difference is next to nothing."""
        scale = max((abs(node.value) for node in self.nodes), default=0.0)
        if abs(self.difference) <= NEGLIGIBLE * scale or not self.difference:
            return None
        return abs(self.sum - self.difference) / abs(self.difference)

    @property
    def is_complete(self) -> bool | None:
        """Whether the gap is as small as it was to be; None where there is none."""
        return None if self.gap is None else self.gap <= self.goal


def integrate(
    rules: Sequence[Quadrature],
    evaluate: Evaluate,
    value: Callable[[float], float],
    sums: Sums,
    overview: Sums | None,
    goal: float,
    tell: Callable[[Reached], None] = lambda reached: None,
) -> Integral:
    """The integral of dγ/dα · ∂D/∂γ by the first of `rules` whose gap is at most `goal`.

    Parameters
    ----------
    rules
        Each holds the nodes of the one before. The last one counts in any case.
    evaluate
        Gives a node of the path and hands on its gradients times speed.
    value
        D(γ(α)) alone, for ends that are no nodes.
    sums, overview
        Of the pixels, and of the overview's if they are asked; as many as there are rules.
    goal
        The relative gap that suffices.
    tell
        Called after every node.
    """
    known: dict[float, Node] = {}
    ends: dict[float, float] = {}
    for number, rule in enumerate(rules):
        for alpha in map(float, rule.nodes):
            if alpha in known:
                continue
            weights = [_weight(r, alpha) if k >= number else 0.0 for k, r in enumerate(rules)]

            def add(box: Region, part: Tensor, weights: list[float] = weights) -> None:
                sums.add(weights, box, part)

            def add_overview(box: Region, part: Tensor, weights: list[float] = weights) -> None:
                assert overview is not None
                overview.add(weights, box, part)

            known[alpha] = evaluate(alpha, (add, add_overview))
            share = sum(_weight(rule, node) for node in known)
            tell(Reached(len(known), len(rule.nodes), sums.of(number), share))
        for end in (0.0, 1.0):
            if end not in ends:
                ends[end] = known[end].value if end in known else value(end)
        nodes = tuple(known[float(alpha)] for alpha in rule.nodes)
        total = float(np.dot(rule.weights, [node.slope for node in nodes]))
        found = Integral(
            sums.of(number),
            None if overview is None else overview.of(number),
            rule.name,
            nodes,
            total,
            ends[1.0] - ends[0.0],
            goal,
        )
        # Where there is no difference, finer steps change nothing that could be judged.
        if found.is_complete is not False:
            break
        if number + 1 < len(rules):
            sums.drop(number)
            if overview is not None:
                overview.drop(number)
    return found


def _weight(rule: Quadrature, alpha: float) -> float:
    place = np.flatnonzero(rule.nodes == alpha)
    return float(rule.weights[place[0]]) if len(place) else 0.0
