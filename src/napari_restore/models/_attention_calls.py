"""Calls of attention in any network, seen while it runs: queries, keys and mask of each."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

FAR_BELOW = 50.0
"""How far below the largest of a float mask its values exclude: e^−50 is lost in float32."""
NO_WEIGHT = 1e-9


class CallRow(NamedTuple):
    """Weights of one query of one head."""

    weights: Tensor
    """(keys,) float32; they sum to 1, or are all 0 where the mask leaves no key."""
    excluded: Tensor
    """(keys,) bool: what the mask left out."""


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One call of attention: sets of queries and keys, one for each item of a batch and head."""

    lead: tuple[int, ...]
    """Number of sets along each axis; the last one is usually the heads."""
    queries: int
    """Queries of each set."""
    keys: int
    sources: tuple[Tensor, Tensor]
    """What queries and keys are computed from: (…, tokens, channels), as many sets as `lead`, or
    fewer along its last axis, which then share them."""
    pick: Callable[[tuple[int, ...], int], tuple[Tensor, Tensor, Tensor]]
    """Returns for a set and a query its vector (E,), scaled, the keys (keys, E), and (keys,) float32
    that is added to their products."""
    obstacle: str = ""
    """Why its keys are no tokens; empty where they are."""

    @property
    def sets(self) -> int:
        """Number of sets, batch × heads."""
        return math.prod(self.lead)

    def row(self, number: int, token: int) -> CallRow:
        """Return the weights of a query in a set, numbered along the axes of `lead`, the last first."""
        index = []
        for length in reversed(self.lead):
            number, at = divmod(number, length)
            index.append(at)
        with torch.autocast(self.sources[0].device.type, enabled=False):
            query, keys, added = self.pick(tuple(reversed(index)), token)
            weights = torch.softmax(keys.float() @ query.float() + added, dim=0).nan_to_num(0)
        # Networks write −100 for what must not be seen: its weight is lost, not its place.
        below = added <= added.max() - FAR_BELOW
        return CallRow(weights, below & (weights < NO_WEIGHT))


class AttentionCalls(TorchFunctionMode):
    """Within ``with``: every call of attention on this thread is passed to `visit`, with its number.

    Numbers count from 1. The calls themselves are made as always. Seen are
    `scaled_dot_product_attention` and `nn.MultiheadAttention`, also inside torch's own layers: these
    leave their fused kernels while a mode is active.
    """

    def __init__(self, visit: Callable[[int, AttentionCall], None]) -> None:
        super().__init__()
        self.count = 0
        self._visit = visit

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        seen = _SEEN.get(func)
        if seen is not None:
            self.count += 1
            # A mode does not see what is called from here.
            self._visit(self.count, seen(*args, **given))
        return func(*args, **given)


