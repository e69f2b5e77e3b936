"""Redundancy of heads: linear CKA of their outputs, and correlation and overlap of their lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.explain._attention import looked
from torch import Tensor

import napari_restore as nr
from napari_restore.errors import BadModel, BadParameter
from napari_restore.explain.attention.redundancy import MEASURES, HeadRedundancy, mean_of_pairs
from napari_restore.models import HeadOutputs

CELLS = 4000


def outputs_of(*values: Tensor) -> HeadOutputs:
    """Outputs (cells, C_i) of heads that each add theirs to channels of their own."""
    sizes = [each.shape[-1] for each in values]
    return HeadOutputs(values, torch.split(torch.eye(sum(sizes)), sizes, dim=1))


def redundancy_of(*values: Tensor) -> HeadRedundancy:
    found = HeadRedundancy()
    found.add(outputs_of(*values))
    return found


def drawn(*sizes: int, cells: int = CELLS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(cells, size, generator=generator) for size in sizes]


def literal_cka(a: Tensor, b: Tensor) -> float:
    """As it is defined, of all cells at once."""
    a, b = ((each.double() - each.double().mean(0)).T for each in (a, b))
    own = (a @ a.T).norm() * (b @ b.T).norm()
    return float((a @ b.T).norm() ** 2 / own)


def test_cka_is_that_of_its_definition() -> None:
    one, other, third = drawn(3, 5, 4)
    other = other + one @ torch.randn(3, 5, generator=torch.Generator().manual_seed(1)) + 7
    matrix = redundancy_of(one, other, third).matrix()
    assert matrix.shape == (3, 3)
    np.testing.assert_allclose(matrix.diagonal(), 1)
    np.testing.assert_allclose(matrix, matrix.T)
    assert matrix[0, 1] == pytest.approx(literal_cka(one, other), abs=1e-9)
    assert matrix[0, 1] > 0.3
    # Of independent outputs.
    assert matrix[0, 2] == pytest.approx(literal_cka(one, third), abs=1e-9)
    assert matrix[0, 2] < 0.01


def test_cka_does_not_change_with_order_scale_offset_or_sign() -> None:
    one, other = drawn(4, 6)
    other = other + 2 * one[:, :1]
    expected = redundancy_of(one, other).matrix()
    changed = redundancy_of(3 * one[:, [2, 0, 3, 1]] + 5, -0.01 * other.flip(1)).matrix()
    np.testing.assert_allclose(changed, expected, atol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_parts_give_what_all_cells_give(measure: Any) -> None:
    values = [each * 0.1 + 1000 for each in drawn(4, 6, 3)]
    whole = redundancy_of(*values).matrix(measure)
    parts = HeadRedundancy()
    for start, stop in ((0, 1), (1, 1300), (1300, 1300), (1300, CELLS)):
        parts.add(outputs_of(*(each[start:stop] for each in values)))
    assert parts.cells == CELLS
    np.testing.assert_allclose(parts.matrix(measure), whole, atol=1e-6)


def test_lengths_are_correlated_and_their_tops_overlap() -> None:
    (strength,) = drawn(1, cells=100)
    rising = strength.abs()
    found = redundancy_of(rising, 2 * rising, 5 - rising)
    np.testing.assert_allclose(
        found.matrix("correlation"), [[1, 1, -1], [1, 1, -1], [-1, -1, 1]], atol=1e-6
    )
    overlap = found.matrix("overlap")
    np.testing.assert_allclose(overlap, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])


def test_a_head_that_is_the_same_everywhere_has_no_likeness() -> None:
    (one,) = drawn(3)
    found = redundancy_of(one, torch.full((CELLS, 2), 0.3))
    matrix = found.matrix()
    assert matrix[0, 0] == 1 and np.isnan(matrix[[0, 1, 1], [1, 0, 1]]).all()
    assert np.isnan(mean_of_pairs(matrix))
    assert found.to_dict()["cka"] == [[1.0, None], [None, None]]


@pytest.mark.parametrize("name", ["inf-dehaze-small", "hint-small", "andehazeformer-small"])
@pytest.mark.slow
@pytest.mark.ids("nightly", "inf-dehaze-small", "andehazeformer-small")
def test_every_family_compares_its_heads(name: str) -> None:
    model = nr.load_model(name, weights="random:0")
    pixels = np.random.default_rng(0).random((72, 100, 3), np.float32)
    image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
    found = nr.attend(image, model, [(5, 5)], device="cpu", progress=False, redundancy=True)
    sites = {s.name: s for s in model.attention_sites() if s.kind != "routing"}  # type: ignore[operator]
    assert set(found.redundancy) == set(sites)
    recorded = found.record["attention"]["redundancy"]
    for layer, matrix in found.redundancy.items():
        stride = sites[layer].stride
        assert matrix.shape == (len(sites[layer].heads),) * 2
        # All cells of the image, but none of the padding.
        assert recorded[layer]["cells"] == -(-72 // stride) * -(-100 // stride)
        known = ~np.isnan(matrix)
        assert known.any() and (matrix[known] >= -1e-9).all() and (matrix[known] <= 1 + 1e-9).all()


@pytest.mark.slow
def test_what_cannot_be_compared_has_one_sentence() -> None:
    pixels = np.zeros((64, 64, 3), np.float32)
    with pytest.raises(BadModel, match="is not known, so that its heads cannot be compared"):
        looked(pixels, (1, 1), redundancy=True)
    with pytest.raises(BadParameter, match="no heads that could be compared"):
        nr.attend(
            pixels,
            "inf-dehaze-small",
            [(1, 1)],
            layers="bottleneck.1.experts",
            redundancy=True,
            progress=False,
        )
