"""Keys and values of the cache, collected tile by tile."""

from __future__ import annotations

import math

import pytest
import torch
from tests.models.andehazeformer._small import TINY
from torch import Tensor

from napari_restore.models.andehazeformer.blocks import CachedAttention
from napari_restore.models.andehazeformer.cache import (
    Cache,
    Members,
    Retention,
    TileTokens,
    added_up,
    assigned,
    candidates_of,
    finalize_cache,
    finalize_members,
    kept_rows,
    merged_rows,
)
from napari_restore.models.andehazeformer.sphere import unit

HEADS, WIDTH = TINY.heads, TINY.width


def tile(rows: int = 6, columns: int = 9, seed: int = 0) -> TileTokens:
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.rand(3, rows, columns, generator=generator)
    ranks[2] = (ranks[2] * 4).ceil() / 4
    shape = (rows, columns, HEADS, WIDTH // HEADS)
    keys = unit(torch.randn(shape, generator=generator, dtype=torch.float64)).flatten(2)
    values = torch.randn(rows, columns, WIDTH, generator=generator, dtype=torch.float64)
    return TileTokens(keys, values, ranks)


def members_of(whole: TileTokens, keep: int, selection: str = "haze-first") -> Members:
    return finalize_members(candidates_of(whole.ranks), Retention(1.0, keep, selection))


def cut(whole: TileTokens, side: int) -> list[TileTokens]:
    rows, columns = whole.ranks.shape[1:]
    return [
        TileTokens(
            whole.keys[y : y + side, x : x + side],
            whole.values[y : y + side, x : x + side],
            whole.ranks[:, y : y + side, x : x + side],
            (y, x),
        )
        for y in range(0, rows, side)
        for x in range(0, columns, side)
    ]


def collected(
    parts: list[TileTokens], members: Members, heads: int = HEADS
) -> tuple[Cache, list[Tensor]]:
    count = len(members.cells)
    kept = Cache.of_rows(sum(added_up(*kept_rows(part, members), count) for part in parts))
    joined = [assigned(part, members, kept.key) for part in parts]
    merged = sum(
        added_up(*merged_rows(part, members, own), count)
        for part, own in zip(parts, joined, strict=True)
    )
    return finalize_cache(kept, Cache.of_rows(merged), heads), joined


def test_tiles_in_any_order_make_the_cache_of_the_whole() -> None:
    whole = tile()
    members = members_of(whole, 17)
    expected, _ = collected([whole], members)
    for side in (2, 4):
        parts = cut(whole, side)
        order = torch.randperm(len(parts), generator=torch.Generator().manual_seed(side)).tolist()
        for some in (parts, [parts[n] for n in order]):
            found, _ = collected(some, members)
            for a, b in zip(found, expected, strict=True):
                torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_merging_conserves_weight_and_values() -> None:
    whole = tile()
    cache, (joined,) = collected([whole], members_of(whole, 17))
    weight = whole.ranks[2].double()
    assert math.isclose(float(cache.weight.sum()), float(weight.sum()))
    total = (cache.weight[:, None] * cache.value).sum(0)
    torch.testing.assert_close(total, (weight[..., None] * whole.values).sum((0, 1)))
    torch.testing.assert_close(
        cache.key.unflatten(-1, (HEADS, -1)).norm(dim=-1), torch.ones(17, HEADS).double()
    )
    torch.testing.assert_close(torch.bincount(joined.flatten(), weight.flatten()), cache.weight)


def test_an_evicted_token_joins_the_likest_of_its_bin() -> None:
    whole = tile()
    members = members_of(whole, 17)
    _, (joined,) = collected([whole], members)
    bins = members.bin_of(whole.ranks[0])
    places = {tuple(cell): n for n, cell in enumerate(members.cells.tolist())}
    for y in range(6):
        for x in range(9):
            if (y, x) in places:
                assert joined[y, x] == places[y, x]
                continue
            likeness = {
                n: float(whole.keys[y, x] @ whole.keys[cell])
                for cell, n in places.items()
                if members.bins[n] == bins[y, x]
            }
            assert int(joined[y, x]) == max(likeness, key=lambda n: (likeness[n], -n))


def test_of_equal_keys_the_first_is_joined() -> None:
    whole = tile()
    same = whole._replace(keys=whole.keys[:1, :1].expand_as(whole.keys))
    members = members_of(same, 17)
    _, (joined,) = collected([same], members)
    bins = members.bin_of(same.ranks[0])
    for number in members.bins.unique():
        first = int((members.bins == number).nonzero()[0])
        others = joined[bins == number]
        kept = (members.bins == number).nonzero()[:, 0]
        assert set(others.tolist()) == set(kept.tolist())
        assert int((others == first).sum()) == len(others) - len(kept) + 1


def test_invalid_tokens_weigh_nothing() -> None:
    whole = tile()
    whole.ranks[2, 2:] = 0
    members = members_of(whole, 5)
    expected, (joined,) = collected([whole], members)
    whole.keys[2:], whole.values[2:], whole.ranks[0, 2:] = 5.0, 1e9, 0.0
    found, _ = collected([whole], members)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert (joined[2:] == -1).all()
    assert (joined[:2] >= 0).all()


def test_without_eviction_every_token_is_in_the_cache() -> None:
    whole = tile()
    whole.ranks[2] = 1
    cache, _ = collected([whole], members_of(whole, 54))
    torch.testing.assert_close(cache.key, whole.keys.flatten(0, 1))
    torch.testing.assert_close(cache.value, whole.values.flatten(0, 1))
    assert cache.weight.tolist() == [1.0] * 54


def test_a_row_times_the_values_is_the_result() -> None:
    whole = tile()
    cache, _ = collected([whole], members_of(whole, 17))
    layer = attention()
    x = unit(torch.randn(1, 3, 5, WIDTH, dtype=torch.float64))
    rows = layer.rows(x[0].flatten(0, 1), cache)
    assert rows.shape == (HEADS, 15, 17)
    torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows[..., 0]))
    values = cache.value.unflatten(-1, (HEADS, -1)).transpose(0, 1)
    joined = (rows @ values).transpose(0, 1).flatten(1)
    torch.testing.assert_close(layer.out(joined), layer(x, [cache])[0].flatten(0, 1))


