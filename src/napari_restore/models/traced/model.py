"""A plain module that sees the whole image, run as sweeps that are found by tracing it and checked on a small image."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import lcm

import torch
from torch import Tensor, nn

from napari_restore.errors import BadModel, BadParameter, RestoreError, option
from napari_restore.models._adapted import Adapted
from napari_restore.models._attention import AttentionRow, AttentionSite
from napari_restore.models._frozen import frozen_copy
from napari_restore.models._layers import pad_to_multiple
from napari_restore.models._model import RestorationModel, Statistics, placed_at
from napari_restore.models._onnx import network_in
from napari_restore.models._steps import RESTORED, Map, Step, Sums, Sweep, SweepInput
from napari_restore.models._sweeps import SweptModel, run_steps
from napari_restore.models._undisturbed import undisturbed
from napari_restore.models._unfit import image_in
from napari_restore.models._weights import first_line
from napari_restore.models._wrap import WrappedModel
from napari_restore.models.traced._graph import Graph
from napari_restore.models.traced._pieces import COMPUTING, halo_of, pieces_of, sweep_of
from napari_restore.models.traced._rewrite import normalised
from napari_restore.models.traced.trace import Nodes, Traced, Uncut, trace

_Box = tuple[int, int, int, int]


def difference(model: SweptModel, x: Tensor, expected: Tensor, tile: int) -> float:
    """Return the largest difference from `expected` of `model` in tiles of `x` (1, C, H, W); NaN is infinite."""
    found = float((in_tiles(model, x, tile) - expected).abs().max())
    return found if found == found else float("inf")


def in_tiles(model: SweptModel, x: Tensor, tile: int) -> Tensor:
    """Return the output of `model` for an image `x` (1, C, H, W), in tiles of so many pixels."""
    size = (x.shape[2], x.shape[3])
    whole = pad_to_multiple(x, model.padded_to)
    height, width = whole.shape[2:]
    maps: dict[str, Tensor] = {}
    known: dict[str, Tensor] = {}
    cores = [
        (top, left, min(top + tile, height), min(left + tile, width))
        for top in range(0, height, tile)
        for left in range(0, width, tile)
    ]
    all_maps = model.ordered_steps.maps
    for step in model.steps():
        assert isinstance(step, Sweep)
        merged: Sums | None = None
        for each in step.writes:
            maps[each.name] = x.new_empty(
                1, each.channels, height // each.stride, width // each.stride
            )
        for core in cores:
            box = _grown(core, step.halo, height, width)
            part = whole[(..., *_slices(box, 1))]
            placed = placed_at(known, [box[:2]], 1.0, part, size)
            read = {
                name: maps[name][(..., *_slices(box, all_maps[name].stride))] for name in step.reads
            }
            view = model.view(part, placed) if step.sees_image else None
            outputs = step.run(SweepInput(view, read, placed))
            for each in step.writes:
                maps[each.name][(..., *_slices(core, each.stride))] = _core(
                    outputs, each, core, box
                )
            if step.counts is not None:
                cut = {f.name: _core(outputs, f, core, box) for f in step.counts.features}
                counted = step.counts.count(cut, None)
                merged = counted if merged is None else step.counts.merged(merged, counted)
        if step.counts is not None and merged is not None:
            known |= step.counts.finalize(merged, known)
    return maps[RESTORED][..., : size[0], : size[1]]


def _grown(core: _Box, halo: int, height: int, width: int) -> _Box:
    top, left, bottom, right = core
    return (
        max(0, top - halo),
        max(0, left - halo),
        min(height, bottom + halo),
        min(width, right + halo),
    )


def _slices(box: _Box, stride: int) -> tuple[slice, slice]:
    top, left, bottom, right = (edge // stride for edge in box)
    return slice(top, bottom), slice(left, right)


def _core(outputs: Mapping[str, Tensor], one: Map, core: _Box, box: _Box) -> Tensor:
    top, left, bottom, right = core
    inside = (top - box[0], left - box[1], bottom - box[0], right - box[1])
    return outputs[one.name][(..., *_slices(inside, one.stride))]


_BASES = (64, 96, 80, 112)
"""Sides at whose multiples a module is traced: the first that explains its sizes."""
_MODES = ("zeros", "reflect", "replicate")
_ROUNDING = {torch.float64: 1e-8, torch.float32: 2e-5}
"""Largest differences by rounding, relative to the largest value."""
_LEAST_SIDE = 64
"""Least side in pixels of the images that a module is tried on."""
_TRACING = threading.Lock()


class CutModel(SweptModel):
    """The sweeps of a module, equal to it on the whole image.

    They run the operations that the module calls, in its order, on parts of the image in place of
    all of it; what is reduced over the image is counted by tile. `wrapped` is the module with its
    card, weights and description.
    """

    dtype = torch.float32

    def __init__(self, wrapped: WrappedModel) -> None:
        """Trace and cut. Raises `Uncut`, which names the operation that cannot be cut."""
        card = wrapped.card
        if (graph := network_in(wrapped)) is not None:
            taken = graph.file.taking_all()
            why = f", and its {taken} takes all of the image" if taken else ""
            raise Uncut(f"onnxruntime computes an ONNX model as it is{why}")
        super().__init__(replace(card, scope="swept", placed=True, halo=0, whole=""))
        self.wrapped = wrapped
        self.spec, self.code = wrapped.spec, wrapped.code
        self.padding = "reflect"
        """How the module grows images to `padded_to`; "": images of other sizes do not fit."""
        self._bands = card.bands or len(card.roles) or 3
        traced, copied = self._first_traced()
        self._names = self._held(traced, copied)
        nodes = normalised(traced.nodes)
        self._graph = Graph(nodes)
        if not self._graph.levels:
            raise Uncut("nothing is reduced over the image", is_needless=True)
        self.pieces = pieces_of(self._graph)
        self._nodes: dict[tuple[int, int], Nodes] = {(0, 0): nodes}
        self._unfit: dict[tuple[int, int], str] = {}
        self._halos = [0] * len(self.pieces)
        # The module may be given images of larger multiples than its operations need.
        period = lcm(card.size_step, *(piece.period for piece in self.pieces))
        self._side = -(-max(card.min_size, _LEAST_SIDE) // period) * period
        self.card = replace(
            self.card,
            multiple_of=period,
            padded_to=self._stride,
            min_size=self._side,
        )
        self.eval().requires_grad_(False)
        with torch.no_grad():
            self._measure()

    # -- finding the sweeps ---------------------------------------------------------------

    def _first_traced(self) -> tuple[Traced, nn.Module]:
        for base in _BASES:
            self._base = lcm(base, self.wrapped.card.size_step)
            try:
                return self._traced((0, 0))
            except Uncut as error:
                problem = error
        raise problem

    def _traced(
        self, rest: tuple[int, int], also: tuple[int, int] | None = None
    ) -> tuple[Traced, nn.Module]:
        """Return the operations, and the copy of the module whose tensors they hold."""
        copied = frozen_copy(self.wrapped.module).cpu().float()

        def call(x: Tensor) -> Tensor:
            y = image_in(copied(x), x.shape)
            if y is None:
                raise Uncut("it returns no image of the size of its input")
            return y

        with _TRACING:
            least = self.wrapped.card.min_size
            return trace(call, copied, self._bands, self._base, rest, also, least), copied

    def _held(self, traced: Traced, copied: nn.Module) -> dict[str, str]:
        """Return where the tensors of the operations lie in this model, by name; keeps the others."""
        places = {
            id(tensor): f"wrapped.module.{name}"
            for name, tensor in (*copied.named_parameters(), *copied.named_buffers())
        }
        names = {}
        for number, (name, tensor) in enumerate(traced.constants.items()):
            names[name] = places.get(id(tensor), f"held{number}")
            if id(tensor) not in places:
                self.register_buffer(f"held{number}", tensor.detach().clone(), persistent=False)
        return names

    @property
    def _stride(self) -> int:
        """The coarsest cells of what is kept or counted."""
        layouts = self._graph.layouts
        kept = {n for piece in self.pieces for n in (*piece.reads, *piece.outputs)}
        return lcm(*(layout.stride for n in kept if (layout := layouts[n]) is not None))

    def _measure(self) -> None:
        """Find halos and padding, and compare with the module on the whole image."""
        exact = self._in_float64()
        like = torch.zeros(1, dtype=exact.dtype)
        noise = _noise(self._bands, self._side, self._side).to(like)
        statistics = run_steps(exact.steps(), noise, {})[1]
        self._halos = [halo_of(piece, exact, statistics, like) for piece in self.pieces]
        exact._halos = self._halos
        step, padding = self._growth(exact)
        self.padding = exact.padding = padding
        self.card = exact.card = replace(self.card, padded_to=step)
        self._compare(exact)

    def _in_float64(self) -> CutModel:
        """Return a copy in float64, or in float32 where the module cannot be computed so."""
        copied = frozen_copy(self)
        try:
            copied.double()
            copied.wrapped(_noise(self._bands, self._side, self._side).double())
            copied.dtype = torch.float64
        except (RuntimeError, TypeError):
            copied = frozen_copy(self)
            copied.dtype = torch.float32
        return copied

    def _growth(self, exact: CutModel) -> tuple[int, str]:
        """Return to which multiple the module grows an image, and how; "" where it does not."""
        stride, period = self._stride, self.multiple
        steps = [n for n in range(stride, period + 1, stride) if period % n == 0]
        steps = [step for step in steps if step == period or self._knows(step)]
        side = self._side
        for step in steps:
            if step == 1:
                return 1, "reflect"
            x = _noise(self._bands, side + step // 2 + 1, side + 1).to(exact.dtype)
            height, width = x.shape[2:]
            y = exact.wrapped(x)
            for mode in _MODES:
                size = height + -height % step, width + -width % step
                grown = exact.wrapped(exact._grown(x, size, mode))[..., :height, :width]
                if float((y - grown).abs().max()) <= _ROUNDING[y.dtype] * float(y.abs().max()):
                    return step, mode
        return steps[0], ""

    def _knows(self, step: int) -> bool:
        """Return whether images of so many pixels over multiples of the period are traced alike."""
        try:
            self.nodes_for((step, step))
        except Uncut:
            return False
        return True

    def _compare(self, exact: CutModel) -> None:
        """Raise `Uncut` where tiles differ from the module on the whole image."""
        step = 1 if self.padding else self.padded_to
        tile = -(-_LEAST_SIDE // 2 // self.multiple) * self.multiple
        least = self.wrapped.card.min_size
        for sides in ((2 * tile + 13, 3 * tile + 7), (3 * tile + 3, 2 * tile - 5)):
            height, width = (least + side % tile if side < least else side for side in sides)
            x = _noise(self._bands, height // step * step, width // step * step).to(exact.dtype)
            expected = exact.wrapped(x)
            found = difference(exact, x, expected, tile)
            if found > _ROUNDING[exact.dtype] * float(expected.abs().max()):
                raise Uncut(f"tiles differ from the whole image by {found:.2g}")

    @property
    def described(self) -> WrappedModel:
        return self.wrapped

    def named_layers(self) -> dict[str, nn.Module]:
        raise BadModel(
            f"{self.card.id} is run in {len(self.pieces)} sweeps here, and its layers only in one pass.",
            f"Give more {option('memory')}, a coarser {option('level')}, or a smaller image.",
        )

    # -- what is asked of it --------------------------------------------------------------

    def fits(self, height: int, width: int) -> str:
        """Return why an image of this size cannot be cut; empty where it can."""
        size = height, width
        if size not in self._unfit:
            try:
                self._check_size(height, width)
                self._unfit[size] = ""
            except Uncut as error:
                self._unfit[size] = str(error)
        return self._unfit[size]

    def _check_size(self, height: int, width: int) -> None:
        step = self.padded_to
        if not self.padding and (height % step or width % step):
            raise Uncut(f"its sweeps are right only where sides are multiples of {step}")
        least = self.wrapped.card.min_size
        if min(height, width) < least:
            raise Uncut(f"images are grown to its {least} pixels first")
        size = -(-height // step) * step, -(-width // step) * step
        rest = size[0] % self.multiple, size[1] % self.multiple
        # Code may ask for the size: what small images show need not hold for this one.
        self._known_at(rest, size)
        for edge in ((rest[0], 0), (0, rest[1])):
            self.nodes_for(edge)

    @property
    def padded_to(self) -> int:
        return self.card.padded_to or self.multiple

    @property
    def summary(self) -> str:
        """Return the number of sweeps and what they count, for a sentence."""
        families = Counter(one.family for piece in self.pieces for one in piece.counts)
        counted = ", ".join(f"{n} × {name}" for name, n in families.items())
        return f"{len(self.pieces)} sweeps, which count {counted} over the image"

    def steps(self) -> tuple[Step, ...]:
        return tuple(
            sweep_of(piece, self, halo, len(self.pieces))
            for piece, halo in zip(self.pieces, self._halos, strict=True)
        )

    def view(self, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        """Return `x` (N, C, h, w); beyond the image's edge as the module grows it."""
        if self.padding not in ("zeros", "replicate") or not statistics:
            return x
        origins, size = statistics.get("origin"), statistics.get("image_size")
        if origins is None or size is None:
            return x
        items = []
        for item, origin in zip(x, origins.tolist(), strict=True):
            inside = [int(limit) - first for limit, first in zip(size, origin, strict=True)]
            if inside[0] < x.shape[2] or inside[1] < x.shape[3]:
                cut = item[:, : inside[0], : inside[1]]
                item = self._grown(cut, (x.shape[2], x.shape[3]), self.padding)
            items.append(item)
        return torch.stack(items)

    def _grown(self, x: Tensor, size: tuple[int, int], mode: str) -> Tensor:
        """Return `x` (…, C, h, w) grown at bottom and right; zeros are those of the network."""
        height, width = x.shape[-2:]
        if mode != "zeros":
            return nn.functional.pad(x, (0, size[1] - width, 0, size[0] - height), mode)
        module = self.wrapped.module
        zero = module.zero.to(x) if isinstance(module, Adapted) else x.new_zeros(1, 1, 1)
        grown = zero.expand(*x.shape[:-2], *size).clone()
        grown[..., :height, :width] = x
        return grown

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if not statistics or "origin" not in statistics:
            statistics = placed_at(statistics or {}, [(0, 0)] * len(x), 1.0, x)
        return super().forward_with_maps(x, statistics, valid)

    # -- attention ------------------------------------------------------------------------

    def attention_sites(self) -> tuple[AttentionSite, ...]:
        return self.wrapped.attention_sites()

    @property
    def attention_notes(self) -> tuple[str, ...]:
        return self.wrapped.attention_notes

    def without_head(self, site: str, head: int) -> RestorationModel:
        raise BadParameter(
            f"{self.card.id} is computed in sweeps here, in which no head can be left out.",
            "Take a smaller image or more memory, so that it sees all of the image in one pass.",
        )

    def tile_attention_rows(
        self,
        x: Tensor,
        statistics: Statistics | None,
        pixels: Sequence[tuple[int, int]],
        names: frozenset[str],
    ) -> list[dict[str, AttentionRow]]:
        """Return the rows of pixels of a tile, on which all sweeps are run; raises `BadModel`.

        `statistics` hold what they count, and where the tile lies.
        """
        known = statistics or {}

        def run(view: Tensor) -> None:
            run_steps(self.steps(), view, known)

        view = self.view(pad_to_multiple(x, self.padded_to), known)
        attention = self.wrapped.own_attention
        # Sweeps compute again what they do not keep, and in an order of their own.
        return attention.rows(
            self.card.id, run, view, pixels, names, lambda: int(COMPUTING.operation)
        )

    # -- what the sweeps ask --------------------------------------------------------------

    def nodes_for(self, rest: tuple[int, int]) -> Nodes:
        key = (rest[0] % self.multiple, rest[1] % self.multiple)
        return self._nodes[key] if key in self._nodes else self._known_at(key)

    def _known_at(self, key: tuple[int, int], also: tuple[int, int] | None = None) -> Nodes:
        """Return the operations for sizes of so many pixels over the period, and for the size `also`."""
        nodes = normalised(self._traced(key, also)[0].nodes)
        base = self._nodes[0, 0]
        same = [(a.op, a.inputs) == (b.op, b.inputs) for a, b in zip(nodes, base, strict=False)]
        if len(nodes) != len(base) or not all(same):
            raise Uncut("it computes images of such a size in another way")
        self._nodes[key] = nodes
        return nodes

    def constant(self, name: str) -> Tensor:
        found = self
        for part in self._names[name].split("."):
            found = getattr(found, part)
        return found  # type: ignore[return-value]

    def size_of(self, given: SweepInput, item: int, box: tuple[int, int]) -> tuple[int, int]:
        size = given.statistics.get("image_size")
        if size is None:
            return box
        height, width = (-(-int(side) // self.padded_to) * self.padded_to for side in size)
        return height, width


def cut_into_sweeps(wrapped: WrappedModel, content: str = "") -> CutModel:
    """Return the sweeps of a module that sees the whole image; raises `Uncut`."""
    # They are found once for one `content_of` the module, which takes seconds.
    known: dict[str, CutModel | Uncut] = vars(wrapped).setdefault(_FOUND, {})
    if content not in known:
        known.clear()
        with undisturbed(wrapped.weighted, threads=1):
            try:
                known[content] = CutModel(wrapped)
            except Uncut as error:
                known[content] = error
            except RestoreError:
                raise
            except Exception as error:  # code of others raises anything
                why = f"its parts cannot be computed alone ({first_line(error)})"
                known[content] = Uncut(why)
    found = known[content]
    if isinstance(found, Uncut):
        raise Uncut(str(found), is_needless=found.is_needless)
    return found


_FOUND = "_sweeps_found"
"""Attribute of a wrapped module: its sweeps, or why there are none, by content."""


def _noise(bands: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, bands, height, width, generator=generator)
