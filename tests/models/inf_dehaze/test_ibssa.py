"""Attention in sorted blocks against the formulas it stands for."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from napari_restore.models.inf_dehaze import ibssa
from napari_restore.models.inf_dehaze.config import SMALL, InfDehazeConfig
from napari_restore.models.inf_dehaze.ibssa import IBSSA, FullAttention, HeadwiseAttention

TINY = replace(
    SMALL, widths=(16,), bottleneck_heads=2, qk_width=8, exact_below=0, block_size=16, lsh_bits=4
)
LENGTH = 150  # the last block is not full


def make(kind: type[HeadwiseAttention] = IBSSA, **changes: object) -> HeadwiseAttention:
    config: InfDehazeConfig = replace(TINY, **changes)  # type: ignore[arg-type]
    torch.manual_seed(1)
    attention = kind(config)  # type: ignore[call-arg]
    for parameter in attention.parameters():
        parameter.data *= 3  # else all weights of a row are nearly equal
    return attention.eval()


def tokens(length: int = LENGTH, seed: int = 0) -> Tensor:
    return torch.randn(length, 16, generator=torch.Generator().manual_seed(seed))


def heads(attention: HeadwiseAttention, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    found = []
    for head in range(attention.heads):
        q, k, v = (x @ weight.T for weight in attention.head_weights(head))
        found.append((q, k, v))
    return found


def exact(attention: HeadwiseAttention, x: Tensor) -> Tensor:
    parts = [scaled_dot_product_attention(*(t[None] for t in h))[0] for h in heads(attention, x)]
    return attention.project(torch.cat(parts, dim=1))


def direct(attention: IBSSA, x: Tensor) -> Tensor:
    """Query by query: softmax over its blocks and over the drawn keys, merged by their sums."""
    length, size, before = len(x), attention.block_size, int(attention.neighbours)
    drawn = torch.randint(
        length, (attention.samples,), generator=torch.Generator().manual_seed(ibssa._SEED)
    )
    columns = []
    for q, k, v in heads(attention, x):
        order_q = attention.buckets(q).argsort(stable=True)
        order_k = attention.buckets(k).argsort(stable=True)
        out = torch.empty_like(v)
        for place, query in enumerate(order_q.tolist()):
            block = place // size
            own = order_k[max(0, block - before) * size : (block + 1) * size]
            scores = k[own] @ q[query] / math.sqrt(attention.key_width)
            weight, value = scores.logsumexp(0), scores.softmax(0) @ v[own]
            blocks = order_k.argsort()[drawn] // size
            others = drawn[(blocks > block) | (blocks < block - before)]
            if len(others):
                scores = k[others] @ q[query] / math.sqrt(attention.key_width)
                sampled = scores.logsumexp(0) + math.log(length / attention.samples)
                share = torch.sigmoid(sampled - weight)
                value = (1 - share) * value + share * (scores.softmax(0) @ v[others])
            out[query] = value
        columns.append(out)
    return torch.cat(columns, dim=1)


@torch.no_grad()
def test_buckets_follow_the_gray_code() -> None:
    attention = make()
    assert isinstance(attention, IBSSA)
    x = torch.randn(500, attention.key_width, generator=torch.Generator().manual_seed(3))
    signs = (x @ attention.directions.T > 0).int().tolist()
    codes = [sum(sign << bit for bit, sign in enumerate(row)) for row in signs]
    found = attention.buckets(x).tolist()
    assert [bucket ^ (bucket >> 1) for bucket in found] == codes
    assert len(set(found)) > 4


def test_directions_are_saved_and_the_same_everywhere() -> None:
    assert "directions" in make().state_dict()
    torch.manual_seed(5)
    first = IBSSA(TINY).directions
    torch.manual_seed(6)
    assert torch.equal(first, IBSSA(TINY).directions)
    assert not torch.equal(first, IBSSA(TINY, seed=1).directions)


@torch.no_grad()
@pytest.mark.parametrize("kind", [IBSSA, FullAttention])
def test_short_input_is_attended_exactly(
    kind: type[HeadwiseAttention], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ibssa, "_QUERIES_CPU", 7)
    monkeypatch.setattr(ibssa, "_SCORES", 1)
    attention = make(kind, exact_below=LENGTH + 1)
    x = tokens()
    torch.testing.assert_close(attention(x), exact(attention, x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_one_block_as_long_as_the_input_is_exact() -> None:
    attention, x = make(block_size=256), tokens()
    torch.testing.assert_close(attention(x), exact(attention, x), atol=1e-5, rtol=1e-5)
    assert (make(block_size=64)(x) - exact(attention, x)).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize("samples", [0, 20])
def test_blocks_and_samples_equal_the_formula(
    neighbours: bool, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ibssa, "_BLOCKS_CPU", 3)
    monkeypatch.setattr(ibssa, "_CHUNK_VALUES", 16 * 40)
    monkeypatch.setattr(ibssa, "_HASHED", 33)
    attention, x = make(neighbours=neighbours, samples=samples), tokens()
    assert isinstance(attention, IBSSA)
    torch.testing.assert_close(attention(x), direct(attention, x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("samples", [0, 128])
def test_one_token_moves_few_others(samples: int) -> None:
    """A hash that falls otherwise shifts the order by one, from there on."""
    torch.manual_seed(1)
    attention = IBSSA(replace(SMALL, exact_below=0, samples=samples))
    x = torch.randn(2000, 128)
    before = attention(x)
    x[17] = -x[17]
    moved = (attention(x) - before).norm(dim=1) / before.norm(dim=1)
    moved[17] = 0
    assert 0 < float((moved > 0.05).float().mean()) < 0.15


@torch.no_grad()
@pytest.mark.parametrize("samples", [0, 128])
def test_autocast_stays_near(samples: int) -> None:
    torch.manual_seed(1)
    attention, x = IBSSA(replace(SMALL, exact_below=0, samples=samples)), torch.randn(2000, 128)
    exact = attention(x)
    with torch.autocast("cpu", torch.float16):
        half = attention(x)
    assert 0 < float((half - exact).abs().mean()) < 0.03 * float(exact.abs().mean())


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_hashes_do_not_depend_on_the_precision_around_them(dtype: torch.dtype) -> None:
    attention = make(samples=20)
    assert isinstance(attention, IBSSA)
    x = torch.randn(3000, attention.key_width)
    expected = attention.buckets(x)
    with torch.autocast("cpu", dtype):
        assert torch.equal(attention.buckets(x), expected)
    # There and back: half precision holds the directions as they are.
    assert torch.equal(attention.to(dtype).buckets(x), expected)
    assert attention.float().state_dict()["directions"].unique().numel() > 10
    assert torch.equal(attention.directions, make().directions)


@torch.no_grad()
def test_padded_keys_have_no_influence() -> None:
    # The places that are padded hold copies of the last and the first key.
    attention = make()
    assert isinstance(attention, IBSSA)
    keys = torch.arange(LENGTH)
    attended, bias = attention.attended(keys, attention.drawn(keys), 0, 10)
    assert [int(n) for n in bias.isfinite().sum(1)] == [16, *[32] * 8, 16 + LENGTH - 9 * 16]
    assert sorted(set(attended[bias.isfinite()].tolist())) == list(range(LENGTH))


@torch.no_grad()
def test_permuted_tokens_permute_the_output() -> None:
    # Where a block ends inside a bucket, the order of the tokens decides who is in it. Here
    # two directions make four buckets, and each fills one block.
    attention = make(lsh_bits=2, block_size=32, neighbours=False)
    assert isinstance(attention, IBSSA)
    x = _evenly_hashed(attention, per_bucket=32)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(4))
    assert not torch.allclose(attention(x), exact(attention, x), atol=1e-2)
    torch.testing.assert_close(attention(x[order]), attention(x)[order], atol=1e-5, rtol=1e-5)


def _evenly_hashed(attention: IBSSA, per_bucket: int) -> Tensor:
    """Tokens whose queries and keys fall evenly into all buckets, in both heads."""
    attention.to_k.weight.copy_(attention.to_q.weight)
    half = attention.key_width
    attention.to_q.weight[half:] = attention.to_k.weight[half:] = attention.to_q.weight[:half]
    x = tokens(4000, seed=8)
    bucket = attention.choose(*heads(attention, x)[0][:2])[:, 0]
    return torch.cat([x[bucket == index][:per_bucket] for index in range(4)])


def test_gradients_take_the_same_way() -> None:
    attention, x = make(samples=20), tokens().requires_grad_()
    norm = torch.nn.LayerNorm(16)
    out = attention(x, norm)
    out.square().sum().backward()
    assert x.grad is not None and x.grad.abs().min(0).values.max() > 0
    with torch.no_grad():
        torch.testing.assert_close(attention(x, norm), out, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_tick_counts_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ibssa, "_BLOCKS_CPU", 2)
    shares: list[float] = []
    make()(tokens(), tick=shares.append)
    assert len(shares) == 2 * 5
    assert shares == sorted(shares) and shares[-1] == 1


class LargestTensor(TorchDispatchMode):
    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.values = max(self.values, tensor.untyped_storage().nbytes() // 4)
        return result


@torch.no_grad()
def test_no_operation_makes_more_than_the_tokens() -> None:
    attention = make(block_size=8)
    for length in (10_000, 20_000):
        with LargestTensor() as tensors:
            attention(tokens(length))
        assert tensors.values <= length * 16
