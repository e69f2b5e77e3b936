"""What depends on the image, in which layout, and after how many reductions over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import isqrt, lcm, prod

import torch
from torch import Tensor

from napari_restore.models.traced._reductions import Reduction, reduction_of
from napari_restore.models.traced.trace import Nodes, Shape, Size, Uncut, getitem, leaves

_aten = torch.ops.aten
VIEWS = {
    *(_aten.view.default, _aten._unsafe_view.default, _aten.transpose.int, _aten.permute.default),
    *(_aten.t.default, _aten.expand.default, _aten.split.Tensor, _aten.split_with_sizes.default),
    *(_aten.alias.default, _aten.unsqueeze.default, _aten.squeeze.dim, _aten.select.int),
    *(_aten.slice.Tensor, _aten.unbind.int, _aten.detach.default, _aten.squeeze.dims, getitem),
}
"""Operations that compute nothing."""
_COPY = 0.5
"""Work of an operation that writes a float: half of what keeping one and reading it again takes."""
_PER_FLOAT = 120
"""Multiplications that take as long as keeping a float and reading it again."""


@dataclass(frozen=True)
class SpatialLayout:
    """How a tensor holds a map: its axes are channels "c", rows "y", columns "x" or both "p"."""

    axes: str
    sizes: tuple[int, ...]
    """Of the axes of channels, in order."""
    stride: int

    @property
    def channels(self) -> int:
        return prod(self.sizes)

    def to_map(self, x: Tensor, height: int, width: int) -> Tensor:
        """Return the map (C, h, w) that `x` holds of a box of so many pixels."""
        order = [n for n, axis in enumerate(self.axes) if axis == "c"]
        order += [self.axes.index(axis) for axis in "yxp" if axis in self.axes]
        cells = height // self.stride, width // self.stride
        return x.permute(order).reshape(self.channels, *cells)

    def from_map(self, cells: Tensor) -> Tensor:
        """Return the tensor that holds a map (C, h, w)."""
        own = [axis for axis in self.axes if axis != "c"]
        shape = cells.shape[1:] if len(own) == 2 else (cells.shape[1] * cells.shape[2],)
        x = cells.reshape(*self.sizes, *shape)
        now = ["c"] * len(self.sizes) + own
        order, channel = [], 0
        for axis in self.axes:
            order.append(channel if axis == "c" else now.index(axis))
            channel += axis == "c"
        return x.permute(order)


def layout_of(shape: Shape | None) -> SpatialLayout | None:
    """Return the layout of a tensor's shape; None where it is no map."""
    if shape is None:
        return None
    axes, sizes, scales = "", [], []
    for size in shape:
        if not size.varies:
            axes += "c"
            sizes.append(int(size.a))
            continue
        terms = {"y": size.b, "x": size.c, "p": size.d}
        named = [(name, term) for name, term in terms.items() if term]
        if size.a or len(named) != 1:
            return None
        axes += named[0][0]
        scales.append(named[0][1])
    own = axes.replace("c", "")
    if own == "p":
        stride = isqrt(scales[0].denominator)
        whole = scales[0] == Fraction(1, stride**2)
    elif own == "yx":
        stride = scales[0].denominator
        whole = scales[0] == scales[1] == Fraction(1, stride)
    else:
        return None
    return SpatialLayout(axes, tuple(sizes), stride) if whole else None


