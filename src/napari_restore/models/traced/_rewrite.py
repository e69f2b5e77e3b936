"""Other ways to write operations, in which reductions over the image are seen and fewer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from napari_restore.models.traced._reductions import reduced_dims
from napari_restore.models.traced.trace import (
    Nodes,
    Operation,
    Ref,
    Shape,
    Size,
    constant,
    getitem,
    mapped,
    used,
)

_aten = torch.ops.aten


def normalised(nodes: Nodes) -> Nodes:
    """Return the operations that the last one needs, with as few reductions over the image."""
    shown = _rewritten(used(nodes), [*_RULES])
    return used(_rewritten(used(shown), [_without_scales]))


class _Writer:
    """Writes operations again, one after the other."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.made: Nodes = []
        self.new: dict[int, int] = {}
        self.items: dict[int, tuple[int, ...]] = {}
        """Results of what returns several, where they are written one by one."""
        self.users: dict[int, list[Operation]] = {}
        for node in nodes:
            for each in node.inputs:
                self.users.setdefault(each, []).append(node)

    def add(self, like: Operation, op: Any, *args: Any, shape: Shape | None, **kwargs: Any) -> Ref:
        """Write an operation that stands where `like` does."""
        self.made.append(Operation(op, args, kwargs, shape, like.where))
        return Ref(len(self.made) - 1)

    def moved(self, value: Any) -> Any:
        """Return arguments with the new numbers."""
        return mapped(value, lambda v: Ref(self.new[v.number]) if isinstance(v, Ref) else v)

    def shape_of_items(self, number: int) -> Shape | None:
        """Return the shape of the results of an operation that returns several alike."""
        return next((user.shape for user in self.users.get(number, ())), None)

    def takes(self, number: int, item: int) -> bool:
        """Return whether a result of an operation that returns several is used."""
        return any(
            user.op is getitem and user.args[1] == item for user in self.users.get(number, ())
        )


_Rule = Callable[[_Writer, int, Operation], bool]
"""Writes operation `number` in another way; False: it is to be written as it is."""


def _rewritten(nodes: Nodes, rules: list[_Rule]) -> Nodes:
    writer = _Writer(nodes)
    for number, node in enumerate(nodes):
        if node.op is getitem and node.args[0].number in writer.items:
            writer.new[number] = writer.items[node.args[0].number][node.args[1]]
        elif not any(rule(writer, number, node) for rule in rules):
            args, kwargs = writer.moved((node.args, node.kwargs))
            writer.made.append(replace(node, args=args, kwargs=kwargs))
            writer.new[number] = len(writer.made) - 1
    return writer.made


# -- one reduction in place of another ---------------------------------------------------


def _mean_and_variance(writer: _Writer, number: int, node: Operation) -> bool:
    """Write `var_mean` as two operations."""
    if node.op is not _aten.var_mean.correction:
        return False
    x, *given = writer.moved(node.args)
    shape, kwargs = writer.shape_of_items(number), dict(node.kwargs)
    var = writer.add(node, _aten.var.correction, x, *given, shape=shape, **kwargs)
    dims = given[0] if given else kwargs.get("dim")
    keep = kwargs.get("keepdim", False)
    mean = writer.add(node, _aten.mean.dim, x, dims, keep, shape=shape)
    writer.items[number] = var.number, mean.number
    return True


def _softmax(writer: _Writer, number: int, node: Operation) -> bool:
    """Write a softmax over the image by its largest value and its sum."""
    if node.op not in (_aten._softmax.default, _aten._safe_softmax.default):
        return False
    x, dim = writer.moved(node.args)[:2]
    shape = writer.nodes[node.inputs[0]].shape
    assert shape is not None
    if not shape[dim].varies:
        made = writer.add(node, _aten._softmax.default, x, dim, False, shape=shape)
    else:
        one = tuple(constant(1) if n == dim % len(shape) else s for n, s in enumerate(shape))
        top = writer.add(node, _aten.amax.default, x, [dim], True, shape=one)
        less = writer.add(node, _aten.sub.Tensor, x, top, shape=shape)
        powers = writer.add(node, _aten.exp.default, less, shape=shape)
        total = writer.add(node, _aten.sum.dim_IntList, powers, [dim], True, shape=one)
        made = writer.add(node, _aten.div.Tensor, powers, total, shape=shape)
    writer.new[number] = made.number
    return True


def _largest(writer: _Writer, number: int, node: Operation) -> bool:
    """Write a pool to one value, and a maximum whose place is not used, as `amax`."""
    if node.op is _aten.adaptive_max_pool2d.default and node.args[1] == [1, 1]:
        given: tuple[Any, ...] = ([-2, -1], True)
    elif node.op is _aten.max.dim and not writer.takes(number, 1):
        given = ([node.args[1]], *node.args[2:])
    else:
        return False
    shape = writer.shape_of_items(number)
    made = writer.add(node, _aten.amax.default, writer.moved(node.args[0]), *given, shape=shape)
    writer.items[number] = (made.number,)
    return True


def _whole_pool(writer: _Writer, number: int, node: Operation) -> bool:
    """Write a pool as large as the image as a mean."""
    if node.op is not _aten.avg_pool2d.default or not _is_single(node.shape):
        return False
    x = writer.moved(node.args[0])
    made = writer.add(node, _aten.mean.dim, x, [-2, -1], True, shape=node.shape)
    writer.new[number] = made.number
    return True


