"""Step of a model that takes a map as a whole, and its gradient, layer by layer in memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from napari_restore.engine.gradients.vjp import vjp
from napari_restore.engine.planning.tiles import Grid
from napari_restore.models import Routing, WholeStep

Check = Callable[[], None]


class WholeGradient:
    """A `WholeStep` on the tiles of a grid, forward and backward.

    With `keep` the inputs of its layers stay, for `back`.
    """

    def __init__(self, step: WholeStep, grid: Grid) -> None:
        self.step, self._grid = step, grid
        self._encoded = torch.empty(0)
        """(H, W, channels): the map that is read."""
        self._between: list[Tensor] = []
        """Inputs of the layers after the first, each like the map."""
        self._related = torch.empty(0)
        """(channels, H + 2 · margin, W + 2 · margin): the map that is written."""
        self._by_related = torch.empty(0)
        self._by_encoded = torch.empty(0)

    def put(self, number: int, tokens: Tensor) -> None:
        """Take a tile's cells (C, h, w) of the map that is read."""
        if not self._encoded.numel():
            rows, columns = self._grid.map_size(self.step.reads.stride)
            self._encoded = tokens.new_empty(rows, columns, len(tokens))
        self._encoded[self._cells(number)] = tokens.permute(1, 2, 0)

    def relate(self, routing: list[Routing] | None, check: Check, keep: bool) -> None:
        """Pass the map through all layers."""
        step = self.step
        grid = step.begin(self._encoded.clone())
        for index in range(step.layers):
            if keep and index:
                self._between.append(grid.clone())
            grid = self._layer(index, routing, grid, lambda share: check())
        self._related = step.with_margin(grid.permute(2, 0, 1))

    def _layer(
        self,
        index: int,
        routing: list[Routing] | None,
        grid: Tensor,
        tick: Callable[[float], None] | None = None,
    ) -> Tensor:
        return self.step.layer(index, grid, tick, None if routing is None else routing[index])

    def get(self, name: str, number: int) -> Tensor:
        """Return a tile's cells (C, h, w) of the map of this name; the written one has the margin."""
        if name == self.step.writes.name:
            return self._related[self._window(number)]
        return self._encoded[self._cells(number)].permute(2, 0, 1)

    # -- backward ---------------------------------------------------------------------

    def add(self, number: int, by_related: Tensor) -> None:
        """Add ∂D/∂ of a tile's cells of the written map, with the margin."""
        if not self._by_related.numel():
            self._by_related = torch.zeros_like(self._related)
        self._by_related[self._window(number)] += by_related

    def back(self, routing: list[Routing] | None, check: Check) -> None:
        """Compute ∂D/∂ of the map that is read, from the last layer on: one graph at a time."""
        step, by = self.step, self._by_related
        if not by.numel():
            by = torch.zeros_like(self._related)
        by = _back(lambda grid: step.with_margin(grid.permute(2, 0, 1)), self._encoded, by)
        for index in reversed(range(step.layers)):
            check()
            grid = self._between.pop() if index else step.begin(self._encoded.clone())
            by = _back(partial(self._layer, index, routing), grid, by)
        self._by_encoded = _back(step.begin, self._encoded, by)
        self._related = self._by_related = torch.empty(0)

    def by_read(self, number: int) -> Tensor:
        """Return ∂D/∂ of a tile's cells (C, h, w) of the map that is read."""
        return self._by_encoded[self._cells(number)].permute(2, 0, 1)

    # -- positions --------------------------------------------------------------------

    def _cells(self, number: int) -> tuple[slice, slice]:
        return self._grid.map_window(number, self.step.reads.stride)

    def _window(self, number: int) -> tuple[slice, slice, slice]:
        """Return a tile's cells with the margin, in a map that has it on every side."""
        window = self._grid.map_window(number, self.step.reads.stride, self.step.margin)
        return slice(None), *window


def _back(step: Callable[[Tensor], Tensor], by_outputs: Tensor, by_result: Tensor) -> Tensor:
    """Return ∂D/∂ of the input of `step`, which may write into it, from that of its result."""
    leaf = by_outputs.detach().requires_grad_(True)
    with torch.enable_grad():
        # A leaf may not be written to.
        result = step(leaf.clone())
    return vjp([result], [by_result], [leaf])[0]
