"""Calls of attention that are seen: their rows are those of the matrix, and nothing stays behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from napari_restore.models import AttentionCall, AttentionCalls

L, S, E = 5, 7, 8
Made = Callable[[], Any]


def seen(call: Callable[[], object], image: Tensor | None = None) -> list[AttentionCall]:
    found: list[AttentionCall] = []
    with AttentionCalls(
        lambda number, each: found.append(each), torch.zeros(1, 1, 1, 1) if image is None else image
    ):
        call()
    assert not _get_current_function_mode_stack()
    assert not _get_current_dispatch_mode_stack()
    return found


def tokens_of(image: Tensor) -> Tensor:
    """The pixels of an image (N, C, 1, tokens), as (N, tokens, C)."""
    return image[:, :, 0].mT


def rows_of(call: AttentionCall) -> Tensor:
    """All weights (sets, queries, keys), row by row."""
    count = call.queries.shape[1]
    rows = [[call.row(n, t).weights for t in range(count)] for n in range(call.sets)]
    return torch.stack([torch.stack(each) for each in rows])


def noise(*shape: int) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


LOWER = torch.ones(L, S, dtype=torch.bool).tril()
PRODUCTS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "plain": ((2, 3), {}),
    "one set": ((), {}),
    "no heads": ((4,), {}),
    "five axes": ((2, 2, 3), {}),
    "causal": ((2, 3), {"is_causal": True}),
    "bool mask": ((2, 3), {"attn_mask": noise(2, 1, L, S) > -1}),
    "float mask": ((2, 3), {"attn_mask": noise(3, L, S)}),
    "minus infinity": ((2, 3), {"attn_mask": torch.zeros(L, S).masked_fill(~LOWER, -math.inf)}),
    "scale": ((2, 3), {"scale": 0.1}),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_rows_of_a_product_are_those_of_the_matrix(case: str) -> None:
    lead, options = PRODUCTS[case]
    q, k = noise(*lead, L, E), noise(*lead, S, E)
    (call,) = seen(lambda: functional.scaled_dot_product_attention(q, k, k, **options))
    logits = q @ k.mT * options.get("scale", 1 / math.sqrt(E))
    mask = options.get("attn_mask")
    if options.get("is_causal"):
        mask = LOWER
    if mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask, -math.inf)
    elif mask is not None:
        logits = logits + mask
    expected = logits.softmax(-1).reshape(-1, L, S)
    torch.testing.assert_close(rows_of(call), expected, atol=1e-6, rtol=0)
    assert call.sets == math.prod(lead)
    if case == "minus infinity":
        assert torch.equal(call.row(0, 1).excluded, ~LOWER[1])
    if case == "plain":
        assert not call.row(0, 1).excluded.any()


def test_heads_may_share_their_keys() -> None:
    q, k = noise(2, 4, L, E), noise(2, 2, S, E)
    (call,) = seen(lambda: functional.scaled_dot_product_attention(q, k, k, enable_gqa=True))
    expected = (q @ k.repeat_interleave(2, 1).mT / math.sqrt(E)).softmax(-1)
    torch.testing.assert_close(rows_of(call), expected.flatten(0, 1), atol=1e-6, rtol=0)


def test_a_query_without_keys_has_no_weights() -> None:
    q, mask = noise(1, 2, L, E), torch.ones(L, L, dtype=torch.bool)
    mask[2] = False
    (call,) = seen(lambda: functional.scaled_dot_product_attention(q, q, q, attn_mask=mask))
    row = call.row(0, 2)
    assert not row.weights.any()
    assert row.excluded.all()


CAUSAL = nn.Transformer.generate_square_subsequent_mask(L)
MODULES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "no bias": ({"bias": False}, {}),
    "other widths": ({"kdim": 6, "vdim": 4}, {}),
    "bool mask": ({}, {"attn_mask": ~LOWER[:, :L]}),
    "mask of each head": ({}, {"attn_mask": noise(2 * 4, L, L)}),
    "padding": ({}, {"key_padding_mask": torch.arange(L).expand(2, L) > torch.tensor([[2], [4]])}),
    "both masks": ({}, {"attn_mask": noise(L, L), "key_padding_mask": noise(2, L)}),
    "causal": ({}, {"attn_mask": CAUSAL, "is_causal": True}),
}


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("case", MODULES)
def test_rows_of_a_module_are_its_own_weights(case: str, weights: bool) -> None:
    made, options = MODULES[case]
    torch.manual_seed(0)
    module = nn.MultiheadAttention(16, 4, batch_first=True, **made).eval()
    # Queries, keys and values are channels of one image.
    widths = 16, made.get("kdim", 16), made.get("vdim", 16)
    image = noise(2, 16 if not made else sum(widths), 1, L)

    def parts() -> tuple[Tensor, ...]:
        x = tokens_of(image)
        # Otherwise the fused kernel would not be its choice.
        return (x, x, x) if not made else x.split(widths, -1)

    with torch.inference_mode():
        (call,) = seen(lambda: module(*parts(), need_weights=weights, **options), image)
        given = parts()
        assert torch.equal(call.queries[0], torch.arange(1, L + 1, dtype=torch.int32))
        options = {**options, "is_causal": False}
        expected = module(*given, need_weights=True, average_attn_weights=False, **options)[1]
        torch.testing.assert_close(rows_of(call), expected.flatten(0, 1), atol=1e-6, rtol=0)


def test_a_module_is_seen_without_a_batch_and_inside_of_layers() -> None:
    module = nn.MultiheadAttention(16, 4).eval()
    image = noise(1, 16, 1, L)
    x = tokens_of(image)[0]
    (call,) = seen(lambda: module(*[tokens_of(image)[0]] * 3), image)
    expected = module(x, x, x, average_attn_weights=False)[1]
    torch.testing.assert_close(rows_of(call), expected, atol=1e-6, rtol=0)
    layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 3)
    with torch.inference_mode():
        assert len(seen(lambda: layers.eval()(noise(2, L, 16)))) == 3
    added = nn.MultiheadAttention(16, 4, add_zero_attn=True).eval()
    (call,) = seen(lambda: added(*[tokens_of(image)[0]] * 3), image)
    # The key that the module adds is no place of the image.
    assert call.keys[0].tolist() == [1, 2, 3, 4, 5, 0]


def test_nothing_stays_behind_an_error() -> None:
    before = functional.scaled_dot_product_attention, functional.multi_head_attention_forward
    module = nn.MultiheadAttention(16, 4)

    def fail() -> None:
        module(*[noise(L, 16)] * 3)
        raise RuntimeError("a bug of the user's")

    with pytest.raises(RuntimeError, match="bug"):
        seen(fail)
    assert not _get_current_function_mode_stack()
    assert before == (
        functional.scaled_dot_product_attention,
        functional.multi_head_attention_forward,
    )
    assert not module._forward_hooks
    assert not module._forward_pre_hooks
