"""The mixture of convolutional experts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from napari_restore.models.inf_dehaze.bottleneck import (
    BALANCE,
    Expert,
    LMMoE,
    balance_loss,
    channel_means,
    pieces,
)
from napari_restore.models.inf_dehaze.config import SMALL

TINY = replace(SMALL, widths=(8,), experts=(3, 3, 5, 7))
RELEASED = replace(TINY, shared_kernel=5, shared_dense=True, double_gelu=True, top_k=3)


def make(config=TINY) -> LMMoE:  # type: ignore[no-untyped-def]
    torch.manual_seed(1)
    experts = LMMoE(config)
    nn.init.normal_(experts.gate.weight)  # else all experts are asked about alike
    return experts.eval()


def cells(height: int = 30, width: int = 21) -> Tensor:
    return torch.randn(height, width, 8, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
@pytest.mark.parametrize("config", [TINY, RELEASED], ids=["small", "released"])
def test_every_cell_gets_the_weighted_sum_of_its_experts(config) -> None:  # type: ignore[no-untyped-def]
    experts, x = make(config), cells()
    image = x.permute(2, 0, 1)[None]
    every = torch.stack([expert(image)[0] for expert in experts.experts])
    probabilities = (experts.gate(image)[0]).softmax(0)
    expected = config.shared_weight * experts.shared(image)[0]
    for y in range(30):
        for column in range(21):
            best = probabilities[:, y, column].topk(config.top_k)
            weights = best.values / best.values.sum()
            expected[:, y, column] += weights @ every[best.indices, :, y, column]
    torch.testing.assert_close(experts(x), expected.permute(1, 2, 0), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_expert_applies_gelu_as_told() -> None:
    torch.manual_seed(0)
    expert = Expert(4, 6, 3, double_gelu=True)
    x = torch.randn(1, 4, 7, 7)
    gelu = nn.functional.gelu
    inner = gelu(gelu(expert.conv2(gelu(expert.conv1(x)))))
    torch.testing.assert_close(expert(x), expert.conv3(inner))
    expert.double_gelu = False
    inner = gelu(expert.conv2(gelu(expert.conv1(x))))
    torch.testing.assert_close(expert(x), expert.conv3(inner))


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("piece", [1, 7, 16])
@pytest.mark.ids("nightly", "1")
def test_pieces_with_a_margin_equal_the_whole(piece: int) -> None:
    experts, x = make(), cells()
    whole, put_together = experts(x), torch.full((30, 21, 8), torch.nan)
    for core, around, inner in pieces(30, 21, piece, experts.halo):
        put_together[core] = experts(x[around])[inner]
    torch.testing.assert_close(put_together, whole, atol=1e-6, rtol=1e-6)
    without_margin = experts(x[:15])
    assert (without_margin - whole[:15]).abs().max() > 1e-3


@torch.no_grad()
def test_experts_nobody_asks_are_left_out() -> None:
    experts = make()
    experts.gate.bias.copy_(torch.tensor([0.0, 0.0, 1e4, 1e4]))
    calls: list[int] = []
    for index, expert in enumerate(experts.experts):
        expert.register_forward_hook(lambda *_, index=index: calls.append(index))
    experts(cells())
    assert calls == [2, 3]
    assert (experts.routing(cells()) == torch.tensor([2, 3])).all()


def test_uniform_gate_has_the_least_balance_loss() -> None:
    experts = make().train()
    nn.init.zeros_(experts.gate.weight)
    nn.init.zeros_(experts.gate.bias)
    experts(cells())
    assert experts.balance().item() == pytest.approx(BALANCE)


def test_balance_loss_pushes_the_preferred_expert_down() -> None:
    # One expert gets all first routing and nearly all probability: f = (1, 0), P = (p, 1 − p).
    logits = torch.tensor([2.0, 0.0], requires_grad=True)
    probabilities = logits.softmax(0)[None, :, None, None].expand(1, 2, 5, 5)
    loss = balance_loss(probabilities, torch.zeros(1, 1, 5, 5, dtype=torch.int64))
    assert loss.item() == pytest.approx(BALANCE * 2 * logits.softmax(0)[0].item())
    loss.backward()
    assert logits.grad is not None and logits.grad[0] > 0 > logits.grad[1]


def test_balance_is_that_of_the_last_map_in_training() -> None:
    experts = make()
    experts(cells())
    assert experts.balance().item() == 0  # not in training
    experts.train()
    experts(cells(12, 12))
    first = experts.balance().item()
    experts(cells(12, 12)), experts(cells(20, 9))
    second = experts.balance().item()
    experts(cells(20, 9))
    assert experts.balance().item() == second != first
    assert experts.balance().item() == 0
    experts(cells())
    with torch.no_grad():
        experts(cells())
    assert experts.balance().item() == 0


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_asks_the_same_experts(dtype: torch.dtype) -> None:
    experts, x = make(), cells()
    expected = experts.routing(x)
    with torch.autocast("cpu", dtype):
        assert torch.equal(experts.routing(x), expected)


@torch.no_grad()
def test_the_gate_sees_what_is_left_of_the_centre() -> None:
    experts, x = make(), cells()
    common = 20 * torch.randn(8, generator=torch.Generator().manual_seed(3))
    assert len(experts.routing(x + common).unique()) < 4
    assert torch.equal(experts.routing(x + common, common), experts.routing(x))
    # Only the gate: the experts themselves see all of it.
    experts.gate.weight.zero_()
    assert torch.equal(experts(x, common), experts(x))


def test_means_do_not_lose_what_is_small() -> None:
    x = torch.full((300_000, 8), 0.1)
    x[-1] = 1000
    means = channel_means(x)
    assert means.dtype == torch.float32
    torch.testing.assert_close(means.double(), x.double().mean(0), atol=0, rtol=1e-7)


def test_gradients_take_the_same_way() -> None:
    experts, x = make(), cells().requires_grad_()
    out = experts(x)
    out.sum().backward()
    assert x.grad is not None and (x.grad.abs().sum(-1) > 0).all()
    assert all(parameter.grad is not None for parameter in experts.parameters())
    with torch.no_grad():
        torch.testing.assert_close(experts(x), out, atol=1e-6, rtol=1e-6)
