"""Gradients of models that encode tiles, relate them all, and decode tiles: in passes.

The graph is cut between the model's stages, and the activations of a stage are recomputed when
needed: exact, and never more in memory than the tokens and one batch of tiles (gradient
checkpointing, Chen et al. 2016, between the model's stages).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from napari_restore.engine._region import Region
from napari_restore.engine.gradients._cost import bottleneck_gradient_cost
from napari_restore.engine.gradients._gradient_source import GradientSource, Picture
from napari_restore.engine.gradients._vjp import vjp
from napari_restore.engine.memory._device import freed_memory_returned, release_freed_memory
from napari_restore.engine.planning._calibrate import SCRATCH_BYTES
from napari_restore.engine.planning._layout import fragmentation
from napari_restore.engine.running._parallel import map_parallel
from napari_restore.engine.sweeps._sweep_work import reflection
from napari_restore.models import BottleneckModel, Routing

R = TypeVar("R")
Beside = Callable[[Region], int]
"""Returns the bytes used elsewhere during a gradient, given the region that it lies in."""


@dataclass
class _Forward:
    """Activations of `forward` for `backward`, of one picture."""

    encoded: Tensor
    """(H, W, width): the encoded tokens, over the whole grid."""
    between: list[Tensor]
    """Inputs of the bottleneck's layers after the first, each like `encoded`."""
    related: Tensor
    """(width, H + 2 · margin, W + 2 · margin): output of the bottleneck."""
    residuals: dict[tuple[int, int], tuple[Tensor, ...]] = field(default_factory=dict)
    """Residuals of the tiles that the box touches."""


