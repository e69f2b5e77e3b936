"""Tensors in 8 bits: errors, ends, constants, and what is not finite."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from napari_restore.models.ipl.quantise import RANGE_BYTES, affine, by_cell, cell_values

RANGES = [(-1.0, 1.0), (-0.01, 3.0), (10.0, 11.0), (-7.0, -6.5), (0.0, 1e-6), (-1e6, 2e3)]


def tensor(low: float, high: float, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(int(abs(1000 * high)))
    values = low + (high - low) * torch.rand(shape or (3, 5, 7), generator=generator)
    values.flatten()[0], values.flatten()[-1] = low, high
    return values


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_the_error_is_half_a_step(low: float, high: float) -> None:
    t = tensor(low, high)
    q = affine(t)
    assert (q.values() - t).abs().max() <= q.scale / 2 * (1 + 1e-4)
    # Also where a tensor does not straddle 0: there the printed scheme gives about 1 for 10 … 11.
    assert q.scale == pytest.approx((max(high, 0) - min(low, 0)) / 255, rel=1e-5)
    order = t.flatten().argsort()
    assert (q.codes.flatten()[order].int().diff() >= 0).all()


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_a_tensor_read_back_has_the_same_codes(low: float, high: float) -> None:
    q = affine(tensor(low, high))
    again = affine(q.values())
    assert torch.equal(again.codes, q.codes)
    assert again.scale == pytest.approx(q.scale.item(), rel=1e-5)
    if low <= 0 <= high:
        assert (q.codes.min(), q.codes.max()) == (0, 255)


def test_zero_and_constants_are_exact() -> None:
    t = tensor(-0.3, 0.9)
    t[1, 2, 3] = 0
    assert affine(t).values()[1, 2, 3] == 0
    for value in (0.0, 0.1, -3.7, 1e30):
        assert torch.equal(affine(torch.full((4, 4), value)).values(), torch.full((4, 4), value))


def test_it_takes_a_quarter() -> None:
    t = tensor(-1, 1, 8, 40, 40)
    assert affine(t).nbytes == t.numel() + 12
    assert by_cell(t[None]).nbytes == t.numel() + RANGE_BYTES * 1600


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    t = tensor(0, 1)
    t[0, 1, 2] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        affine(t)


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_cells_have_ranges_of_their_own(low: float, high: float) -> None:
    t = torch.cat([tensor(low, high, 2, 6, 4, 5), tensor(-1, 1, 2, 6, 4, 5)], 3)
    stored = by_cell(t)
    assert stored.dtype == torch.uint8 and stored.shape == (2, 6 + RANGE_BYTES, 4, 10)
    read = cell_values(stored)
    step = (t.amax(1) - t.amin(1)) / 255
    rounding = 1e-6 * t.abs().amax(1)
    assert ((read - t).abs().amax(1) <= step / 2 + rounding).all()
    assert torch.equal(read.amin(1), t.amin(1))
    assert (stored[:, :-RANGE_BYTES].amax(1) == 255).all()
    # A tile of them is read back alike.
    assert torch.equal(cell_values(stored[..., 1:3, 2:9]), read[..., 1:3, 2:9])


def test_cells_that_are_constant_or_not_finite() -> None:
    t = torch.full((1, 4, 1, 3), 0.1)
    t[0, 2, 0, 1], t[0, 1, 0, 2] = torch.nan, torch.inf
    read = cell_values(by_cell(t))
    assert torch.equal(read[..., 0], t[..., 0])
    assert read[..., 1:].isnan().any(1).all()
    assert torch.equal(cell_values(by_cell(t[..., :1])), t[..., :1])
