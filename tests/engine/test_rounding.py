"""What is lost when residuals are kept in fewer bits."""

from __future__ import annotations

import pytest
import torch

from napari_restore.engine.running.rounding import Rounding


def values(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_is_the_largest_error_over_the_largest_value() -> None:
    rounding = Rounding(torch.float16)
    tensors = [values(seed) for seed in range(3)]
    tensors[1][3, 2, 1] = 9.0
    for tensor in tensors:
        rounding.note([tensor])
    given = torch.cat([tensor.flatten() for tensor in tensors])
    expected = float((given.half().float() - given).abs().max() / given.abs().max())
    assert rounding.relative == pytest.approx(expected, rel=1e-6)
    assert 0 < rounding.relative < 2**-11


def test_in_parts_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_restore.engine.running.rounding._AT_ONCE", 30)
    rounding, given = Rounding(torch.bfloat16), values(4)
    rounding.note([given])
    expected = float((given.bfloat16().float() - given).abs().max() / given.abs().max())
    assert rounding.relative == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (torch.float32, torch.float32),
        (torch.float16, torch.float16),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_is_nothing_where_the_dtype_holds_every_value(given, kept) -> None:
    rounding = Rounding(kept)
    rounding.note([values(0, given)])
    assert rounding.relative == 0.0


def test_a_value_beyond_float16_is_infinite() -> None:
    rounding, given = Rounding(torch.float16), values(0)
    given[0, 0, 0] = 1e6
    rounding.note([given])
    assert rounding.relative == float("inf")


def test_what_was_no_number_before_loses_nothing() -> None:
    rounding, given = Rounding(torch.float16), torch.ones(1, 2, 2)
    given[0, 0] = torch.tensor([float("nan"), float("-inf")])
    rounding.note([given])
    assert rounding.relative == 0.0
