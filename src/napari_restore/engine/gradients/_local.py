"""Gradients of models that see a halo around a pixel: only what the box can see is computed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from napari_restore.engine._region import Region
from napari_restore.engine._tiles import fed_box
from napari_restore.engine.gradients._cost import gradient_cost
from napari_restore.engine.gradients._opened import Opened, Picture
from napari_restore.errors import BudgetTooSmall

EDGES = (2048, 1024, 512, 256, 128)
"""Sides of the pieces that a box is cut into, tried in turn until one fits the budget."""


class LocalGradients:
    """∂D/∂x of a number D that hangs on a box of the output.

    A box that fits the budget is computed once, with its graph; a larger one is computed
    piece by piece, and each piece again for its gradient, which is exact: gradients add up.
    """

    def __init__(self, opened: Opened, box: Region) -> None:
        self.opened, self.box = opened, box
        plan = opened.plan
        self._halo, self._step = plan.halo, plan.model.card.multiple_of
        self._pieces = self._cut(box)
        self._graph: tuple[Tensor, Tensor] | None = None
        self.by_facts: dict[str, Tensor] = {}
        """After `backward`: ∂D/∂ of those facts that want a gradient."""
        fed = [self._fed(piece) for piece in self._pieces]
        self.region = fed[0]
        """Outside of it every gradient is zero."""
        for one in fed[1:]:
            self.region = self.region.union(one)
        self.pixels = sum(one.pixels for one in fed)
        """That are computed for one gradient."""
        cost = gradient_cost(plan.model, plan.device)
        self.bytes = cost.bytes(max(one.pixels for one in fed))
        """What a gradient takes at its peak."""

    def forward(self, picture: Picture, keep: bool = False) -> Tensor:
        """The model's output of `picture` in the box, (1, C, h, w) in model range.

        With `keep`, the next call is `backward` for the same picture.
        """
        self._graph = None
        if keep and len(self._pieces) == 1:
            with torch.enable_grad():
                x = picture(self._fed(self.box)).detach().requires_grad_(True)
                y = self._output(x, self.box)
            self._graph = x, y
            return y.detach()
        y = torch.empty(0)
        for piece in self._pieces:
            self.opened.check()
            with torch.no_grad():
                part = self._output(picture(self._fed(piece)), piece)
            if len(self._pieces) == 1:
                return part
            if not y.numel():
                y = part.new_empty(1, part.shape[1], *self.box.shape)
            y[(..., *_within(piece, self.box))] = part
        return y

    def backward(self, picture: Picture, by_y: Tensor) -> Iterator[tuple[Region, Tensor]]:
        """Parts of the gradient with respect to the picture, which add up; with their boxes.

        `by_y` is ∂D/∂y in the box.
        """
        self.by_facts = {}
        if self._graph is not None:
            (x, y), self._graph = self._graph, None
            yield self._fed(self.box), self._gradient(x, y, by_y)
            return
        for piece in self._pieces:
            self.opened.check()
            with torch.enable_grad():
                x = picture(self._fed(piece)).detach().requires_grad_(True)
                y = self._output(x, piece)
            yield (
                self._fed(piece),
                self._gradient(x, y, by_y[(..., *_within(piece, self.box))]),
            )

    def _gradient(self, x: Tensor, y: Tensor, by_y: Tensor) -> Tensor:
        if not y.requires_grad:
            return torch.zeros_like(x)
        facts = {name: f for name, f in self.opened.work.facts.items() if f.requires_grad}
        with self.opened.computing():
            found, *rest = torch.autograd.grad(
                y, [x, *facts.values()], by_y, materialize_grads=True
            )
        for name, part in zip(facts, rest, strict=True):
            self.by_facts[name] = self.by_facts.get(name, 0) + part
        return found

    def _output(self, x: Tensor, piece: Region) -> Tensor:
        fed, work = self._fed(piece), self.opened.work
        valid = None
        if work.model.card.uses_validity:
            counted = self.opened.read(fed).valid
            valid = None if counted is None else torch.from_numpy(counted)[None, None].to(x.device)
        with self.opened.computing():
            y = work.model(x, work.facts_at([fed], x), valid)
        inside: Tensor = y[(..., *_within(piece, fed))]
        return inside

    def _fed(self, piece: Region) -> Region:
        """What the model must see: the halo around the piece's cells of the model's steps."""
        size = self.opened.size
        core = piece.align(self._step).intersect(Region(0, 0, *size))
        return fed_box(core, self._halo, size, self._step)

    def _cut(self, box: Region) -> list[Region]:
        plan = self.opened.plan
        cost = gradient_cost(plan.model, plan.device)
        if cost.bytes(self._fed(box).pixels) <= plan.memory:
            return [box]
        for edge in EDGES:
            pieces = [
                Region(y, x, y + edge, x + edge).intersect(box)
                for y in range(box.y0, box.y1, edge)
                for x in range(box.x0, box.x1, edge)
            ]
            needed = cost.bytes(max(self._fed(piece).pixels for piece in pieces))
            if needed <= plan.memory:
                return pieces
        raise BudgetTooSmall(
            "The budget does not hold the gradient of one small piece.",
            f"Use --memory {-(-needed // 2**20)}MiB or more.",
        )


def _within(inner: Region, outer: Region) -> tuple[slice, slice]:
    return inner.shift(-outer.y0, -outer.x0).slices
