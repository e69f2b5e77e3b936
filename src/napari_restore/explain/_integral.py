"""Gradients added up along a path until what they add up to is what the model did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from napari_restore.explain.sums._accumulator import Accumulator, AddAll, Node
from napari_restore.explain.sums._sums import Summed

NEGLIGIBLE = 1e-6
"""Share of the largest |D| along the path below which a difference is rounding."""
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
    """What the pixels of the overview contribute through the whole-image statistics."""
    rule: str
    nodes: tuple[Node, ...]
    """Those that count for the map, in the order of α."""
    sum: float
    """What all attributions add up to."""
    ends: tuple[float, float]
    """D(x′) and D(x)."""
    goal: float
    recomputed_difference: float | None = None
    """With fixed routing, what D(x) − D(x′) is when it is recomputed."""
    through_context: float | None = None
    """What of D(x) − D(x′) came through the context, and is not in the map where the gradient stops there;
    None where it is not known."""

    @property
    def difference(self) -> float:
        """D(x) − D(x′): what the attributions should add up to."""
        return self.ends[1] - self.ends[0]

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
    accumulator: Accumulator,
    evaluate: Evaluate,
    value: Callable[[float], float],
    goal: float,
    tell: Callable[[Reached], None] = lambda reached: None,
) -> Integral:
    """The integral of dγ/dα · ∂D/∂γ by the first rule of `accumulator` whose gap is at most `goal`.

    Parameters
    ----------
    accumulator
        Holds what is known already, and takes every point that is evaluated. The last of its
        rules counts in any case.
    evaluate
        Gives a node of the path and hands on its gradients times speed.
    value
        D(γ(α)) alone, for ends that are no nodes.
    goal
        The relative gap that suffices.
    tell
        Called after every node.
    """
    known = accumulator.nodes
    ends: dict[float, float] = {}
    for number, rule in enumerate(accumulator.rules):
        if number < accumulator.first:
            continue
        for alpha in map(float, rule.nodes):
            if alpha in known:
                continue
            accumulator.finish(evaluate(alpha, accumulator.adding(alpha)))
            share = sum(rule.weight_of(node) for node in known)
            tell(Reached(len(known), len(rule.nodes), accumulator.pixels.of(number), share))
        for end in (0.0, 1.0):
            if end not in ends:
                ends[end] = known[end].value if end in known else value(end)
        nodes = tuple(known[float(alpha)] for alpha in rule.nodes)
        total = float(np.dot(rule.weights, [node.slope for node in nodes]))
        found = Integral(
            accumulator.pixels.of(number),
            None if accumulator.overview is None else accumulator.overview.of(number),
            rule.name,
            nodes,
            total,
            (ends[0.0], ends[1.0]),
            goal,
        )
        # Where there is no difference, finer steps change nothing that could be judged.
        if found.is_complete is not False:
            break
        if number + 1 < len(accumulator.rules):
            accumulator.drop()
    return found
