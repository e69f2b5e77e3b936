"""Parts of a graph between two reductions over the image, as sweeps."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from napari_restore.models._model import Statistics
from napari_restore.models._reach import beyond
from napari_restore.models._steps import RESTORED, Counts, Map, Sums, Sweep, SweepInput
from napari_restore.models.traced._graph import Graph, least_cut
from napari_restore.models.traced._reductions import Reduction
from napari_restore.models.traced.trace import Nodes, Operation, Ref, Size, Uncut, mapped

_aten = torch.ops.aten
_VIEWED = {_aten.view.default, _aten._unsafe_view.default}
_SCALED = {
    *(_aten.mul.Tensor, _aten.mul.Scalar, _aten.div.Tensor, _aten.div.Scalar),
    *(_aten.add.Tensor, _aten.add.Scalar, _aten.sub.Tensor, _aten.sub.Scalar, _aten.rsub.Scalar),
    *(_aten.pow.Tensor_Scalar, _aten.clamp_min.default, _aten.clamp.default),
}
"""Operations whose numbers are no sizes of their tensors: they mean the whole image."""
COMPUTING = threading.local()
"""Its `operation` is the number of that which this thread computes."""
T = TypeVar("T")
MOST_SIDE = 1536
"""Largest side in pixels of the picture by which a halo is measured."""


class Host(Protocol):
    """What the sweeps ask of their model."""

    def nodes_for(self, rest: tuple[int, int]) -> Nodes:
        """Return the operations for images of so many pixels over a multiple of the period."""
        ...

    def constant(self, name: str) -> Tensor:
        """Return a tensor of the module."""
        ...

    def size_of(self, given: SweepInput, item: int, box: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the padded image that an item is cut from."""
        ...


@dataclass(frozen=True)
class Piece:
    """What one sweep computes: operations in order, from maps and statistics to its outputs."""

    number: int
    graph: Graph
    order: tuple[int, ...]
    reads: tuple[int, ...]
    """Maps, by operation."""
    counted: tuple[Reduction, ...]
    """Reductions that earlier sweeps counted."""
    writes: tuple[int, ...]
    counts: tuple[Reduction, ...]
    sees_image: bool
    period: int
    """Pixels at whose multiples its input boxes begin."""

    @property
    def features(self) -> tuple[int, ...]:
        """Operands of what is counted."""
        return tuple(dict.fromkeys(each for one in self.counts for each in one.features))

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys((*self.writes, *self.features)))

    def map_of(self, number: int, name: str | None = None) -> Map:
        """Return the map that holds the result of an operation."""
        layout = self.graph.layout(number)
        return Map(name or map_name(number), layout.channels, layout.stride)

    def run(
        self,
        host: Host,
        box: tuple[int, int],
        image: tuple[int, int],
        known: Mapping[int, Tensor],
        like: Tensor,
        wanted: frozenset[int],
    ) -> dict[int, Tensor]:
        """Return the results of `wanted` for a box of `image`, both height and width in pixels.

        `known` are the image, the maps and the counted statistics, by operation, as the operations
        take them.
        """
        of_box = host.nodes_for(_rest(box, self.period))
        of_image = host.nodes_for(_rest(image, self.period))
        needed = self._needed(wanted, known)
        last: dict[int, int] = {}
        for number in needed:
            for each in self.graph.nodes[number].inputs:
                last[each] = number
        values = dict(known)
        for number in needed:
            is_single = self.graph.depends[number] and not self.graph.spatial[number]
            node = (of_image if is_single else of_box)[number]
            COMPUTING.operation = number
            values[number] = _computed(node, is_single, values, host, box, image, like)
            for each in {*node.inputs}:
                if last[each] == number and each not in wanted:
                    del values[each]
        return {number: values[number] for number in wanted}

    def _needed(self, wanted: frozenset[int], known: Mapping[int, Tensor]) -> list[int]:
        waiting, found = list(wanted), set()
        while waiting:
            number = waiting.pop()
            if number not in found and number not in known:
                found.add(number)
                waiting += self.graph.nodes[number].inputs
        return [number for number in self.order if number in found]


def map_name(number: int) -> str:
    """Return the name of the map that holds the result of an operation."""
    return f"map{number}"


def _rest(box: tuple[int, int], period: int) -> tuple[int, int]:
    # Within the piece, all multiples of its own period are alike.
    height, width = box
    return height if height % period else 0, width if width % period else 0


