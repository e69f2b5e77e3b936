"""Gradients of models that depend on a halo around a pixel.

Only the box's receptive field is computed.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from napari_restore.engine._region import Region, cut, joined
from napari_restore.engine.gradients.cost import gradient_cost
from napari_restore.engine.gradients.gradient_source import GradientSource, Picture
from napari_restore.engine.gradients.vjp import vjp
from napari_restore.errors import BudgetTooSmall, option

EDGES = (2048, 1024, 512, 256, 128)
"""Sides of the pieces that a box is cut into; the first that fits the budget is used."""


class LocalGradients:
    """∂D/∂x of a scalar D that depends on a box of the output."""

    # A box that fits the budget is computed once, with its graph; a larger one is computed piece by
    # piece, and each piece again for its gradient, which is exact: gradients add up.
    routes = False
    """Whether discrete decisions may follow from the picture."""

    def __init__(self, source: GradientSource, box: Region) -> None:
        self.source, self.box = source, box
        plan = source.plan
        self._pieces = self.cut(box)
        self._graph: tuple[Tensor, Tensor] | None = None
        self.by_statistics: dict[str, Tensor] = {}
        """After `backward`: ∂D/∂ of those statistics that require a gradient."""
        input_box = [self.source.input_box(piece) for piece in self._pieces]
        self.region = input_box[0]
        """Every gradient outside of it is zero."""
        for one in input_box[1:]:
            self.region = self.region.union(one)
        cost = gradient_cost(plan.model, plan.device)
        self.bytes = cost.bytes(max(one.pixels for one in input_box))
        """Bytes of a gradient at its peak."""

    def fix_routing(self, picture: Picture | None) -> None:
        """Do nothing, as `SweptGradients` would: a local model has no `Routing`."""

    def forward(self, picture: Picture, keep: bool = False) -> Tensor:
        """Return the output of `picture` in the box, (1, C, h, w) in model range; with `keep` `backward` is next."""
        self._graph = None
        if keep and len(self._pieces) == 1:
            self._graph = self._with_graph(picture, self.box)
            return self._graph[1].detach()

        def part(piece: Region) -> Tensor:
            self.source.check()
            with torch.no_grad():
                return self._output(picture(self.source.input_box(piece)), piece)

        return joined(self.box, ((piece, part(piece)) for piece in self._pieces))

    def backward(self, picture: Picture, by_y: Tensor) -> Iterator[tuple[Region, Tensor]]:
        """Yield parts of the gradient by the picture, which add up, with their boxes, from ∂D/∂y in the box."""
        self.by_statistics = {}
        for piece in self._pieces:
            self.source.check()
            x, y = self._graph or self._with_graph(picture, piece)
            self._graph = None
            by_piece = by_y[(..., *piece.within(self.box))]
            yield self.source.input_box(piece), self._gradient(x, y, by_piece)

    def _with_graph(self, picture: Picture, piece: Region) -> tuple[Tensor, Tensor]:
        """Return the pixels that a piece depends on, and its output with their graph."""
        with torch.enable_grad():
            x = picture(self.source.input_box(piece)).detach().requires_grad_(True)
            return x, self._output(x, piece)

    def _gradient(self, x: Tensor, y: Tensor, by_y: Tensor) -> Tensor:
        if not y.requires_grad:
            return torch.zeros_like(x)
        statistics = {name: f for name, f in self.source.work.statistics.items() if f.requires_grad}
        with self.source.computing():
            by_pixels, *rest = vjp([y], [by_y], [x, *statistics.values()])
        for name, part in zip(statistics, rest, strict=True):
            self.by_statistics[name] = self.by_statistics.get(name, 0) + part
        return by_pixels

    def _output(self, x: Tensor, piece: Region) -> Tensor:
        input_box = self.source.input_box(piece)
        return self.source.output(x, input_box)[0][(..., *piece.within(input_box))]

    def cut(self, box: Region) -> list[Region]:
        """Return `box`, or the pieces whose graphs fit the budget; raises `BudgetTooSmall`."""
        plan = self.source.plan
        cost = gradient_cost(plan.model, plan.device)
        if cost.bytes(self.source.input_box(box).pixels) <= plan.memory:
            return [box]
        for edge in EDGES:
            pieces = list(cut(box, edge))
            needed = cost.bytes(max(self.source.input_box(piece).pixels for piece in pieces))
            if needed <= plan.memory:
                return pieces
        raise BudgetTooSmall(
            "The budget is too small for the gradient of one small piece.",
            f"Use {option('memory', f'{-(-needed // 2**20)}MiB')} or more.",
        )