class Graph:
    """The operations of a module, of which the last one returns an image of the size of its input."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.result = len(nodes) - 1
        self.image = next(n for n, node in enumerate(nodes) if node.op == "input")
        count = len(nodes)
        self.depends, self.spatial = [False] * count, [False] * count
        self.level = [0] * count
        """Reductions over the image, one after the other, that a result depends on."""
        self.reductions: dict[int, Reduction] = {}
        """By number."""
        for number in range(count):
            self._classify(number)
        self.users: list[list[int]] = [[] for _ in nodes]
        for number, node in enumerate(nodes):
            for each in node.inputs:
                self.users[each].append(number)
        if not self.spatial[self.result]:
            raise Uncut("its result does not depend on pixels")

    def _classify(self, number: int) -> None:
        node = self.nodes[number]
        if node.op == "input":
            self.depends[number] = self.spatial[number] = True
            return
        inputs = node.inputs
        self.level[number] = max([self.level[each] for each in inputs], default=0)
        self.depends[number] = any(self.depends[each] for each in inputs)
        if not self.depends[number]:
            return
        over = [each for each in inputs if self.spatial[each]]
        if node.shape is None:
            self.spatial[number] = bool(over)
            return
        along = {axis for size in node.shape for axis in _axes(size)}
        if along == {"y"} or along == {"x"}:
            raise Uncut(f"{node.at_place()} leaves rows or columns of the image")
        self.spatial[number] = bool(along)
        if sum(bool(size.d) for size in node.shape) > 1:
            raise Uncut(f"{node.at_place()} relates all pixels to all others")
        if over and not along:
            found = reduction_of(number, self.nodes, self.spatial)
            for each in found.features:
                if layout_of(self.nodes[each].shape) is None:
                    raise Uncut(f"{node.at_place()} takes windows or parts of the image together")
            self.reductions[number] = found
            self.level[number] += 1

    @cached_property
    def levels(self) -> int:
        """The number of sweeps but the last."""
        return self.level[self.result]

    @cached_property
    def layouts(self) -> list[SpatialLayout | None]:
        return [
            layout_of(node.shape) if self.spatial[n] else None for n, node in enumerate(self.nodes)
        ]

    def layout(self, number: int) -> SpatialLayout:
        """Return the layout of a result that is a map."""
        layout = self.layouts[number]
        assert layout is not None
        return layout

    def work(self, number: int) -> float:
        """Return what an operation takes per pixel, in floats that are kept and read again."""
        node = self.nodes[number]
        if node.op in VIEWS or (
            node.shape is None and node.op is not _aten.native_layer_norm.default
        ):
            return 0.0
        floats = floats_per_pixel(node.shape)
        products = 0.0
        if node.op is _aten.convolution.default:
            kernel = self.nodes[node.args[1].number].shape
            assert kernel is not None
            taps = prod(int(size.a) for size in kernel)
            if node.args[6]:
                # Each of the input's cells goes to as many of the output.
                source = self.nodes[node.args[0].number].shape
                assert source is not None
                products = taps * floats_per_pixel(source) / max(1, int(source[1].a))
            else:
                assert node.shape is not None
                products = taps * floats / max(1, int(node.shape[1].a))
        elif node.op in (_aten.bmm.default, _aten.mm.default, _aten.addmm.default):
            inner = self.nodes[node.inputs[-1]].shape
            products = floats * (int(inner[-2].a) if inner and not inner[-2].varies else 1)
        return _COPY * floats + products / _PER_FLOAT

    def period(self, numbers: Sequence[int]) -> int:
        """Return the pixels at whose multiples these operations begin a cell or a window."""
        found = 1
        for number in numbers:
            node = self.nodes[number]
            asked = [each for each in leaves((node.args, node.kwargs)) if isinstance(each, Size)]
            is_map = self.spatial[number] or not self.depends[number]
            for size in (*asked, *(node.shape or ())) if is_map else asked:
                found = lcm(found, size.b.denominator, size.c.denominator)
                found = lcm(found, _root(size.d.denominator))
        return found


def _axes(size: object) -> str:
    return "".join(n for n, term in zip("yxp", (size.b, size.c, size.d), strict=True) if term)  # type: ignore[attr-defined]


def _root(number: int) -> int:
    """Return the smallest number whose square `number` divides."""
    return next(root for root in range(1, number + 1) if root * root % number == 0)


def floats_per_pixel(shape: Shape | None) -> float:
    """Return the numbers that a tensor of this shape holds per pixel of a large image."""
    if shape is None:
        return 0.0
    side = 1 << 20
    return float(prod(s.a + s.b * side + s.c * side + s.d * side * side for s in shape) / side**2)


def least_cut(graph: Graph, wanted: Sequence[int], kept: frozenset[int]) -> list[int]:
    """Return the further maps to keep so that the values `wanted` can be had at least cost."""
    # A value is kept, or computed again from others; those in `kept` are there, and so is the
    # image. It is a minimum cut: of every value that is not kept, and computed again, the inputs
    # must be had.
    flow = _Flow()
    waiting, seen = list(wanted), set()
    while waiting:
        number = waiting.pop()
        if number in seen:
            continue
        seen.add(number)
        layout = graph.layouts[number]
        if number == graph.image:
            flow.add("source", (number, 1), 0.5 * layout.channels if layout else 0.0)
        elif number in kept:
            layout = graph.layout(number)
            flow.add("source", (number, 1), 0.5 * layout.channels / layout.stride**2)
        else:
            size = _INFINITE if layout is None else layout.channels / layout.stride**2
            flow.add((number, 0), (number, 1), size)
            flow.add("source", (number, 0), graph.work(number))
            for each in graph.nodes[number].inputs:
                if graph.spatial[each]:
                    flow.add((each, 1), (number, 0), _INFINITE)
                    waiting.append(each)
    for number in wanted:
        flow.add((number, 1), "sink", _INFINITE)
    near = flow.source_side()
    return [
        n
        for n in seen
        if n not in kept and n != graph.image and (n, 0) in near and (n, 1) not in near
    ]


_INFINITE = 1e12


class _Flow:
    """A network of capacities, and its minimum cut by shortest augmenting paths."""

    def __init__(self) -> None:
        self.room: dict[object, dict[object, float]] = {"source": {}, "sink": {}}

    def add(self, start: object, end: object, capacity: float) -> None:
        forth, back = self.room.setdefault(start, {}), self.room.setdefault(end, {})
        forth[end] = forth.get(end, 0.0) + capacity
        back.setdefault(start, 0.0)

    def source_side(self) -> set[object]:
        """Return the points on the source's side of a minimum cut."""
        while True:
            before: dict[object, object] = {"source": "source"}
            points: list[object] = ["source"]
            for point in points:
                for following, room in self.room[point].items():
                    if room > 1e-9 and following not in before:
                        before[following] = point
                        points.append(following)
                if "sink" in before:
                    break
            if "sink" not in before:
                return set(before)
            path: list[tuple[object, object]] = []
            end: object = "sink"
            while end != "source":
                path.append((before[end], end))
                end = before[end]
            least = min(self.room[start][end] for start, end in path)
            for start, end in path:
                self.room[start][end] -= least
                self.room[end][start] += least