def _spread(writer: _Writer, number: int, node: Operation) -> bool:
    """Write the mean of (x - mean)² as a variance, which is counted together with the mean."""
    nodes = writer.nodes
    if node.op is not _aten.mean.dim or not _is_single(node.shape):
        return False
    square = nodes[node.inputs[0]]
    if square.op is not _aten.pow.Tensor_Scalar or square.args[1] != 2:
        return False
    less = nodes[square.inputs[0]]
    if less.op is not _aten.sub.Tensor or len(less.inputs) != 2 or less.kwargs:
        return False
    x, mean = less.inputs
    if nodes[mean].op is not _aten.mean.dim or nodes[mean].inputs != [x]:
        return False
    source = nodes[x].shape
    if source is None or not _varies(source):
        return False
    dims, keep = reduced_dims(node, len(source))
    own, kept = reduced_dims(nodes[mean], len(source))
    if own != dims or not kept:
        return False
    given = {"correction": 0, "keepdim": keep}
    made = writer.add(
        node, _aten.var.correction, Ref(writer.new[x]), [*dims], shape=node.shape, **given
    )
    writer.new[number] = made.number
    return True


_STEPWISE = {_aten.sum.dim_IntList, _aten.mean.dim, _aten.amax.default, _aten.amin.default}


def _both_axes(writer: _Writer, number: int, node: Operation) -> bool:
    """Write a reduction of one axis of the image, then of the other, as one."""
    if node.op not in _STEPWISE or not _is_single(node.shape):
        return False
    before = writer.nodes[node.inputs[0]]
    if before.op is not node.op or not _varies(before.shape):
        return False
    x = before.inputs[0]
    source = writer.nodes[x].shape
    if source is None or before.shape is None:
        return False
    first, kept = reduced_dims(before, len(source))
    second, keep = reduced_dims(node, len(before.shape))
    if kept != keep:
        return False
    left = [dim for dim in range(len(source)) if kept or dim not in first]
    dims = sorted({*first, *(left[dim] for dim in second)})
    made = writer.add(node, node.op, Ref(writer.new[x]), dims, keep, shape=node.shape)
    writer.new[number] = made.number
    return True


_RULES: tuple[_Rule, ...] = (
    _mean_and_variance,
    _softmax,
    _largest,
    _whole_pool,
    _spread,
    _both_axes,
)


def _varies(shape: Shape | None) -> bool:
    return shape is not None and any(size.varies for size in shape)


def _is_single(shape: Shape | None) -> bool:
    return shape is not None and not _varies(shape)


_UNARY = {
    *(_aten.view.default, _aten._unsafe_view.default, _aten.expand.default, _aten.clone.default),
    *(_aten.transpose.int, _aten.permute.default, _aten.alias.default, _aten.t.default),
}
"""Operations that only arrange what they are given."""
_SCALINGS = {_aten.div.Tensor, _aten.mul.Tensor, _aten.div.Scalar, _aten.mul.Scalar}


def _without_scales(writer: _Writer, number: int, node: Operation) -> bool:
    """Take factors of an image out of a product over its pixels."""
    if node.op is not _aten.bmm.default or not _is_single(node.shape):
        return False
    # Transposed attention divides queries and keys by their norms over the image first. Their
    # product divided by both is the same, and can be counted together with the norms.
    operands, factors = [], []
    for place, operand in enumerate(node.args):
        arranged, bare, scales = _scaled(operand.number, writer.nodes)
        x = Ref(writer.new[bare])
        for each in reversed(arranged):
            one = writer.nodes[each]
            x = writer.add(one, one.op, x, *one.args[1:], shape=one.shape, **one.kwargs)
        operands.append(x)
        factors += [(op, scale, place, scaled) for op, scale, scaled in scales]
    if not factors:
        return False
    result = writer.add(node, _aten.bmm.default, *operands, shape=node.shape)
    groups, rows, columns = (int(size.a) for size in node.shape or ())
    for op, scale, place, scaled in factors:
        factor = scale
        if isinstance(scale, Ref):
            cells = [1 if s.varies else int(s.a) for s in writer.nodes[scaled].shape or ()]
            along = [groups, 1, columns] if place else [groups, rows, 1]
            full, lined = (tuple(map(constant, each)) for each in (cells, along))
            held = writer.moved(scale)
            factor = writer.add(node, _aten.expand.default, held, cells, shape=full)
            factor = writer.add(node, _aten.view.default, factor, along, shape=lined)
        result = writer.add(node, op, result, factor, shape=node.shape)
    writer.new[number] = result.number
    return True


def _scaled(number: int, nodes: Nodes) -> tuple[list[int], int, list[tuple[Any, Any, int]]]:
    """Return how an operand is arranged, of what, and by what of the image that was scaled.

    The arrangement is empty, and so are the scales, where there is nothing to take out.
    """
    arranged, at = [], number
    scales: list[tuple[Any, Any, int]] = []
    while True:
        node = nodes[at]
        if node.op in _UNARY:
            arranged.append(at)
            at = node.inputs[0]
            continue
        if node.op not in _SCALINGS or not isinstance(node.args[0], Ref):
            break
        x, scale = node.args[0].number, node.args[1]
        if isinstance(scale, Ref):
            if nodes[scale.number].op is _aten.expand.default:
                scale = nodes[scale.number].args[0]
            if not _is_single(nodes[scale.number].shape) or node.shape != nodes[x].shape:
                break
        elif isinstance(scale, Size):
            break
        scales.append((node.op, scale, x))
        at = x
    return (arranged, at, scales) if scales else ([], number, [])