def _computed(
    node: Operation,
    is_single: bool,
    values: Mapping[int, Tensor],
    host: Host,
    box: tuple[int, int],
    image: tuple[int, int],
    like: Tensor,
) -> Any:
    """Return the result of one operation."""
    if node.op == "constant":
        held = host.constant(node.args[0])
        return held.to(like.dtype) if held.is_floating_point() else held
    sizes = image if is_single or node.op in _SCALED else box

    def given(value: Any) -> Any:
        if isinstance(value, Ref):
            return values[value.number]
        if isinstance(value, Size):
            return value.at(*sizes)
        if isinstance(value, torch.device):
            return like.device
        return like.dtype if value is torch.float32 else value

    args, kwargs = mapped(node.args, given), mapped(node.kwargs, given)
    if node.op in _VIEWED:
        # Strides may differ from those that were traced.
        return args[0].reshape(args[1])
    return node.op(*args, **kwargs)


def pieces_of(graph: Graph) -> list[Piece]:
    """Return what each sweep computes: those that count, and the last one. Raises `Uncut`."""
    kept = _kept(graph)
    while True:
        pieces = [_piece(graph, level, kept) for level in range(graph.levels + 1)]
        read = frozenset(number for piece in pieces for number in piece.reads)
        if read == kept:
            return pieces
        kept = read


def _kept(graph: Graph) -> frozenset[int]:
    """Return the values that are kept as maps."""
    kept: frozenset[int] = frozenset()
    for level in range(1, graph.levels + 1):
        wanted = {
            each
            for number, node in enumerate(graph.nodes)
            if graph.level[number] >= level
            and (graph.spatial[number] or number in graph.reductions)
            for each in node.inputs
            # What a reduction counted before takes is not needed again.
            if graph.spatial[each]
            and graph.level[each] < level
            and not (number in graph.reductions and graph.level[number] == level)
        }
        cut = least_cut(graph, sorted(wanted), kept)
        if any(graph.layouts[number] is None for number in cut):
            place = next(graph.nodes[n].at_place() for n in cut if graph.layouts[n] is None)
            raise Uncut(f"the result of {place} would have to be kept, which is no map")
        kept |= frozenset(cut)
    return kept


def _piece(graph: Graph, level: int, kept: frozenset[int]) -> Piece:
    """Return the piece of all that follows from so many reductions, and from maps in `kept`."""
    counts = tuple(
        one for number, one in graph.reductions.items() if graph.level[number] == level + 1
    )
    is_last = level == graph.levels
    writes = (graph.result,) if is_last else tuple(n for n in kept if graph.level[n] == level)
    targets = {*writes, *(each for one in counts for each in one.features)}
    order: set[int] = set()
    reads: set[int] = set()
    counted: set[int] = set()
    waiting, sees_image = list(targets), False
    while waiting:
        number = waiting.pop()
        if number in order:
            continue
        if number == graph.image:
            sees_image = True
        elif number in graph.reductions:
            counted.add(number)
        elif number in kept and graph.level[number] < level:
            reads.add(number)
        else:
            order.add(number)
            waiting += graph.nodes[number].inputs
    touched = sorted({*order, *reads, *targets})
    return Piece(
        level,
        graph,
        tuple(sorted(order)),
        tuple(sorted(reads)),
        tuple(graph.reductions[number] for number in sorted(counted)),
        writes,
        counts,
        sees_image,
        graph.period(touched),
    )


# -- halos ------------------------------------------------------------------------------


