"""Which tokens a cache keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.models.andehazeformer._literal import choose, shared_out

from napari_restore.models.andehazeformer.cache import (
    Candidates,
    Members,
    Retention,
    candidates_of,
    finalize_members,
    quotas,
)
from napari_restore.models.andehazeformer.config import kept_tokens

ROWS, COLUMNS = 9, 14


def ranks(seed: int = 0, levels: int = 0) -> torch.Tensor:
    """Return (3, 9, 14); with `levels` only so many values, so that there are ties."""
    planes = torch.rand(3, ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))
    if levels:
        planes = (planes * levels).floor() / levels
    planes[2] = 1.0
    return planes


def chosen(planes: torch.Tensor, share: float = 0.4, selection: str = "haze-first") -> Members:
    return finalize_members(candidates_of(planes), Retention(share, 1000, selection))


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("keep", [1, 5, 40, 100, 126])
def test_equals_the_literal_choice(levels: int, keep: int) -> None:
    planes = ranks(1, levels)
    members = finalize_members(candidates_of(planes), Retention(1.0, keep))
    cells = {
        (y, x): (float(planes[0, y, x]), float(planes[1, y, x]))
        for y in range(ROWS)
        for x in range(COLUMNS)
    }
    kept, _ = choose(cells, keep, lambda cell: np.ones(2))
    assert [tuple(cell) for cell in members.cells.tolist()] == kept
    assert members.evicted == ROWS * COLUMNS - keep


@pytest.mark.parametrize("selection", ["haze-first", "proportional", "clear-first", "random"])
def test_candidates_in_any_order_choose_the_same(selection: str) -> None:
    planes = ranks(2, levels=4)
    candidates = candidates_of(planes)
    whole = chosen(planes, selection=selection)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(candidates.cells), generator=generator)
        shuffled = Candidates(candidates.values[order], candidates.cells[order])
        found = finalize_members(shuffled, Retention(0.4, 1000, selection))
        assert all(
            torch.equal(torch.as_tensor(a), torch.as_tensor(b))
            for a, b in zip(whole, found, strict=True)
        )


def test_haze_gets_more_and_random_gets_none() -> None:
    planes = ranks(3)
    haze = planes[0] < 0.5

    def hazy(selection: str) -> int:
        cells = chosen(planes, 0.25, selection).cells
        return int(haze[cells[:, 0], cells[:, 1]].sum())

    assert hazy("haze-first") > hazy("proportional") > hazy("clear-first")
    first, other = chosen(planes, 0.25, "random"), chosen(ranks(4), 0.25, "random")
    # Haze and contrast have no say.
    assert torch.equal(first.cells, other.cells)
    assert len(first.cells) == 32
    assert not torch.equal(first.cells, chosen(planes, 0.25).cells)


@pytest.mark.parametrize("beta", [1.0, 0.0, -1.0])
@pytest.mark.parametrize("kept", [4, 7, 29, 59, 60])
def test_quotas(beta: float, kept: int) -> None:
    generator = np.random.default_rng(0)
    # Bin 2 is empty; bin 4 has a single token.
    bin_of = np.repeat([0, 1, 3, 4], [30, 20, 9, 1])
    transmission = generator.uniform(0.1, 1, len(bin_of))
    quota = quotas(bin_of, transmission, kept, 5, beta)
    literal = shared_out({q: transmission[bin_of == q].tolist() for q in (0, 1, 3, 4)}, kept, beta)
    assert quota.tolist() == [literal.get(q, 0) for q in range(5)]
    assert quota.sum() == kept
    assert (quota <= np.bincount(bin_of, minlength=5)).all()
    assert (quota[[0, 1, 3, 4]] >= 1).all()


def test_copies_of_a_token_are_kept_last() -> None:
    pattern = ranks(5)
    planes = torch.cat([pattern] * 3, 2)
    members = finalize_members(
        candidates_of(planes), Retention(1.0, ROWS * COLUMNS, "proportional")
    )
    # One of each, and of the copies the leftmost.
    assert len({(y, x % COLUMNS) for y, x in members.cells.tolist()}) == ROWS * COLUMNS
    assert int(members.cells[:, 1].max()) < COLUMNS


def test_invalid_tokens_are_no_candidates() -> None:
    planes = ranks(6)
    planes[2, :, 3:] = 0
    found = candidates_of(planes)
    assert len(found.cells) == 3 * ROWS
    assert int(found.cells[:, 1].max()) == 2
    nothing = finalize_members(
        Candidates(torch.zeros(0, 2), torch.zeros(0, 2, dtype=torch.int64)), Retention(0.6, 10)
    )
    assert len(nothing.cells) == 0
    assert nothing.evicted == 0


def test_how_many_are_kept() -> None:
    assert kept_tokens(5, 0.6, 99) == 3
    assert kept_tokens(7, 0.6, 99) == 5
    assert kept_tokens(7, 1.0, 99) == 7
    assert kept_tokens(7, 0.6, 2) == 2
    assert kept_tokens(1, 1e-6, 99) == 1
    assert kept_tokens(0, 0.6, 99) == 0
