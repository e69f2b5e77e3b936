"""Attention in any network, seen while it runs: weights that a softmax made, times values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from napari_restore.models._positions import (
    Marks,
    followed,
    is_lost,
    of_product,
    positions_of_image,
    varies,
)

_aten = torch.ops.aten
LOST = math.exp(-50)
"""Weights below this share of the largest are lost in float32: a mask left them out."""


class CallRow(NamedTuple):
    """Weights of one query of one head."""

    weights: Tensor
    """(keys,) float32; of a softmax they sum to 1, or are all 0 where the mask leaves no key."""
    excluded: Tensor
    """(keys,) bool: what the mask left out."""


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One call of attention: sets of queries and keys, one for each window, item and head."""

    queries: Tensor
    """(sets, queries) positions, see `Marks`. Of attention between channels those of its values."""
    keys: Tensor
    """(sets, keys) positions."""
    weights: Callable[[int, int], Tensor]
    """Returns the weights (keys,) of a query of a set."""
    mixed: Tensor | None = None
    """Of attention between channels what it puts out, (sets, channels, positions)."""
    matrix: Tensor | None = None
    """Of attention between channels its weights, (sets, channels, channels)."""
    obstacle: str = ""
    """Why its positions are not known; empty where they are."""
    factor: Tensor | None = None
    """The weights as the network multiplied values with them; of `AttentionCalls` with gradients, which
    know them by it."""
    is_turned: bool = False
    """Whether that is (…, keys, queries)."""
    out: Tensor | None = None
    """What it puts out, as the network goes on with it: to write to, without gradients."""
    gradient: Tensor | None = None
    """(sets, queries, keys): rows are then weights times this, where that is positive."""

    @property
    def sets(self) -> int:
        return len(self.queries)

    def row(self, number: int, token: int) -> CallRow:
        """Return the weights of a query in a set."""
        weights = self.weights(number, token).float()
        excluded = weights.abs() <= weights.abs().max() * LOST
        if self.gradient is not None:
            weights = (weights * self.gradient[number, token]).clamp(min=0)
        return CallRow(weights, excluded)

    def leave_out(self, sets: Tensor) -> None:
        """Set what some sets, (sets,) bool, put out to 0."""
        if self.out is not None:
            lead = self.out.shape[:-2]
            self.out.masked_fill_(sets.view(*lead, 1, 1), 0)

    def as_sets(self, values: Tensor) -> Tensor:
        """Return values of the shape of `factor` as (sets, queries, keys)."""
        return _sets(values.mT if self.is_turned else values)


