"""Gradients with respect to what a layer of a local model puts out, in place of the pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from napari_restore.engine._region import Region
from napari_restore.engine.gradients.gradient_source import GradientSource, Picture
from napari_restore.engine.gradients.local import LocalGradients
from napari_restore.errors import BadParameter, did_you_mean, option
from napari_restore.models import ModelCard, RestorationModel, WrappedModel

MOST_PADDING = 64
"""Pixels that a network may pad an image with inside."""


def layer_of(model: RestorationModel, name: str) -> nn.Module:
    """Return a layer of a model by dotted name; raises `BadParameter`, `BadModel`."""
    layers = model.named_layers()
    if name in layers:
        return layers[name]
    inside = [each for each in layers if "." not in each]
    hint = did_you_mean(name, [*layers])
    if not hint.startswith("Did"):
        hint = f"It has {', '.join(inside) or 'none'}; {_listed(model)} what is in them."
    raise BadParameter(f"{model.card.id} has no layer {name!r}.", hint)


def _listed(model: RestorationModel) -> str:
    command = "inspect" if isinstance(model, WrappedModel) else f"models {model.card.id}"
    return f"napari-restore {command} lists"


class LayerGradients(LocalGradients):
    """∂D/∂a of the map a that a layer puts out, for a scalar D of a box of the model's output.

    The leaf of every graph is a's part of the piece's input box, in place of its pixels; parts of the
    network that do not go through the layer see the picture that `see` was given. A map has whole
    cells: (1, K, rows, columns) over `region`, each of `stride` pixels along a side.
    """

    def __init__(self, source: GradientSource, box: Region, layer: str) -> None:
        """Run the first piece once. Raises `BadParameter` for a layer without a map of the image."""
        super().__init__(source, box)
        self.name = layer
        self._layer = layer_of(source.plan.model, layer)
        self.kind = type(self._layer).__name__
        self._picture: Picture = source.image
        self._parts = self.cut(self.region)
        first = self._parts[0]
        seen = self._cells_of(source.input_box(first), source.image)
        self.stride = self._stride_of(seen, source.input_box(first))
        self.channels = seen.shape[1]

    @property
    def values(self) -> int:
        """Values of a map over `region`, without cells that only pad the image."""
        rows, columns = (-(-side // self.stride) for side in self.region.shape)
        return self.channels * rows * columns

    def map_of(self, picture: Picture) -> Tensor:
        """Return the layer's map of `picture` over `region`, as a pass over the whole image gives it."""
        placed: list[tuple[int, int, Tensor]] = []
        # The picture is read beyond the region, too. At the ends of the image the map has the cells
        # with which the network pads it.
        for part in self._parts:
            self.source.check()
            box = self.source.input_box(part)
            cells = self._own(self._cells_of(box, picture), part, box)
            (row, _), (column, _) = self._spans(part, self.region)
            placed.append((row, column, cells))
        if len(placed) == 1:
            return placed[0][2]
        rows = max(row + cells.shape[2] for row, _, cells in placed)
        columns = max(column + cells.shape[3] for _, column, cells in placed)
        whole = cells.new_zeros(1, self.channels, rows, columns)
        for row, column, cells in placed:
            height, width = cells.shape[2:]
            whole[..., row : row + height, column : column + width] = cells
        return whole

    def see(self, picture: Picture) -> None:
        """Take `picture` for what does not go through the layer."""
        self._picture = picture

    def part(self, cells: Tensor) -> Picture:
        """Return a reader of a map over `region`, by input boxes: what `forward` and `backward` take."""
        return lambda input_box: self._own(cells, input_box, self.region)

    def add(self, total: Tensor, input_box: Region, gradient: Tensor) -> None:
        """Add what `backward` yields for an input box to a map over `region`."""
        target = self._own(total, input_box, self.region)
        target += gradient

    # -- passes ------------------------------------------------------------------------------

    def _output(self, x: Tensor, piece: Region) -> Tensor:
        """Return the output of `piece` with the layer's map `x` of its input box."""

        def replace(output: Tensor) -> Tensor:
            if output.shape == x.shape:
                # A copy: the next operation may write to it.
                return x.clone()
            # Cells that pad a box within the image, on which its core does not depend.
            made = output.detach().clone()
            height, width = map(min, zip(made.shape[2:], x.shape[2:], strict=True))
            made[..., :height, :width] = x[..., :height, :width]
            return made

        with self._watched(replace):
            return super()._output(self._picture(self.source.input_box(piece)), piece)

    def _cells_of(self, box: Region, picture: Picture) -> Tensor:
        """Return the layer's output for an input box."""
        found: list[Tensor] = []

        def keep(output: Tensor) -> Tensor:
            found.append(output.detach().float().clone())
            return output

        with self._watched(keep), torch.no_grad():
            self.source.output(picture(box), box)
        return found[0]

    @contextmanager
    def _watched(self, change: Any) -> Iterator[None]:
        """Pass the layer's output through `change` for one call of the model; raises `BadParameter`."""
        # A layer may have no map, or not be called exactly once.
        calls, problem = 0, ""

        def hook(_: Any, __: Any, output: Any) -> Any:
            nonlocal calls, problem
            calls += 1
            if not (isinstance(output, Tensor) and output.ndim == 4 and len(output) == 1):
                shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                problem = f"puts out {shape}, no map (1, K, rows, columns)"
                return None
            return change(output) if calls == 1 else None

        handle = self._layer.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()
        if calls != 1 and not problem:
            problem = f"is called {calls} times in a pass, not once"
            if not calls:
                problem = "does not run when pixels are restored, or its code is compiled"
        if problem:
            raise self._refused(problem)

    # -- places ------------------------------------------------------------------------------

    def _own(self, cells: Tensor, box: Region, outer: Region) -> Tensor:
        """Return the cells of `box` in a map over `outer`, and where the image ends those that pad it."""
        (top, bottom), (left, right) = self._spans(box, outer)
        ends = self.source.size
        down = slice(top, None if box.y1 == ends[0] else bottom)
        across = slice(left, None if box.x1 == ends[1] else right)
        return cells[..., down, across]

    def _spans(self, box: Region, outer: Region) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the first cell of `box` in a map over `outer`, and the one after the last, by axis."""
        rows, columns = box.within(outer)
        if rows.start % self.stride or columns.start % self.stride:
            raise self._refused(f"has cells of {self.stride} pixels, within which tiles begin")
        height, width = (-(-side // self.stride) for side in box.shape)
        top, left = rows.start // self.stride, columns.start // self.stride
        return (top, top + height), (left, left + width)

    def _stride_of(self, seen: Tensor, box: Region) -> int:
        """Return the pixels of a cell along a side; raises `BadParameter` where there are no cells."""
        card, cells = self.source.plan.model.card, seen.shape[2:]
        step = math.lcm(card.size_step, card.multiple_of)

        def fits(stride: int) -> bool:
            return all(
                count in _counts(side, stride, card)
                for side, count in zip(box.shape, cells, strict=True)
            )

        strides = [n for n in range(1, step + 1) if step % n == 0 and fits(n)]
        if not strides and cells[0] * cells[1] > 1:
            # A network that pads inside takes any size: its cells are those that nearly fit.
            near = {
                side // count + more
                for side, count in zip(box.shape, cells, strict=True)
                for more in (0, 1)
            }
            strides = [
                n
                for n in near
                if n > 0
                and all(
                    -n < n * count - side < MOST_PADDING
                    for side, count in zip(box.shape, cells, strict=True)
                )
            ]
        if not strides:
            raise self._refused(
                f"puts out {cells[0]} × {cells[1]} cells for {box.height} × {box.width} pixels, no map of them"
            )
        return min(strides, key=lambda n: abs(n * cells[0] - box.height))

    def _refused(self, problem: str) -> BadParameter:
        return BadParameter(
            f"Layer {self.name} of {self.source.plan.model.card.id} {problem}.",
            f"Choose another {option('layer')}; {_listed(self.source.plan.model)} them.",
        )


def _counts(side: int, stride: int, card: ModelCard) -> set[int]:
    """Return how many cells of `stride` pixels a network may have along a side in pixels."""
    padded = [
        -(-max(side, card.min_size) // step) * step for step in (card.size_step, card.multiple_of)
    ]
    return {side // stride, -(-side // stride), *(each // stride for each in padded)}
