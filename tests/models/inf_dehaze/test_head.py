"""Haze that is told by tokens and decoder, and taken off."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from napari_restore.models.inf_dehaze.head import (
    AIRLIGHT,
    DEEPEST,
    DETAIL,
    FADE,
    HazeHead,
    restored,
    spline,
)

WIDTH, STRIDE = 8, 16
X = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, WIDTH, 6, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def head() -> HazeHead:
    made = HazeHead(WIDTH, STRIDE)
    nn.init.zeros_(made.knots.weight)
    nn.init.zeros_(made.knots.bias)
    return made.requires_grad_(False)


@pytest.fixture
def seeing(head: HazeHead) -> HazeHead:
    """A head whose maps hang on the tokens."""
    nn.init.normal_(head.knots.weight, generator=torch.Generator().manual_seed(2))
    return head


def told(head: HazeHead, depth: list[float], airlight: list[float]) -> tuple[Tensor, Tensor]:
    """The haze of a head that says the same everywhere."""
    inverse = [DEEPEST * math.atanh(d / DEEPEST) for d in depth]
    head.knots.bias.copy_(torch.tensor([*inverse, 0, 0, 0, *(a - AIRLIGHT for a in airlight)]))
    return head(X, TOKENS)


def test_zeros_leave_every_bit(head: HazeHead) -> None:
    assert torch.equal(restored(X, *head(X, TOKENS, torch.zeros_like(X))), X)


def test_the_right_depth_and_airlight_give_the_scene_back(head: HazeHead) -> None:
    depth, airlight = [0.1, 0.7, 2.0], [0.6, 0.8, 0.95]
    tau, a = told(head, depth, airlight)
    t = torch.exp(-torch.tensor(depth))[:, None, None]
    far = torch.tensor(airlight)[:, None, None]
    assert torch.allclose(restored(X * t + far * (1 - t), tau, a + AIRLIGHT), X, atol=1e-5)


def test_the_depth_is_bounded(seeing: HazeHead) -> None:
    seeing.knots.weight.mul_(1e4)
    depth, _ = seeing(X, TOKENS)
    assert depth.abs().max() <= DEEPEST


def test_maps_are_smooth_and_know_of_no_tile(seeing: HazeHead) -> None:
    whole, airlight = seeing(X, TOKENS)
    for top in (0, 32):
        for left in (0, 32, 64):
            tokens = TOKENS[..., top // 16 : top // 16 + 4, left // 16 : left // 16 + 4]
            tile = X[..., top : top + 32, left : left + 32]
            depth, far = seeing(tile, tokens)
            assert torch.allclose(depth, whole[..., top : top + 32, left : left + 32], atol=1e-5)
            assert torch.allclose(far, airlight[..., top : top + 32, left : left + 32], atol=1e-5)
    # Under even light the depth of neighbours differs by no more than a knot's share.
    even, _ = seeing(torch.full_like(X, 0.5), TOKENS)
    knots = even.max() - even.min()
    assert (even.diff(dim=2)).abs().max() < 2 * knots / STRIDE


def test_some_rows_and_columns_are_those_of_the_whole(seeing: HazeHead) -> None:
    detail = torch.randn(X.shape, generator=torch.Generator().manual_seed(3))
    rows, columns = slice(1, None, 3), slice(2, 40)
    depth, airlight = seeing(X, TOKENS, detail, rows, columns)
    whole, far = seeing(X, TOKENS, detail)
    assert torch.allclose(depth, whole[..., rows, columns], atol=1e-6)
    assert torch.allclose(airlight, far[..., rows, columns], atol=1e-6)


def test_detail_sets_parts_apart_and_fades_at_the_edges(head: HazeHead) -> None:
    detail = torch.zeros_like(X)
    detail[..., 48:] = 1e6
    depth, _ = head(X, TOKENS, detail)
    inside = depth[..., FADE:-FADE, :]
    assert 0 < inside[..., 48:-FADE].amin() <= inside.amax() <= DETAIL
    assert -DETAIL <= inside.amin() <= inside[..., FADE:48].amax() < 0
    assert inside[..., FADE:-FADE].mean().abs() < 0.01
    for edge in (depth[..., 0, :], depth[..., -1, :], depth[..., 0], depth[..., -1]):
        assert 0 < edge.abs().max() <= DETAIL * 0.5 / FADE + 1e-6


def test_a_decoder_that_tells_the_same_everywhere_tells_nothing(head: HazeHead) -> None:
    depth, _ = head(X, TOKENS, torch.full_like(X, 1.5))
    assert depth.abs().max() < 1e-6


def test_half_precision_makes_no_steps_in_the_maps(seeing: HazeHead) -> None:
    detail = torch.randn(X.shape, generator=torch.Generator().manual_seed(3))
    exact = seeing(X, TOKENS, detail)
    with torch.autocast("cpu", torch.bfloat16):
        half = seeing(X, TOKENS, detail.bfloat16())
    for a, b in zip(exact, half, strict=True):
        assert b.dtype == torch.float32
        assert len(b.unique()) > 0.9 * len(a.unique())


def test_splines_sum_to_one_and_reach_one_and_a_half_knots() -> None:
    weights = torch.from_numpy(spline(96, STRIDE))
    assert weights.shape == (96, 8)
    assert torch.allclose(weights.sum(1), torch.ones(96))
    assert ((weights > 0).sum(1) <= 3).all()
    # A line is followed exactly.
    line = torch.arange(8).float() - 0.5
    at = (torch.arange(96) + 0.5) / STRIDE
    assert torch.allclose(weights @ line, at, atol=1e-5)
