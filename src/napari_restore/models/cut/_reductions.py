"""Reductions over the image: how each is counted by tile, and what follows from the counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from napari_restore.models._steps import Sums
from napari_restore.models.cut._trace import Node, Nodes, Ref, Size, Uncut, constant, getitem, mapped

_aten = torch.ops.aten
_SUMS = {_aten.sum.default, _aten.sum.dim_IntList, _aten.mean.default, _aten.mean.dim}
_NORMS = {_aten.linalg_vector_norm.default}
_SPREADS = {_aten.var.correction, _aten.std.correction}
_EXTREMES = {
    _aten.amax.default: torch.amax,
    _aten.max.default: torch.amax,
    _aten.amin.default: torch.amin,
    _aten.min.default: torch.amin,
}
_PRODUCTS = {_aten.bmm.default, _aten.mm.default}
_FAMILIES = (
    (_SUMS, "mean"),
    (_NORMS, "norm"),
    (_SPREADS, "variance"),
    (_PRODUCTS, "gram"),
    (set(_EXTREMES), "extreme"),
)


@dataclass(frozen=True)
class Reduction:
    """A reduction over the image: operation `number`, whose spatial operands are `features`."""

    number: int
    node: Node
    features: tuple[int, ...]

    @property
    def family(self) -> str:
        """Return which it is, for records: mean, norm, variance, gram or extreme."""
        return next(name for ops, name in _FAMILIES if self.node.op in ops)

    @property
    def statistic(self) -> str:
        """Name of its result among the statistics."""
        return f"reduction{self.number}"

    def _key(self, part: str) -> str:
        return f"{self.statistic}.{part}"

    @property
    def shape(self) -> tuple[int, ...]:
        assert self.node.shape is not None
        return tuple(size.at(0, 0) for size in self.node.shape)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its counts."""
        if self.node.op in _EXTREMES:
            return {self._key("extreme"): self.shape}
        shapes: dict[str, tuple[int, ...]] = {self._key("sum"): self.shape}
        if self.node.op not in _PRODUCTS:
            shapes[self._key("cells")] = ()
        if self.node.op in _SPREADS:
            shapes[self._key("squares")] = self.shape
        return shapes

    def count(self, operands: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Return the float64 counts of the operands of one tile."""
        op = self.node.op
        if op in _PRODUCTS:
            left, right = (operands[each] for each in self.features)
            return {self._key("sum"): left.double() @ right.double()}
        x = operands[self.features[0]]
        dims, keep = self._dims(x.ndim)
        if op in _EXTREMES:
            return {self._key("extreme"): _EXTREMES[op](x, dims, keepdim=keep).double()}
        # Squares of float32 would cancel in the variance.
        values = x.double() if op in _SPREADS else x
        powers = {"sum": values.square() if op in _NORMS else values}
        if op in _SPREADS:
            powers["squares"] = values.square()
        counts = {
            self._key(part): each.sum(dims, keepdim=keep, dtype=torch.float64)
            for part, each in powers.items()
        }
        cells = prod(x.shape[dim] for dim in dims)
        return counts | {self._key("cells"): x.new_tensor(cells, dtype=torch.float64)}

    def settle(self, sums: Sums) -> Tensor:
        """Return its result (images, *shape) float64 for whole images."""
        op = self.node.op
        if op in _EXTREMES:
            return sums[self._key("extreme")]
        total = sums[self._key("sum")]
        if op in _PRODUCTS or op in (_aten.sum.default, _aten.sum.dim_IntList):
            return total
        if op in _NORMS:
            # Its slope at zero is infinite; that of the operation itself is zero.
            return torch.where(total > 0, total, 1).sqrt() * (total > 0)
        cells = sums[self._key("cells")].reshape(-1, *[1] * (total.ndim - 1))
        if op not in _SPREADS:
            return total / cells
        spread = (sums[self._key("squares")] - total.square() / cells).clamp_min(0)
        variance = spread / (cells - self._correction)
        return variance.sqrt() if op is _aten.std.correction else variance

    def merge(self, earlier: Sums, following: Sums) -> dict[str, Tensor]:
        """Return its counts of earlier tiles and the next one together."""
        join: Callable[[Tensor, Tensor], Tensor] = torch.add
        if self.node.op in _EXTREMES:
            join = torch.maximum if _EXTREMES[self.node.op] is torch.amax else torch.minimum
        return {name: join(earlier[name], following[name]) for name in self.shapes}

    def of_tile(self, by_all: Sums, merged: Sums, own: Sums) -> dict[str, Tensor]:
        """Return ∂D/∂ of the counts of one tile: those of an extreme go to the tile that has it."""
        if self.node.op not in _EXTREMES:
            return {name: by_all[name] for name in self.shapes}
        return {name: by_all[name] * (merged[name] == own[name]) for name in self.shapes}

    @property
    def _correction(self) -> float:
        given = self.node.kwargs.get("correction", 1)
        return 1.0 if given is None else float(given)

    def _dims(self, ndim: int) -> tuple[tuple[int, ...], bool]:
        return reduced_dims(self.node, ndim)


def reduced_dims(node: Node, ndim: int) -> tuple[tuple[int, ...], bool]:
    """Return the axes that a reduction takes, and whether it keeps them."""
    first = 2 if node.op in _NORMS else 1
    given = node.args[first] if len(node.args) > first else node.kwargs.get("dim")
    kept = node.args[first + 1] if len(node.args) > first + 1 else node.kwargs.get("keepdim", False)
    if given is None or given == []:
        return tuple(range(ndim)), bool(kept)
    given = [given] if isinstance(given, int) else given
    return tuple(sorted(dim % ndim for dim in given)), bool(kept)


def reduction_of(number: int, nodes: Nodes, spatial: Sequence[bool]) -> Reduction:
    """Return the reduction that operation `number` is; raises `Uncut` where it is none of them."""
    node = nodes[number]
    features = tuple(each for each in node.inputs if spatial[each])
    if node.op in _PRODUCTS:
        if len(features) == 2:
            return Reduction(number, node, features)
    elif node.op in _NORMS:
        order = node.args[1] if len(node.args) > 1 else node.kwargs.get("ord", 2)
        if order == 2:
            return Reduction(number, node, features)
    elif any(node.op in ops for ops, _ in _FAMILIES):
        return Reduction(number, node, features)
    if node.op is getitem:
        node = nodes[node.inputs[0]]
    raise Uncut(f"{node.at_place()} makes one value of all pixels in a way that cannot be counted")


# -- other ways to write them ------------------------------------------------------------


def rewritten(nodes: Nodes) -> Nodes:
    """Return the operations with those that hide a reduction over the image written out."""
    made: Nodes = []
    new: dict[int, int] = {}
    pairs: dict[int, tuple[int, ...]] = {}
    """Numbers of the results of what returns several."""

    def add(op: Any, *args: Any, shape: Any, where: str, **kwargs: Any) -> int:
        made.append(Node(op, args, kwargs, shape, where))
        return len(made) - 1

    def moved(value: Any) -> Any:
        return Ref(new[value.number]) if isinstance(value, Ref) else value

    for number, node in enumerate(nodes):
        if node.op is getitem and node.args[0].number in pairs:
            new[number] = pairs[node.args[0].number][node.args[1]]
            continue
        here = replace(node, args=mapped(node.args, moved), kwargs=mapped(node.kwargs, moved))
        source = nodes[node.inputs[0]].shape if node.inputs else None
        if node.op is _aten.var_mean.correction:
            x, *rest = here.args
            shape = _shape_of_items(nodes, number)
            kwargs = dict(here.kwargs)
            var = add(_aten.var.correction, x, *rest, shape=shape, where=node.where, **kwargs)
            kwargs.pop("correction", None)
            keep = kwargs.pop("keepdim", False)
            dims = rest[0] if rest else kwargs.pop("dim", None)
            mean = add(_aten.mean.dim, x, dims, keep, shape=shape, where=node.where)
            pairs[number] = var, mean
        elif node.op in (_aten._softmax.default, _aten._safe_softmax.default) and _over_image(
            source, node.args[1]
        ):
            assert source is not None
            x, dim = here.args[:2]
            one = tuple(constant(1) if n == dim % len(source) else s for n, s in enumerate(source))
            top = add(_aten.amax.default, x, [dim], True, shape=one, where=node.where)
            less = add(_aten.sub.Tensor, x, Ref(top), shape=source, where=node.where)
            powers = add(_aten.exp.default, Ref(less), shape=source, where=node.where)
            total = add(
                _aten.sum.dim_IntList, Ref(powers), [dim], True, shape=one, where=node.where
            )
            new[number] = add(
                _aten.div.Tensor, Ref(powers), Ref(total), shape=source, where=node.where
            )
        elif node.op is _aten._safe_softmax.default:
            x, dim = here.args[:2]
            new[number] = add(
                _aten._softmax.default, x, dim, False, shape=node.shape, where=node.where
            )
        elif node.op is _aten.adaptive_max_pool2d.default and node.args[1] == [1, 1]:
            shape = _shape_of_items(nodes, number)
            top = add(
                _aten.amax.default, here.args[0], [-2, -1], True, shape=shape, where=node.where
            )
            pairs[number] = (top,)
        elif node.op is _aten.avg_pool2d.default and _is_single(node.shape) and _varies(source):
            new[number] = add(
                _aten.mean.dim, here.args[0], [-2, -1], True, shape=node.shape, where=node.where
            )
        elif node.op is _aten.max.dim and not _takes_item(nodes, number, 1):
            shape = _shape_of_items(nodes, number)
            x, dim, *keep = here.args
            pairs[number] = (
                add(_aten.amax.default, x, [dim], *keep, shape=shape, where=node.where),
            )
        elif (spread := _spread_of(node, nodes)) is not None:
            x, dims, keep = spread
            made.append(
                Node(
                    _aten.var.correction,
                    (Ref(new[x]), list(dims)),
                    {"correction": 0, "keepdim": keep},
                    node.shape,
                    node.where,
                )
            )
            new[number] = len(made) - 1
        elif (joined := _over_both(node, nodes)) is not None:
            x, dims, keep = joined
            new[number] = add(
                node.op, Ref(new[x]), list(dims), keep, shape=node.shape, where=node.where
            )
        else:
            made.append(here)
            new[number] = len(made) - 1
    return made


def _varies(shape: Any) -> bool:
    return shape is not None and any(size.varies for size in shape)


def _is_single(shape: Any) -> bool:
    return shape is not None and not _varies(shape)


def _over_image(shape: Any, dim: int) -> bool:
    return shape is not None and shape[dim].varies


def _takes_item(nodes: Nodes, number: int, item: int) -> bool:
    return any(
        n.op is getitem and n.args[0].number == number and n.args[1] == item for n in nodes
    )


def _shape_of_items(nodes: Nodes, number: int) -> Any:
    return next(
        (n.shape for n in nodes if n.op is getitem and n.args[0].number == number), None
    )


_STEPWISE = {_aten.sum.dim_IntList, _aten.mean.dim, _aten.amax.default, _aten.amin.default}


def _spread_of(node: Node, nodes: Nodes) -> tuple[int, tuple[int, ...], bool] | None:
    """Return operand, axes and keepdim of a variance that is written out: the mean of (x - mean)²."""
    if node.op is not _aten.mean.dim or not _is_single(node.shape):
        return None
    square = nodes[node.inputs[0]]
    if square.op is not _aten.pow.Tensor_Scalar or square.args[1] != 2:
        return None
    less = nodes[square.inputs[0]]
    if less.op is not _aten.sub.Tensor or len(less.inputs) != 2 or less.kwargs:
        return None
    x, mean = less.inputs
    if nodes[mean].op is not _aten.mean.dim or nodes[mean].inputs != [x]:
        return None
    source = nodes[x].shape
    if source is None or not _varies(source):
        return None
    dims, keep = reduced_dims(node, len(source))
    own, kept = reduced_dims(nodes[mean], len(source))
    return (x, dims, keep) if own == dims and kept else None


def _over_both(node: Node, nodes: Nodes) -> tuple[int, tuple[int, ...], bool] | None:
    """Return operand, axes and keepdim of a reduction of one axis of the image, then the other."""
    if node.op not in _STEPWISE or not _is_single(node.shape):
        return None
    before = nodes[node.inputs[0]]
    if before.op is not node.op or not _varies(before.shape):
        return None
    source = nodes[before.inputs[0]].shape
    if source is None or before.shape is None:
        return None
    first, kept = reduced_dims(before, len(source))
    second, keep = reduced_dims(node, len(before.shape))
    if kept != keep:
        return None
    left = [dim for dim in range(len(source)) if kept or dim not in first]
    return before.inputs[0], tuple(sorted({*first, *(left[dim] for dim in second)})), keep


_UNARY = {
    *(_aten.view.default, _aten._unsafe_view.default, _aten.expand.default, _aten.clone.default),
    *(_aten.transpose.int, _aten.permute.default, _aten.alias.default, _aten.t.default),
}
"""Operations that only arrange what they are given."""
_SCALINGS = {_aten.div.Tensor, _aten.mul.Tensor, _aten.div.Scalar, _aten.mul.Scalar}


def without_scales(nodes: Nodes) -> Nodes:
    """Return the operations with factors of an image taken out of products over its pixels.

    Transposed attention divides queries and keys by their norms over the image first. Their product
    divided by both is the same, and can be counted together with the norms.
    """
    made: Nodes = []
    new: dict[int, int] = {}

    def add(op: Any, *args: Any, shape: Any, where: str) -> Ref:
        made.append(Node(op, args, {}, shape, where))
        return Ref(len(made) - 1)

    def moved(value: Any) -> Any:
        return Ref(new[value.number]) if isinstance(value, Ref) else value

    for number, node in enumerate(nodes):
        here = replace(node, args=mapped(node.args, moved), kwargs=mapped(node.kwargs, moved))
        if node.op is _aten.bmm.default and _is_single(node.shape):
            operands, factors = [], []
            for place, operand in enumerate(node.args):
                arranged, bare, scales = _scaled(operand.number, nodes)
                x = Ref(new[bare])
                for each in reversed(arranged):
                    one = nodes[each]
                    rest = mapped(one.args[1:], moved)
                    made.append(Node(one.op, (x, *rest), one.kwargs, one.shape, one.where))
                    x = Ref(len(made) - 1)
                operands.append(x)
                factors += [(op, scale, place, x) for op, scale, x in scales]
            if factors:
                result = add(_aten.bmm.default, *operands, shape=node.shape, where=node.where)
                groups, rows, columns = (int(size.a) for size in node.shape or ())
                for op, scale, place, scaled in factors:
                    if not isinstance(scale, Ref):
                        result = add(op, result, scale, shape=node.shape, where=node.where)
                        continue
                    cells = [1 if s.varies else int(s.a) for s in nodes[scaled].shape or ()]
                    shape = tuple(map(constant, cells))
                    full = add(
                        _aten.expand.default, moved(scale), cells, shape=shape, where=node.where
                    )
                    along = [groups, 1, columns] if place else [groups, rows, 1]
                    shape = tuple(map(constant, along))
                    lined = add(_aten.view.default, full, along, shape=shape, where=node.where)
                    result = add(op, result, lined, shape=node.shape, where=node.where)
                new[number] = result.number
                continue
        made.append(here)
        new[number] = len(made) - 1
    return made


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
