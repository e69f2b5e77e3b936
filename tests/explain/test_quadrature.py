"""Rules of integration: exact where they promise it, nested where they are refined."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from napari_restore.errors import BadParameter
from napari_restore.explain.attribution._integral import ComputedMap
from napari_restore.explain.attribution._sums import Node
from napari_restore.explain.attribution.quadrature import NESTED, RULES, clenshaw_curtis, fixed


@pytest.mark.parametrize("count", NESTED)
def test_clenshaw_curtis_is_exact_for_polynomials(count: int) -> None:
    rule = clenshaw_curtis(count)
    for power in range(count):
        assert rule.weights @ rule.nodes**power == pytest.approx(1 / (power + 1), abs=1e-13)
    assert (rule.nodes[0], rule.nodes[-1]) == (0, 1)
    assert (rule.weights > 0).all()


def test_each_level_holds_the_nodes_of_the_one_before_to_the_bit() -> None:
    for coarse, fine in pairwise(NESTED):
        assert np.array_equal(clenshaw_curtis(coarse).nodes, clenshaw_curtis(fine).nodes[::2])


@pytest.mark.parametrize("rule", RULES)
def test_weights_add_up_to_one_and_errors_shrink(rule: str) -> None:
    errors = []
    for steps in (9, 65):
        found = fixed(rule, steps)
        assert found.weights.sum() == pytest.approx(1)
        errors.append(abs(found.weights @ np.exp(found.nodes) - (np.e - 1)))
    assert errors[1] <= max(errors[0] / 7, 1e-14)


def test_what_is_no_rule() -> None:
    with pytest.raises(BadParameter, match="no rule"):
        fixed("simpson", 4)
    with pytest.raises(BadParameter, match="cannot have 0 steps"):
        fixed("middle", 0)
    with pytest.raises(BadParameter, match="odd"):
        clenshaw_curtis(8)


@pytest.mark.parametrize(
    ("rule", "nodes"),
    [
        ("middle", [0.125, 0.375, 0.625, 0.875]),
        ("left", [0, 0.25, 0.5, 0.75]),
        ("right", [0.25, 0.5, 0.75, 1]),
        ("trapezoid", [0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_even_rules_have_their_nodes_where_they_say(rule: str, nodes: list[float]) -> None:
    found = fixed(rule, 4)
    assert found.nodes.tolist() == nodes
    ends = rule == "trapezoid"
    assert found.weights.tolist() == ([0.125, 0.25, 0.25, 0.25, 0.125] if ends else [0.25] * 4)


@pytest.mark.parametrize(
    ("low", "high", "gap"),
    [
        (1.0, 3.0, 0.25),
        (3.0, 1.0, 1.75),
        (1.0, 1.0, None),
        # Rounding of values of the size of 1000.
        (1000.0, 1000.0009, None),
        (1000.0, 1000.5, 2.0),
        (float("nan"), 1.0, None),
    ],
)
def test_a_gap_is_a_share_of_the_difference_where_that_is_no_rounding(
    low: float, high: float, gap: float | None
) -> None:
    nodes = (Node(0.0, low, 1.0), Node(1.0, high, 1.0))
    summed: Any = None
    found = ComputedMap(summed, None, "trapezoid", nodes, 1.5, (low, high), 0.25)
    assert found.gap == (None if gap is None else pytest.approx(gap))
    assert found.is_complete is (None if gap is None else gap <= 0.25)
