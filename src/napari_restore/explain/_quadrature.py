"""Nodes and weights on [0, 1]: how an integral along a path is made of a few points of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter

NESTED = (9, 17, 33, 65)
"""Nodes of the levels of `auto`: each holds all nodes of the one before."""
RULES = ("gauss-legendre", "middle", "left", "right", "trapezoid")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Quadrature:
    """∫₀¹ f(α) dα ≈ Σ weights · f(nodes)."""

    name: str
    nodes: Floats
    """Rising."""
    weights: Floats
    """They add up to 1."""

    def weight_of(self, alpha: float) -> float:
        """Of one of its nodes, else 0."""
        place = np.flatnonzero(self.nodes == alpha)
        return float(self.weights[place[0]]) if len(place) else 0.0


def clenshaw_curtis(count: int) -> Quadrature:
    """The rule of `count` (odd) Chebyshev points, both ends among them.

    Its nodes are every second one of the next finer rule, so refining loses nothing; smooth
    functions are integrated about as well as by Gauss's rule (Trefethen, SIAM Review 2008).
    """
    if count < 3 or count % 2 == 0:
        raise BadParameter(f"{count} nodes make no such rule.", "Take an odd number from 3 on.")
    intervals = count - 1
    angles = np.pi * np.arange(count) / intervals
    weights = np.ones(count)
    for j in range(1, intervals // 2 + 1):
        share = 1.0 if 2 * j == intervals else 2.0
        weights -= share * np.cos(2 * j * angles) / (4 * j * j - 1)
    weights /= intervals
    weights[[0, -1]] /= 2
    # sin², not 1 − cos: exact at both ends, and the same numbers in every level.
    return Quadrature("clenshaw-curtis", np.sin(angles / 2) ** 2, weights)


def fixed(rule: str, steps: int) -> Quadrature:
    """A rule of `RULES` with `steps` nodes (the trapezoid's are one more); raises `BadParameter`."""
    if steps < 1:
        raise BadParameter(f"{steps} steps make no path.", "Take one or more.")
    k = np.arange(steps)
    even = np.full(steps, 1 / steps)
    if rule == "gauss-legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return Quadrature(rule, (nodes + 1) / 2, weights / 2)
    if rule == "middle":
        return Quadrature(rule, (k + 0.5) / steps, even)
    if rule == "left":
        return Quadrature(rule, k / steps, even)
    if rule == "right":
        return Quadrature(rule, (k + 1) / steps, even)
    if rule == "trapezoid":
        weights = np.full(steps + 1, 1 / steps)
        weights[[0, -1]] /= 2
        return Quadrature(rule, np.arange(steps + 1) / steps, weights)
    raise BadParameter(f"There is no rule {rule!r}.", f"Choose among {', '.join(RULES)}.")
