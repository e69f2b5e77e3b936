"""Quadrature rules: nodes and weights on [0, 1] for path integrals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter

NESTED = (9, 17, 33, 65)
"""Node counts of the nested rules of ``auto``: each contains all nodes of the one before."""
CLENSHAW_CURTIS, FEJER = "clenshaw-curtis", "fejer"
RULES = ("gauss-legendre", "middle", "left", "right", "trapezoid", CLENSHAW_CURTIS, FEJER)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Quadrature:
    """∫₀¹ f(α) dα ≈ Σ weights · f(nodes)."""

    name: str
    nodes: Floats
    """In ascending order."""
    weights: Floats
    """They sum to 1."""

    def weight_of(self, alpha: float) -> float:
        """Return the weight of a node, 0 for any other α."""
        index = np.flatnonzero(self.nodes == alpha)
        return float(self.weights[index[0]]) if len(index) else 0.0

    def halved(self) -> Quadrature | None:
        """Return the rule of every second node, where rules of this name are nested; else None."""
        count = len(self.nodes)
        if self.name == CLENSHAW_CURTIS:
            return clenshaw_curtis((count + 1) // 2) if count % 4 == 1 else None
        if self.name == FEJER:
            return fejer((count - 1) // 2) if count % 4 == 3 else None
        return None


def clenshaw_curtis(count: int) -> Quadrature:
    """Return the rule of `count` (odd) Chebyshev points, including both ends (Trefethen, SIAM Review 2008)."""
    if count < 3 or count % 2 == 0:
        raise BadParameter(
            f"Clenshaw-Curtis quadrature has no rule of {count} nodes.",
            "Use an odd number from 3 on.",
        )
    # Its nodes are every second one of the next finer rule, so refining reuses all of them; smooth
    # functions are integrated about as accurately as by Gauss's rule.
    intervals = count - 1
    angles = np.pi * np.arange(count) / intervals
    weights = np.ones(count)
    for j in range(1, intervals // 2 + 1):
        share = 1.0 if 2 * j == intervals else 2.0
        weights -= share * np.cos(2 * j * angles) / (4 * j * j - 1)
    weights /= intervals
    weights[[0, -1]] /= 2
    # sin², not 1 − cos: exact at both ends, and bit-identical nodes in every level.
    return Quadrature(CLENSHAW_CURTIS, np.sin(angles / 2) ** 2, weights)


def fejer(count: int) -> Quadrature:
    """Return the rule of the `count` (odd) inner nodes of `clenshaw_curtis(count + 2)`: Fejér's second."""
    if count < 1 or count % 2 == 0:
        raise BadParameter(f"Fejer quadrature has no rule of {count} nodes.", "Use an odd number.")
    # For gradients that are unbounded at an end, as that of a root at black.
    intervals = count + 1
    angles = np.pi * np.arange(1, intervals) / intervals
    odd = np.arange(1, intervals, 2)
    terms = np.sin(odd * angles[:, None]) / odd
    weights = 2 * np.sin(angles) * terms.sum(axis=1) / intervals
    return Quadrature(FEJER, np.sin(angles / 2) ** 2, weights)


def fixed(rule: str, steps: int) -> Quadrature:
    """Return a rule of `RULES` with `steps` nodes (`trapezoid`: one more); raises `BadParameter`."""
    if steps < 1:
        raise BadParameter(f"A path cannot have {steps} steps.", "Use one or more.")
    if rule in (CLENSHAW_CURTIS, FEJER):
        return clenshaw_curtis(steps) if rule == CLENSHAW_CURTIS else fejer(steps)
    if rule == "gauss-legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return Quadrature(rule, (nodes + 1) / 2, weights / 2)
    if rule in (places := {"left": 0, "middle": 0.5, "right": 1}):
        nodes = (np.arange(steps) + places[rule]) / steps
        return Quadrature(rule, nodes, np.full(steps, 1 / steps))
    if rule == "trapezoid":
        weights = np.full(steps + 1, 1 / steps)
        weights[[0, -1]] /= 2
        return Quadrature(rule, np.arange(steps + 1) / steps, weights)
    raise BadParameter(f"There is no rule {rule!r}.", f"Choose among {', '.join(RULES)}.")
