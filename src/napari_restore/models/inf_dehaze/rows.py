"""Rows, columns and outputs of the bottleneck's attention, from the few tokens they depend on."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.errors import BadParameter
from napari_restore.models._attention import HeadOutputs, LayerTokens
from napari_restore.models._steps import Routing
from napari_restore.models.inf_dehaze.ibssa import (
    IBSSA,
    HeadwiseAttention,
    Norm,
    exact,
    order,
    project,
)

_AT_ONCE = 1 << 14
"""Tokens that are read and projected at once."""
_SCORES = 1 << 23
"""Scores at once, of columns of exact attention."""
LARGEST_COLUMN = 1 << 14
"""Most tokens for which a column of exact attention is computed: it needs every row."""


def kept_of(attention: HeadwiseAttention, routing: Routing) -> dict[Hashable, Tensor]:
    """Return what rows need of the buckets in `routing`; nothing where the attention is exact.

    For every head ("keys", head): the keys sorted by bucket, ("places", head): the place of every
    query among the sorted ones, both (L,) int32; and with samples ("drawn", head): their keys and
    the blocks these are in, (2, samples) int64.
    """
    kept: dict[Hashable, Tensor] = {}
    for head in range(attention.heads):
        buckets = routing.made.get(("buckets", head))
        if buckets is None or not isinstance(attention, IBSSA):
            continue
        keys = order(buckets[:, 1])
        queries = order(buckets[:, 0])
        places = torch.empty(len(queries), dtype=torch.int32, device=queries.device)
        places[queries] = torch.arange(len(queries), dtype=torch.int32, device=queries.device)
        kept["keys", head], kept["places", head] = keys.int(), places
        if attention.samples:
            kept["drawn", head] = torch.stack(attention.drawn(keys))
    return kept


def kept_bytes(attention: HeadwiseAttention, length: int) -> int:
    """Return the bytes of `kept_of` for `length` tokens."""
    if attention.is_exact(length) or not isinstance(attention, IBSSA):
        return 0
    return attention.heads * (2 * 4 * length + 2 * 8 * attention.samples)


@torch.no_grad()
def row_of(
    attention: HeadwiseAttention, layer: LayerTokens, query: int, norm: Norm
) -> tuple[Tensor, Tensor]:
    """Return the softmax weights of token `query` and the tokens they are for, (heads, K) each.

    A head's weights sum to 1. Tokens are numbered y · W + x, −1 where a position is empty (its
    weight is 0); a sampled one may occur twice.
    """
    height, width, _ = layer.shape
    length = height * width
    own = norm(layer.tokens(torch.tensor([query])))
    if attention.is_exact(length):
        every = _projected(attention, own, "q")[0]
        scores = torch.cat(
            [
                torch.einsum("nhc,hc->hn", _projected(attention, x, "k"), every)
                for _, x in all_tokens(layer, norm)
            ],
            dim=1,
        )
        weights = (scores.float() * attention.key_width**-0.5).softmax(1)
        return weights, torch.arange(length).expand(attention.heads, -1)
    assert isinstance(attention, IBSSA)
    rows, numbers = [], []
    for head in range(attention.heads):
        block = int(layer.kept(("places", head))[query]) // attention.block_size
        weights, keys = _block_weights(attention, layer, head, own, block, norm)
        rows.append(weights[0])
        numbers.append(keys)
    return torch.stack(rows), torch.stack(numbers)


@torch.no_grad()
def output_of(
    attention: HeadwiseAttention, layer: LayerTokens, row: tuple[Tensor, Tensor], norm: Norm
) -> Tensor:
    """Return the attention output (C,) of the query whose `row` this is: weights times values."""
    weights, numbers = row
    gathered = []
    for head in range(attention.heads):
        value = attention.head_weights(head)[2]
        total = torch.zeros(attention.value_width)
        for start in range(0, numbers.shape[1], _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            x = norm(layer.tokens(numbers[head, some].clamp(min=0)))
            total += weights[head, some] @ functional.linear(x.to(value.dtype), value).float()
        gathered.append(total)
    return attention.project(torch.cat(gathered)[None])[0].float()


@torch.no_grad()
def column_of(
    attention: HeadwiseAttention, layer: LayerTokens, key: int, norm: Norm
) -> tuple[Tensor, Tensor]:
    """Return the weights that tokens give to token `key`, and these tokens, (heads, K) each.

    −1 where a position is empty. Tokens that are not named cannot attend to it.
    """
    height, width, _ = layer.shape
    length = height * width
    if attention.is_exact(length):
        return _exact_column(attention, layer, key, norm)
    assert isinstance(attention, IBSSA)
    columns, numbers = [], []
    for head in range(attention.heads):
        if attention.samples and bool((layer.kept(("drawn", head))[0] == key).any()):
            raise BadParameter(
                "Every token attends to this one, because it is one of the sampled keys.",
                "Choose a cell beside it.",
            )
        place = int((layer.kept(("keys", head)) == key).nonzero())
        first = place // attention.block_size
        places = layer.kept(("places", head))
        found, who = [], []
        for block in range(first, first + 1 + int(attention.neighbours)):
            queries = (places // attention.block_size == block).nonzero()[:, 0]
            if not len(queries):
                continue
            own = norm(layer.tokens(queries))
            weights, keys = _block_weights(attention, layer, head, own, block, norm)
            found.append((weights * (keys == key)).sum(1))
            who.append(queries)
        columns.append(torch.cat(found))
        numbers.append(torch.cat(who))
    longest = max(len(each) for each in columns)
    return (
        torch.stack([functional.pad(each, (0, longest - len(each))) for each in columns]),
        torch.stack([functional.pad(each, (0, longest - len(each)), value=-1) for each in numbers]),
    )


def _block_weights(
    attention: IBSSA, layer: LayerTokens, head: int, own: Tensor, block: int, norm: Norm
) -> tuple[Tensor, Tensor]:
    """Return weights (n, K) of the normalised queries `own` of one sorted block, and keys (K,)."""
    numbers, bias = _attended(attention, layer, head, block)
    query, key, _ = attention.head_weights(head)
    q = functional.linear(own.to(query.dtype), query)
    k = functional.linear(norm(layer.tokens(numbers)).to(key.dtype), key)
    scores = (q @ k.T).float() * attention.key_width**-0.5 + bias
    return scores.softmax(1), numbers.where(bias.isfinite(), -1)


def _exact_column(
    attention: HeadwiseAttention, layer: LayerTokens, key: int, norm: Norm
) -> tuple[Tensor, Tensor]:
    height, width, _ = layer.shape
    length = height * width
    if length > LARGEST_COLUMN:
        raise BadParameter(
            f"Every one of {length:,} tokens attends to all others here.",
            "Ask what one pixel attends to instead, or choose another layer.",
        )
    every = [(rows, x) for rows, x in all_tokens(layer, norm)]
    k = torch.cat([_projected(attention, x, "k") for _, x in every])
    q = torch.cat([_projected(attention, x, "q") for _, x in every])
    step = max(1, _SCORES // (length * attention.heads))
    columns = []
    for start in range(0, length, step):
        scores = torch.einsum("nhc,mhc->hnm", q[start : start + step], k)
        columns.append((scores.float() * attention.key_width**-0.5).softmax(2)[:, :, key])
    return torch.cat(columns, dim=1), torch.arange(length).expand(attention.heads, -1)


def _projected(attention: HeadwiseAttention, x: Tensor, which: str) -> Tensor:
    """Return queries or keys (n, heads, width) of normalised tokens (n, C)."""
    at = "qk".index(which)
    weight = torch.cat([attention.head_weights(head)[at] for head in range(attention.heads)])
    return functional.linear(x.to(weight.dtype), weight).view(len(x), attention.heads, -1)


def all_tokens(layer: LayerTokens, norm: Norm) -> Iterator[tuple[slice, Tensor]]:
    """Yield the layer's normalised tokens, some rows at a time."""
    height, width, _ = layer.shape
    for start in range(0, height * width, _AT_ONCE):
        rows = slice(start, min(start + _AT_ONCE, height * width))
        yield rows, norm(layer.tokens(torch.arange(rows.start, rows.stop)))