def halo_of(piece: Piece, host: Host, statistics: Statistics, like: Tensor) -> int:
    """Return the pixels around a block of one period that its outputs depend on.

    A NaN planted in one block of every input shows which cells it reaches. Raises `Uncut` where it
    reaches farther than `MOST_SIDE` can show.
    """
    blocks = 2 * max(2, -(-24 // piece.period)) + 1
    while blocks * piece.period <= MOST_SIDE:
        side, low = blocks * piece.period, blocks // 2 * piece.period
        block = low, low + piece.period
        outputs = _poisoned(piece, host, statistics, like, side, frozenset(piece.outputs))
        maps = (piece.graph.layout(n).to_map(value, side, side) for n, value in outputs.items())
        reach = max((beyond(each.isnan(), block, block, side) for each in maps), default=0)
        if reach < low:
            return -(-reach // piece.period) * piece.period
        blocks = 4 * (blocks // 2) + 1
    raise Uncut(
        f"{_farthest(piece, host, statistics, like)} depends on pixels farther than "
        f"{MOST_SIDE // 2} away"
    )


def _farthest(piece: Piece, host: Host, statistics: Statistics, like: Tensor) -> str:
    """Return the first operation of a piece whose result depends on pixels far away."""
    side = (2 * max(3, 60 // piece.period) + 1) * piece.period
    layouts = {n: layout for n in piece.order if (layout := piece.graph.layouts[n]) is not None}
    values = _poisoned(piece, host, statistics, like, side, frozenset(layouts))
    for number, layout in layouts.items():
        touched = layout.to_map(values[number], side, side).isnan().any(dim=0)
        if touched[0].any() or touched[-1].any() or touched[:, [0, -1]].any():
            return piece.graph.nodes[number].at_place()
    return "what it computes"


def _poisoned(
    piece: Piece,
    host: Host,
    statistics: Statistics,
    like: Tensor,
    side: int,
    wanted: frozenset[int],
) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(0)
    low = side // piece.period // 2 * piece.period
    known: dict[int, Tensor] = {}
    inputs = (*piece.reads, piece.graph.image) if piece.sees_image else piece.reads
    for number in inputs:
        layout = piece.graph.layout(number)
        shape = layout.channels, *[side // layout.stride] * 2
        cells = torch.rand(shape, generator=generator).to(like)
        inside = slice(low // layout.stride, (low + piece.period) // layout.stride)
        cells[:, inside, inside] = torch.nan
        known[number] = layout.from_map(cells)
    for one in piece.counted:
        known[one.number] = statistics[one.statistic][0].to(like)
    return piece.run(host, (side, side), (side, side), known, like, wanted)


# -- sweeps -----------------------------------------------------------------------------


def sweep_of(piece: Piece, host: Host, halo: int, total: int) -> Sweep:
    """Return the sweep that computes a piece."""
    graph = piece.graph
    is_last = piece.number == graph.levels
    name = {number: map_name(number) for number in piece.outputs}
    if is_last:
        name = {graph.result: RESTORED}

    def run(given: SweepInput) -> Mapping[str, Tensor]:
        wanted = frozenset(n for n in piece.outputs if given.wants(name[n]))
        items = [_run_item(piece, host, given, item, wanted) for item in range(len(given.origins))]
        return {name[n]: torch.stack([each[n] for each in items]) for n in wanted}

    return Sweep(
        f"sweep{piece.number + 1}",
        "Restoring" if is_last else f"Sweep {piece.number + 1} of {total}",
        run,
        reads=tuple(map_name(number) for number in piece.reads),
        writes=tuple(piece.map_of(number, name[number]) for number in piece.writes),
        halo=halo,
        sees_image=piece.sees_image or is_last,
        counts=_counts_of(piece) if piece.counts else None,
        block=piece.period,
    )


def _run_item(
    piece: Piece, host: Host, given: SweepInput, item: int, wanted: frozenset[int]
) -> dict[int, Tensor]:
    """Return the maps (C, h, w) that a piece makes of one item of a batch."""
    graph = piece.graph
    known: dict[int, Tensor] = {}
    box, like = (0, 0), given.view
    for number in piece.reads:
        layout, cells = graph.layout(number), given.maps[map_name(number)][item]
        box = (cells.shape[1] * layout.stride, cells.shape[2] * layout.stride)
        known[number], like = layout.from_map(cells), cells
    if given.view is not None:
        known[graph.image] = given.view[item : item + 1]
        box, like = tuple(given.view.shape[2:]), given.view  # type: ignore[assignment]
    assert like is not None
    for one in piece.counted:
        found = given.statistics[one.statistic]
        known[one.number] = found[item if len(found) > 1 else 0].to(like)
    values = piece.run(host, box, host.size_of(given, item, box), known, like, wanted)
    return {n: graph.layout(n).to_map(value, *box) for n, value in values.items()}


def _together(parts: Iterable[Mapping[str, T]]) -> dict[str, T]:
    """Return what all reductions have, by name."""
    return {name: value for part in parts for name, value in part.items()}


def _counts_of(piece: Piece) -> Counts:
    reductions, features = piece.counts, piece.features

    def count(cores: Mapping[str, Tensor], _: Tensor | None) -> Sums:
        counted = []
        for item in range(len(next(iter(cores.values())))):
            operands = {
                n: piece.graph.layout(n).from_map(cores[map_name(n)][item]) for n in features
            }
            counted.append(_together(one.count(operands) for one in reductions))
        return {name: torch.stack([each[name] for each in counted]) for name in counted[0]}

    def finalize(sums: Sums, _: Statistics) -> Statistics:
        return {one.statistic: one.finalize(sums) for one in reductions}

    def merge(earlier: Sums, following: Sums) -> Sums:
        return _together(one.merge(earlier, following) for one in reductions)

    def of_tile(by_all: Sums, merged: Sums, own: Sums) -> Sums:
        return _together(one.of_tile(by_all, merged, own) for one in reductions)

    return Counts(
        features=tuple(piece.map_of(number) for number in features),
        shapes=_together(one.shapes for one in reductions),
        count=count,
        statistics=tuple(one.statistic for one in reductions),
        finalize=finalize,
        merge=merge,
        of_tile=of_tile,
    )
