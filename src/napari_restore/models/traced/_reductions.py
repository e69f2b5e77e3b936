"""Reductions over the image: how each is counted by tile, and what follows from the counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from napari_restore.models._steps import Sums
from napari_restore.models.traced.trace import Nodes, Operation, Uncut, getitem

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
    node: Operation
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
        dims, keep = reduced_dims(self.node, x.ndim)
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

    def finalize(self, sums: Sums) -> Tensor:
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
        # Numbers of cells have no gradient.
        names = [name for name in self.shapes if name in by_all]
        if self.node.op not in _EXTREMES:
            return {name: by_all[name] for name in names}
        return {name: by_all[name] * (merged[name] == own[name]) for name in names}

    @property
    def _correction(self) -> float:
        given = self.node.kwargs.get("correction", 1)
        return 1.0 if given is None else float(given)


def reduced_dims(node: Operation, ndim: int) -> tuple[tuple[int, ...], bool]:
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