def _attended(attention: IBSSA, layer: LayerTokens, head: int, block: int) -> tuple[Tensor, Tensor]:
    """Return the tokens (K,) that queries of a sorted block attend to, and the addends of scores."""
    keys = layer.kept(("keys", head))
    drawn = homes = keys
    if attention.samples:
        drawn, homes = layer.kept(("drawn", head))
    numbers, bias = attention.attended(keys, (drawn, homes), block, 1)
    return numbers[0].long(), bias[0]


@torch.no_grad()
def outputs_of(
    attention: HeadwiseAttention, layer: LayerTokens, cells: Tensor, norm: Norm
) -> HeadOutputs:
    """Return what the heads put out for the tokens `cells` (n,) of a layer of the bottleneck."""
    height, width, _ = layer.shape
    is_exact = attention.is_exact(height * width)
    own = layer.tokens(cells)
    found = []
    for head in range(attention.heads):
        (q,) = project(own, attention.head_weights(head)[:1], norm)
        if is_exact:
            found.append(_of_all_tokens(attention, layer, head, q, norm))
        else:
            assert isinstance(attention, IBSSA)
            found.append(_of_blocks(attention, layer, head, q, cells, norm))
    channels = attention.heads * attention.value_width
    like = found[0]
    joined = torch.eye(channels, dtype=like.dtype, device=like.device)
    projection = attention.project(joined).T
    return HeadOutputs(tuple(found), projection.chunk(attention.heads, dim=1))


def _of_all_tokens(
    attention: HeadwiseAttention, layer: LayerTokens, head: int, q: Tensor, norm: Norm
) -> Tensor:
    """Return one head's output (n, width) for queries (n, width) that attend to every token."""
    weights = attention.head_weights(head)[1:]
    parts = [project(x, weights) for _, x in all_tokens(layer, norm)]
    k, v = (torch.cat(part) for part in zip(*parts, strict=True))
    return torch.cat([values for _, values in exact(q, k, v)])


def _of_blocks(
    attention: IBSSA, layer: LayerTokens, head: int, q: Tensor, cells: Tensor, norm: Norm
) -> Tensor:
    """Return one head's output (n, width) for queries of tokens `cells`, block by block."""
    blocks = layer.kept(("places", head))[cells].long() // attention.block_size
    out = q.new_empty(len(q), attention.value_width)
    for block in sorted(set(blocks.tolist())):
        numbers, bias = _attended(attention, layer, head, block)
        k, v = project(layer.tokens(numbers), attention.head_weights(head)[1:], norm)
        here = blocks == block
        scores = (q[here] @ k.T).float() * attention.key_width**-0.5 + bias
        out[here] = scores.softmax(1).to(v.dtype) @ v
    return out