class AttentionCalls:
    """Within ``with``: every call of attention on this thread is passed to `visit`, with its number.

    Numbers count from 1. The operations are made as always; with each, positions of the values of `image`
    (N, C, H, W) are moved. A call is a product of values with weights that a softmax made, whatever
    was done to these in between, or `scaled_dot_product_attention`. With `gradients` what was computed
    can be differentiated by the weights of the calls.
    """

    def __init__(
        self,
        visit: Callable[[int, AttentionCall], None],
        image: Tensor,
        *,
        gradients: bool = False,
    ) -> None:
        self.count = 0
        self._visit, self._gradients = visit, gradients
        self._width = image.shape[-1]
        self._marks: MutableMapping[Tensor, Marks] = WeakTensorKeyDictionary()
        self._marks[image] = positions_of_image(image)
        self._lost: MutableMapping[Tensor, str] = WeakTensorKeyDictionary()
        """Operations behind which positions are not known, by what they returned."""
        self._modes = ExitStack()

    def __enter__(self) -> AttentionCalls:
        if self._gradients:
            self._modes.enter_context(torch.enable_grad())
            # The only one that has weights.
            self._modes.enter_context(sdpa_kernel(SDPBackend.MATH))
        else:
            self._modes.enter_context(torch.inference_mode())
        self._modes.enter_context(_Plain())
        self._modes.enter_context(_Watch(self._after))
        return self

    def __exit__(self, *error: object) -> None:
        self._modes.close()

    def _after(self, func: Any, args: Any, given: Mapping[str, Any], out: Any) -> None:
        """Follow an operation, once it was made."""
        packet = func.overloadpacket
        if packet is _aten.scaled_dot_product_attention:
            self._product_attention(out, *args, **given)
        elif packet in _PRODUCTS:
            a, b = args[_PRODUCTS[packet] :][:2]
            self._product(a, b, out)
        else:
            self._follow(func, args, given, out)

    # -- what follows ------------------------------------------------------------------------

    def _known(self, value: Any) -> Marks | None:
        return self._marks.get(value) if isinstance(value, Tensor) else None

    def _follow(self, func: Any, args: Any, given: Mapping[str, Any], out: Any) -> None:
        try:
            found = followed(func, args, given, out, self._known, self._width)
        except (RuntimeError, TypeError, ValueError, IndexError):
            found = []
        for tensor, marks in found:
            self._marks[tensor] = marks
        if not found:
            self._note_lost(func, args, out)

    def _note_lost(self, func: Any, args: Any, out: Any) -> None:
        flat = [each for arg in args for each in (arg if isinstance(arg, list) else [arg])]
        tensors = [each for each in flat if isinstance(each, Tensor)]
        lost = next((self._lost[each] for each in tensors if each in self._lost), "")
        if not lost and any(self._known(each) for each in tensors) and is_lost(func, out):
            lost = str(func.overloadpacket).removeprefix("aten.")
        if lost:
            for each in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(each, Tensor):
                    self._lost[each] = lost

    def _product(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        one, other = self._known(a), self._known(b)
        lost = self._lost.get(a, "") or self._lost.get(b, "")
        marks = None
        known: dict[str, Any] = {"out": out}
        if one is not None and one.are_shares:
            known |= {"factor": a}
            marks = self._attention(_sets(a), one, other, _sets(out), lost, known)
        elif other is not None and other.are_shares:
            # Values stand before their weights.
            known |= {"factor": b, "is_turned": True}
            turned = _sets(b).mT, _turned(other), _turned(one), _sets(out).mT
            marks = self._attention(*turned, lost, known)
            marks = _turned(marks)
        if marks is not None:
            self._marks[out] = Marks(tuple(each.reshape(out.shape) for each in marks.positions))
            return
        marks = of_product(one, other, out.shape)
        if marks is not None:
            self._marks[out] = marks
        else:
            self._note_lost(_aten.bmm.default, (a, b), out)

    # -- attention ---------------------------------------------------------------------------

    def _attention(
        self,
        weights: Tensor,
        marks: Marks,
        values: Marks | None,
        made: Tensor,
        lost: str,
        known: Mapping[str, Any],
    ) -> Marks | None:
        """Note a call with `weights` (sets, queries, keys), and what else is `known` of it.

        Returns the marks of what it puts out; None where it is no attention.
        """
        if len(marks.positions) == 2:
            positions = [_sets(each) for each in marks.positions]
            if varies(positions[0], -1):
                positions.reverse()
            queries, keys = positions[0][..., 0], positions[1][..., 0, :]
            self._note(AttentionCall(queries, keys, lambda n, t: weights[n, t], **known))
            return Marks((queries[..., None].expand(made.shape),))
        if marks.positions:
            return None
        is_square = weights.shape[-1] == weights.shape[-2] > 1
        if values is not None and len(values.positions) == 1 and is_square:
            own = _sets(values.positions[0])
            if varies(own, -1) and not varies(own, -2):
                at = own[..., 0, :]
                self._note(replace(_of_channels(weights, made, at), **known))
                return Marks((at[..., None, :].expand(made.shape),))
        if (lost or values is None) and min(weights.shape[1:]) > 1:
            empty = weights.new_zeros(1, 1, dtype=torch.int32)
            self._note(AttentionCall(empty, empty, lambda n, t: empty[0], obstacle=_behind(lost)))
        return None

    def _note(self, call: AttentionCall) -> None:
        self.count += 1
        self._visit(self.count, call)

    def _product_attention(  # noqa: PLR0913 - those of the function
        self,
        out: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        """Note a call of `scaled_dot_product_attention`, whose rows are computed when asked for."""
        lead = out.shape[:-2]
        positions = [self._known(each) for each in (query, key, value)]
        one, other, third = (m.positions[0] if m and m.positions else None for m in positions)
        if enable_gqa:
            shared = query.shape[-3] // key.shape[-3]
            key = key.repeat_interleave(shared, -3)
            other = None if other is None else other.repeat_interleave(shared, -3)
        q, k = (_sets(each.expand(*lead, *each.shape[-2:])) for each in (query, key))
        factor = scale if scale is not None else 1 / math.sqrt(q.shape[-1])
        length, keys = q.shape[1], k.shape[1]
        mask = None
        if attn_mask is not None:
            mask = attn_mask.expand(*lead, length, keys)

        def weights(number: int, token: int) -> Tensor:
            scores = k[number].float() @ (q[number, token] * factor).float()
            if mask is not None:
                own = mask[np.unravel_index(number, lead)][token]
                is_bool = own.dtype == torch.bool
                scores = (
                    scores.masked_fill(own.logical_not(), -math.inf) if is_bool else scores + own
                )
            if is_causal:
                scores[token + 1 :] = -math.inf
            return scores.softmax(0).nan_to_num(0)

        if third is not None and varies(third, -1) and not varies(third, -2) and mask is None:
            matrix = (q.float() @ k.float().mT * factor).softmax(-1)
            at = third[..., 0, :].expand(*lead, third.shape[-1])
            self._note(replace(_of_channels(matrix, _sets(out), _flat(at)), out=out))
            self._marks[out] = Marks((at[..., None, :].expand(out.shape),))
            return
        found, obstacle = [], ""
        for each, tensor, count in ((one, query, length), (other, key, keys)):
            if each is None:
                each = torch.zeros((), dtype=torch.int32, device=out.device)
                each = each.expand(*lead, count, 1)
                obstacle = obstacle or _behind(self._lost.get(tensor, ""))
            found.append(each[..., 0].expand(*lead, count))
        one, other = map(_flat, found)
        self._note(AttentionCall(one, other, weights, obstacle=obstacle, out=out))
        self._marks[out] = Marks((found[0][..., None].expand(out.shape),))


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Passes every operation to `after`, once it was made; those made of others part by part."""

    def __init__(self, after: Callable[[Any, Any, Mapping[str, Any], Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._after = after

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch imports its compiler, which takes seconds.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if _is_composed(func):
            with self:
                return func._op_dk(_COMPOSITE, *args, **given)
        out = func(*args, **given)
        # A mode does not see what is called from here.
        self._after(func, args, given, out)
        return out


class _Plain(TorchFunctionMode):
    """Calls every function as it is. Torch's own layers leave their fused kernels while it is active."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return func(*args, **dict(kwargs or {}))


def _turned(marks: Marks | None) -> Any:
    """Return the marks of a turned matrix."""
    if marks is None:
        return None
    return Marks(tuple(each.mT for each in marks.positions), marks.are_shares)


def _of_channels(matrix: Tensor, mixed: Tensor, positions: Tensor) -> AttentionCall:
    return AttentionCall(positions, positions, lambda n, t: matrix[n, t], mixed, matrix)


def _behind(operation: str) -> str:
    if not operation:
        return "its tokens come from no pixels of the image"
    return (
        f"its tokens come from {operation}, behind which it is not known where they lie: "
        "move them by reshape, permute, roll, pad, unfold or indices"
    )


def _sets(values: Tensor) -> Tensor:
    """Return (sets, a, b) of values (…, a, b)."""
    return values.reshape(-1, *values.shape[-2:])


def _flat(positions: Tensor) -> Tensor:
    """Return (sets, tokens) of positions (…, tokens)."""
    return positions.reshape(-1, positions.shape[-1])


@cache
def _is_composed(func: Any) -> bool:
    """Return whether an operation is made of others, which are seen in its place."""
    return func.overloadpacket is not _aten.scaled_dot_product_attention and bool(
        torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
    )


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_PRODUCTS = {_aten.bmm: 0, _aten.mm: 0, _aten.baddbmm: 1, _aten.addmm: 1}
"""Products of matrices, and where their factors stand."""