def product_call(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """Return the call of `scaled_dot_product_attention` with these arguments."""
    # A single set has no axis for it.
    q, k = (x[None] if x.dim() == 2 else x for x in (query, key))
    heads = q.shape[-3]
    shared = heads // k.shape[-3] if enable_gqa else 1
    outer = tuple(torch.broadcast_shapes(q.shape[:-3], k.shape[:-3]))  # type: ignore[no-untyped-call]
    q = q.expand(*outer, *q.shape[-3:])
    k = k.expand(*outer, *k.shape[-3:])
    if not enable_gqa:
        heads = max(heads, k.shape[-3])
        q, k = (x.expand(*outer, heads, -1, -1) for x in (q, k))
    lead, factor = (*outer, heads), scale or 1 / math.sqrt(q.shape[-1])
    length, keys = q.shape[-2], k.shape[-2]
    mask = None if attn_mask is None else attn_mask.expand(*lead, length, keys)

    def pick(index: tuple[int, ...], token: int) -> tuple[Tensor, Tensor, Tensor]:
        added = torch.zeros(keys, device=q.device)
        if mask is not None:
            added = added + _added(mask[index][token], kept=True)
        if is_causal:
            added[token + 1 :] = -math.inf
        return q[index][token] * factor, k[(*index[:-1], index[-1] // shared)], added

    return AttentionCall(lead, length, keys, (q, k), pick)


def module_call(*args: Any, **kwargs: Any) -> AttentionCall:
    """Return the call of `nn.functional.multi_head_attention_forward` with these arguments."""
    bound = _MODULE.bind(*args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    query, key = given["query"], given["key"]
    masks = _ModuleMasks.of(given, batched=query.dim() == 3)
    if query.dim() == 2:
        query, key = query[:, None], key[:, None]
    (length, batch, channels), heads = query.shape, given["num_heads"]
    side = channels // heads
    (w_q, b_q), (w_k, b_k) = _projections(given)
    obstacle = ""
    if given["bias_k"] is not None or given["add_zero_attn"] or given["static_k"] is not None:
        obstacle = "it has keys that are no places of the image"

    def pick(index: tuple[int, ...], token: int) -> tuple[Tensor, Tensor, Tensor]:
        item, head = index
        part = slice(head * side, (head + 1) * side)
        q = functional.linear(query[token, item], w_q[part], b_q if b_q is None else b_q[part])
        k = functional.linear(key[:, item], w_k[part], b_k if b_k is None else b_k[part])
        added = torch.zeros(len(key), device=query.device)
        return q / math.sqrt(side), k, masks.add_to(added, item, head, heads, token)

    # Heads share the tokens, of which each computes its own queries and keys.
    sources = query.transpose(0, 1)[:, None], key.transpose(0, 1)[:, None]
    return AttentionCall((batch, heads), length, len(key), sources, pick, obstacle)


def _projections(given: Mapping[str, Any]) -> list[tuple[Tensor, Tensor | None]]:
    """Return weight and bias that make queries, and those that make keys."""
    if given["use_separate_proj_weight"]:
        weights = given["q_proj_weight"], given["k_proj_weight"]
    else:
        weights = given["in_proj_weight"].chunk(3)[:2]
    bias = given["in_proj_bias"]
    return list(zip(weights, (None, None) if bias is None else bias.chunk(3)[:2], strict=True))


@dataclass(frozen=True)
class _ModuleMasks:
    """Masks of `nn.MultiheadAttention`, where True leaves a key out."""

    pairs: Tensor | None
    """(queries, keys), or the same for each item and head."""
    keys: Tensor | None
    """(batch, keys)."""
    causal: bool

    @classmethod
    def of(cls, given: Mapping[str, Any], *, batched: bool) -> _ModuleMasks:
        pairs, keys = given["attn_mask"], given["key_padding_mask"]
        # Only then does the module take the flag for the mask.
        causal = given["is_causal"] and keys is None and not given["need_weights"]
        if keys is not None and not batched:
            keys = keys[None]
        return cls(None if causal else pairs, keys, causal)

    def add_to(self, added: Tensor, item: int, head: int, heads: int, token: int) -> Tensor:
        """Return `added` (keys,) with what is added for a query of an item and head."""
        if self.pairs is not None:
            pairs = self.pairs if self.pairs.dim() == 2 else self.pairs[item * heads + head]
            added = added + _added(pairs[token], kept=False)
        if self.keys is not None:
            added = added + _added(self.keys[item], kept=False)
        if self.causal:
            added[token + 1 :] = -math.inf
        return added


def _added(mask: Tensor, *, kept: bool) -> Tensor:
    """Return a mask as float32 to add; of a bool one, `kept` is the value of what stays."""
    if mask.dtype != torch.bool:
        return mask.float()
    out = mask.logical_not() if kept else mask
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(out, -math.inf)


_MODULE = inspect.signature(functional.multi_head_attention_forward)
_SEEN: dict[Any, Callable[..., AttentionCall]] = {
    functional.scaled_dot_product_attention: product_call,
    functional.multi_head_attention_forward: module_call,
    # Of exported programs.
    torch.ops.aten.scaled_dot_product_attention: product_call,
    torch.ops.aten.scaled_dot_product_attention.default: product_call,
}