class BottleneckGradients:
    """∂D/∂x of a scalar D that depends on a box of the output of a model with a bottleneck.

    All tiles contribute to it. A picture costs one pass of the encoder and the bottleneck, and of
    the decoder on the tiles of the box; its gradient costs as much again and the backward passes.
    """

    def __init__(
        self, source: GradientSource, box: Region, beside: Beside = lambda region: 0
    ) -> None:
        plan, model = source.plan, source.plan.model
        assert isinstance(model, BottleneckModel) and plan.staged is not None
        self.source, self.box, self.model = source, box, model
        self._side = model.tile // model.stride
        self._rows, self._columns = plan.staged.rows, plan.staged.columns
        self._origin = plan.staged.box.y0, plan.staged.box.x0
        self.region = plan.staged.box.intersect(Region(0, 0, *source.size))
        """Every gradient outside of it is zero."""
        self._tiles_of_box = [
            (row, column)
            for row in range(self._rows)
            for column in range(self._columns)
            if not self._tile(row, column).intersect(box).is_empty
        ]
        self._forward_state: _Forward | None = None
        self._routing: list[Routing] | None = None
        """Routing of every layer, while it is fixed."""
        self.by_statistics: dict[str, Tensor] = {}
        """After `backward`: ∂D/∂ of those statistics that require a gradient."""
        # Tiles run in parallel only where that fits; a device has one queue for all.
        most = (
            1
            if plan.device.is_accelerator
            else min(plan.layout.workers, self._rows * self._columns)
        )
        room = plan.memory - beside(self.region)
        counts = range(1, most + 1)
        self._back = max((n for n in counts if self._bytes(n, n) <= room), default=1)
        self._forward = max((n for n in counts if self._bytes(self._back, n) <= room), default=1)
        self.bytes = self._bytes(self._back, self._forward)
        """Bytes of a gradient at its peak."""

    def _bytes(self, back: int, forward: int) -> int:
        """Return the peak with so many tiles at once backward, with their graphs, and forward.

        Tokens as encoded, between layers and related, with gradients; the bottleneck or tiles.
        """
        model = self.model
        cost = bottleneck_gradient_cost(model, self.source.plan.device)
        tokens = self._rows * self._columns * self._side**2
        left = sum(r.channels * (model.tile // r.stride) ** 2 for r in model.residuals)
        state = 4 * ((3 + model.layers) * tokens * model.width + 2 * left * len(self._tiles_of_box))
        state += model.layers * model.routing_bytes * tokens
        swell = fragmentation(self._rows * self._columns)
        tiles = max(back * cost.tile, forward * cost.tile_forward)
        # What libraries allocated for the workers lies beside what they allocate for the
        # bottleneck.
        bottleneck = cost.bottleneck_per_token * tokens + (forward + 1) * SCRATCH_BYTES
        return state + int(max(bottleneck, swell * tiles))

    def fix_routing(self, picture: Picture | None) -> None:
        """Fix the layers' routing to that of `picture`, whatever input follows.

        None: it is recomputed for every picture. See `Routing`.
        """
        self._routing = None
        if picture is not None and self.model.routing_bytes:
            self._routing = [Routing() for _ in range(self.model.layers)]
            with torch.no_grad():
                self._encode(picture, keep=False)

    def forward(self, picture: Picture, keep: bool = False) -> Tensor:
        """Return the model's output of `picture` in the box, (1, C, h, w) in model range.

        With `keep`, the next call is `backward` for the same picture.
        """
        with torch.no_grad():
            state = self._encode(picture, keep)
            y = torch.empty(0)
            for at in self._tiles_of_box:
                part, core = self._decoded(picture, state, at)
                if not y.numel():
                    y = part.new_empty(1, part.shape[1], *self.box.shape)
                y[(..., *core.within(self.box))] = part
        self._forward_state = state if keep else None
        return y

    def backward(self, picture: Picture, by_y: Tensor) -> Iterator[tuple[Region, Tensor]]:
        """Yield parts of the gradient with respect to the picture, which add up; with their boxes.

        `by_y` is ∂D/∂y in the box.
        """
        self.by_statistics = {}
        state, self._forward_state = self._forward_state, None
        if state is None:
            with torch.no_grad():
                state = self._encode(picture, keep=True)
        by_related = torch.zeros_like(state.related)
        by_left: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        for at in self._tiles_of_box:
            self.source.check()
            by_left[at] = self._back_through_decoder(picture, state, at, by_y, by_related)
        release_freed_memory()
        # The graph of a layer has large tensors of all sizes: with freed blocks kept, the gaps
        # between them were half as much again.
        with freed_memory_returned():
            by_encoded = self._back_through_bottleneck(state, by_related)

        def back(at: tuple[int, int]) -> tuple[Region, Tensor, dict[str, Tensor]]:
            self.source.check()
            part = by_encoded[self._cells(*at)].permute(2, 0, 1)[None]
            return self._back_through_encoder(picture, at, part, by_left.get(at))

        for box, by_pixels, by_statistics in self._in_threads(back, self._back):
            for name, part in by_statistics.items():
                self.by_statistics[name] = self.by_statistics.get(name, 0) + part
            yield box, by_pixels
        release_freed_memory()

    def _in_threads(self, work: Callable[[tuple[int, int]], R], workers: int) -> Iterator[R]:
        """Yield `work` of every tile, row by row, `workers` of them at once.

        Each on one torch thread: sums divided among threads depend on how many there are.
        """
        places = itertools.product(range(self._rows), range(self._columns))
        with self.source.computing():
            # Torch's number of threads belongs to the thread that sets it.
            one_thread = partial(torch.set_num_threads, 1)
            yield from map_parallel(places, work, workers, name="gradients", begin=one_thread)

    # -- forward ----------------------------------------------------------------------

    def _encode(self, picture: Picture, keep: bool) -> _Forward:
        """Encode all tiles and relate them; `between` stays empty unless `keep`."""
        model, side = self.model, self._side
        encoded = torch.empty(0)
        residuals = {}

        def encode(at: tuple[int, int]) -> tuple[tuple[int, int], Tensor, tuple[Tensor, ...]]:
            self.source.check()
            with torch.no_grad():
                tokens, left = model.encode(self._view(picture, *at))
            return at, tokens, left if at in self._tiles_of_box else ()

        for at, tokens, left in self._in_threads(encode, self._forward):
            if not encoded.numel():
                shape = (self._rows * side, self._columns * side, model.width)
                encoded = tokens.new_empty(shape)
            encoded[self._cells(*at)] = tokens[0].permute(1, 2, 0)
            if at in self._tiles_of_box:
                residuals[at] = left
        release_freed_memory()
        between = []
        with self.source.computing():
            grid = model.place_tokens(encoded.clone())
            for index in range(model.layers):
                if keep and index:
                    between.append(grid.clone())
                grid = self._layer(index, grid, lambda share: self.source.check())
            related = model.with_margin(grid.permute(2, 0, 1))
        return _Forward(encoded, between, related, residuals)

    def _layer(
        self, index: int, grid: Tensor, tick: Callable[[float], None] | None = None
    ) -> Tensor:
        routing = None if self._routing is None else self._routing[index]
        return self.model.bottleneck_layer(index, grid, tick, routing)

    def _decoded(
        self, picture: Picture, state: _Forward, at: tuple[int, int]
    ) -> tuple[Tensor, Region]:
        """Return the pixels of a tile that lie in the box, and their box."""
        encoded = state.encoded[self._cells(*at)].permute(2, 0, 1)[None]
        tokens = state.related[self._window(*at)][None]
        with self.source.computing():
            view = self._view(picture, *at)
            y = self.model.decode(tokens, encoded, state.residuals[at], view)
        return self._inside(y, at)

    def _inside(self, y: Tensor, at: tuple[int, int]) -> tuple[Tensor, Region]:
        tile = self._tile(*at)
        core = tile.intersect(self.box)
        return y[(..., *core.within(tile))], core

    # -- backward ---------------------------------------------------------------------

    def _back_through_decoder(
        self,
        picture: Picture,
        state: _Forward,
        at: tuple[int, int],
        by_y: Tensor,
        by_related: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return ∂D/∂ of a tile's tokens, residuals and view.

        ∂D/∂ of the bottleneck's output is added to `by_related`.
        """
        with torch.no_grad():
            view = self._view(picture, *at)
        leaves = [
            state.related[self._window(*at)][None],
            state.encoded[self._cells(*at)].permute(2, 0, 1)[None],
            *state.residuals[at],
            view,
        ]
        leaves = [leaf.detach().requires_grad_(True) for leaf in leaves]
        tokens, encoded, *residuals, view = leaves
        with self.source.computing(), torch.enable_grad():
            y = self.model.decode(tokens, encoded, tuple(residuals), view)
            part, core = self._inside(y, at)
            wanted = by_y[(..., *core.within(self.box))]
            by_tokens, *rest = vjp([part], [wanted], leaves)
        by_related[self._window(*at)] += by_tokens[0]
        return tuple(rest)

    def _back_through_bottleneck(self, state: _Forward, by_related: Tensor) -> Tensor:
        """Return ∂D/∂ of the encoded tokens, (H, W, width); `state.between` is consumed.

        Layer by layer from the last, so that only the graph of one is in memory.
        """
        model = self.model
        with self.source.computing():
            by = _back(
                lambda grid: model.with_margin(grid.permute(2, 0, 1)), state.encoded, by_related
            )
            for index in reversed(range(model.layers)):
                self.source.check()
                grid = state.between.pop() if index else model.place_tokens(state.encoded.clone())
                by = _back(partial(self._layer, index), grid, by)
            return _back(model.place_tokens, state.encoded, by)

    def _back_through_encoder(
        self,
        picture: Picture,
        at: tuple[int, int],
        by_tokens: Tensor,
        by_left: tuple[Tensor, ...] | None,
    ) -> tuple[Region, Tensor, dict[str, Tensor]]:
        """Return ∂D/∂x of a tile's pixels, after their box, and ∂D/∂ of the statistics."""
        needed, rows, columns = self._source(*at)
        x = picture(needed).detach()
        with torch.no_grad():
            view = self._viewed(x, rows, columns, at)
        # One part after the other: the graph of the view need not lie beside the encoder's.
        view.requires_grad_(True)
        with torch.enable_grad():
            tokens, residuals = self.model.encode(view)
        outputs, by_outputs = [tokens], [by_tokens]
        if by_left is not None:
            by_encoded, *by_residuals, by_left_view = by_left
            by_outputs[0] = by_tokens + by_encoded
            outputs += residuals
            by_outputs += by_residuals
        (by_view,) = vjp(outputs, by_outputs, [view])
        if by_left is not None:
            by_view = by_view + by_left_view
        del tokens, residuals, outputs
        x.requires_grad_(True)
        with torch.enable_grad():
            view = self._viewed(x, rows, columns, at)
        statistics = {name: f for name, f in self.source.work.statistics.items() if f.requires_grad}
        by_pixels, *rest = vjp([view], [by_view], [x, *statistics.values()])
        return needed, by_pixels, dict(zip(statistics, rest, strict=True))

    # -- positions --------------------------------------------------------------------

    def _tile(self, row: int, column: int) -> Region:
        """Return the whole tile, which may reach beyond the image."""
        tile = self.model.tile
        y, x = self._origin[0] + row * tile, self._origin[1] + column * tile
        return Region(y, x, y + tile, x + tile)

    def _cells(self, row: int, column: int) -> tuple[slice, slice]:
        side = self._side
        return slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)

    def _window(self, row: int, column: int) -> tuple[slice, slice, slice]:
        """Return a tile's tokens with the margin, in a grid that has it on every side."""
        side, margin = self._side, 2 * self.model.margin
        return (
            slice(None),
            slice(row * side, (row + 1) * side + margin),
            slice(column * side, (column + 1) * side + margin),
        )

    def _source(self, row: int, column: int) -> tuple[Region, Tensor, Tensor]:
        """Return the image's box of a tile, and its rows and columns, reflected at the edge."""
        needed, (rows, columns) = reflection(self._tile(row, column), self.source.size)
        return needed, torch.from_numpy(rows), torch.from_numpy(columns)

    def _view(self, picture: Picture, row: int, column: int) -> Tensor:
        needed, rows, columns = self._source(row, column)
        return self._viewed(picture(needed), rows, columns, (row, column))

    def _viewed(self, x: Tensor, rows: Tensor, columns: Tensor, at: tuple[int, int]) -> Tensor:
        tile = x
        if x.shape[2:] != (len(rows), len(columns)):
            tile = x[..., rows[:, None].to(x.device), columns.to(x.device)]
        return self.model.view(tile, self.source.work.statistics_at([self._tile(*at)], tile))


def _back(step: Callable[[Tensor], Tensor], by_outputs: Tensor, by_result: Tensor) -> Tensor:
    """Return ∂D/∂ of the input of `step`, from that of its result.

    `step` may write into its input.
    """
    leaf = by_outputs.detach().requires_grad_(True)
    with torch.enable_grad():
        # A leaf may not be written to.
        result = step(leaf.clone())
    return vjp([result], [by_result], [leaf])[0]