def test_copies_merge_without_a_trace() -> None:
    one = tile(4, 5)
    one.ranks[2] = 1
    many = TileTokens(
        torch.cat([one.keys] * 3, 1), torch.cat([one.values] * 3, 1), torch.cat([one.ranks] * 3, 2)
    )
    layer = attention()
    x = unit(torch.randn(1, 2, 2, WIDTH, dtype=torch.float64))
    exact, _ = collected([many], members_of(many, 60, "proportional"))
    merged, _ = collected([many], members_of(many, 20, "proportional"))
    assert merged.weight.tolist() == [3.0] * 20
    torch.testing.assert_close(layer(x, [merged]), layer(x, [exact]), rtol=0, atol=1e-12)


def test_logits_are_bounded() -> None:
    whole = tile()
    layer = attention()
    bound = layer.logit_scale * float(layer.s_qk().square().max())  # type: ignore[misc]
    queries = layer.queries(unit(torch.randn(1, 50, WIDTH, dtype=torch.float64)))
    keys = layer.split(layer.scaled(whole.keys.flatten(0, 1))[None])
    logits = layer.logit_scale * queries @ keys.transpose(2, 3)
    assert 0.2 * bound < float(logits.abs().max()) <= bound


@pytest.mark.parametrize("heads", [0, HEADS])
def test_gradients_reach_kept_and_evicted_tokens(heads: int) -> None:
    whole = tile()
    members = members_of(whole, 17)
    keys, values = (plane.clone().requires_grad_() for plane in whole[:2])
    grown = whole._replace(keys=keys, values=values)
    cache, _ = collected([grown], members, heads)
    noise = torch.randn(17, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ((cache.key + cache.value) * noise).sum().backward()
    assert bool((keys.grad.abs().sum(-1) > 0).all())
    assert bool((values.grad.abs().sum(-1) > 0).all())


def attention() -> CachedAttention:
    torch.manual_seed(0)
    return CachedAttention(TINY).double().requires_grad_(False)
