"""An exported program as a module, also one that takes images of a single size."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_restore.errors import BadModel
from napari_restore.models._layers import reflected
from napari_restore.models._onnx import network_in, sloped
from napari_restore.models._reach import Reach
from napari_restore.models._unfit import BAND_COUNTS, misfit, scale_between

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_STEPS = (32, 16, 8, 4, 2, 1)
"""Distances of windows are multiples of this many pixels: a network halves an image no more
often."""


def input_shape(program: ExportedProgram) -> tuple[int | None, ...]:
    """Return the shape of the one input, None for open sizes; () where it has none or several."""
    names = program.graph_signature.user_inputs
    nodes = [node for node in program.graph.nodes if node.name in names]
    sizes = nodes[0].meta["val"].shape if len(nodes) == 1 else ()
    return tuple(n if isinstance(n, int) else None for n in sizes)


def windows_along(length: int, side: int, margin: int) -> list[tuple[int, slice]]:
    """Return where windows of `side` pixels begin along an axis, and what of each is kept.

    Together they cover `length`, at least `side`; nothing is kept within `margin` of an inner edge.
    """
    starts = [*range(0, length - side, side - 2 * margin), length - side]
    windows, low = [], 0
    for start, following in zip(starts, [*starts[1:], length - margin], strict=True):
        # Up to where the next one is far enough from its edge.
        high = following + margin
        windows.append((start, slice(low - start, high - start)))
        low = high
    return windows


class TorchProgram(nn.Module):
    """The module of an exported program; (N, C, H, W) → that, or N times as large; the first of several."""

    # A program exported with a fixed size is given windows of that size, which overlap by twice the
    # `margin` that its output depends on and lie within the image: at the image's edges the program
    # sees its own. A smaller image is grown by reflection at bottom and right. One exported with a
    # fixed batch size is called with batches of it.
    def __init__(
        self, program: nn.Module, shape: Sequence[int | None] = (), others: int = 0
    ) -> None:
        """Wrap `program`, which takes images of a `shape`, None for open sizes, and so many `others`.

        A program of other inputs than one image fails when it is tried.
        """
        super().__init__()
        self.program, self.others = program, others
        self.count, bands, height, width = shape if len(shape) == 4 else (None,) * 4
        self.band_counts = BAND_COUNTS if bands is None else (bands,)
        """The numbers of bands that may be tried."""
        self.fixed: tuple[int, int, int, int] | None = None
        """Count, bands, height and width; None where one of the last three is open."""
        if bands is not None and height is not None and width is not None:
            self.fixed = self.count or 1, bands, height, width
        self.step = 1
        """Edges of tiles should be multiples of this many pixels."""
        self.margin, self.scale = 0, 1
        if self.fixed is not None:
            self.margin, self.step = self._overlap(self.fixed)

    def train(self, mode: bool = True) -> TorchProgram:
        """Set the flags only: exported programs have no modes."""
        for part in self.modules():
            part.training = mode
        return self

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        """Return what the program makes of `x`; `others` (N, 1, 1, 1) are alike for all images."""
        if self.fixed is None:
            if self.count in (None, len(x)):
                return self.program(x, *others)
            return torch.cat(
                [self._run_padded(part, self.count, others) for part in torch.split(x, self.count)]
            )
        count, _, height, width = self.fixed
        size, wide = x.shape[2:], x
        for axis, side in ((2, height), (3, width)):
            if x.shape[axis] < side:
                wide = wide.index_select(axis, reflected(x.shape[axis], side, x.device))
        rows = windows_along(wide.shape[2], height, self.margin)
        columns = windows_along(wide.shape[3], width, self.margin)
        places = [(top, left) for top, _ in rows for left, _ in columns]
        windows = [wide[..., top : top + height, left : left + width] for top, left in places]
        parts = torch.split(torch.cat(windows), count)
        made = torch.cat([self._run_padded(part, count, others) for part in parts])
        scale, left_over = divmod(made.shape[2], height)
        if left_over or not scale:
            raise misfit("The program", made, (len(made), *x.shape[1:2], height, width))
        down, across = (
            [slice(scale * part.start, scale * part.stop) for _, part in along]
            for along in (rows, columns)
        )
        each = iter(torch.split(made, len(x)))
        lines = [torch.cat([next(each)[..., y, x] for x in across], dim=3) for y in down]
        return torch.cat(lines, dim=2)[..., : scale * size[0], : scale * size[1]]

    def _run_padded(self, windows: Tensor, count: int, others: tuple[Tensor, ...]) -> Tensor:
        """Return the outputs of up to `count` windows or images; the program takes no fewer."""
        missing = count - len(windows)
        filled = torch.cat([windows, windows[:1].expand(missing, -1, -1, -1)])
        levels = (each[:1].expand(count, *each.shape[1:]) for each in others)
        y = self.program(filled.contiguous(), *levels)
        if scale_between(y, filled.shape) is None:
            raise misfit("The program", y, filled.shape)
        image: Tensor = y[0] if isinstance(y, (tuple, list)) else y
        return image[: len(windows)]

    def _overlap(self, fixed: tuple[int, int, int, int]) -> tuple[int, int]:
        """Return the margin that a window's output depends on, and its step; raises `BadModel`."""
        reach = self._reach(fixed)
        for step in _STEPS:
            margin = -(-reach // step) * step
            if all(side % step == 0 and side - 2 * margin >= step for side in fixed[2:]):
                return margin, step
        raise BadModel(
            f"The program takes images of {fixed[3]} × {fixed[2]} pixels only, and what it makes "
            "of their middle depends on their edges: tiles of it would not join.",
            "Export it with free height and width.",
        )

    def _reach(self, fixed: tuple[int, int, int, int]) -> int:
        """Return the pixels beyond the middle of a window that its output there depends on."""
        _, _, height, width = fixed
        # A NaN spreads through all that may depend on it, the gradient shows what does for this
        # input only. Where the NaN is everywhere, as after running sums, all beyond the gradient is
        # changed.
        weight = next(iter((*self.program.parameters(), *self.program.buffers())), torch.empty(0))
        noise = torch.rand(fixed, generator=torch.Generator().manual_seed(0)).to(weight.device)
        # A window's middle of this size contains every phase of the usual steps.
        middle = [(side // 2, min(side, side // 2 + _STEPS[0])) for side in (height, width)]

        def made(x: Tensor) -> Tensor:
            # The level that a card names, if it takes one.
            y = self.program(x, *[x.new_full((len(x), 1, 1, 1), 0.1)] * self.others)
            image: Tensor = y[0] if isinstance(y, (tuple, list)) and y else y
            return image

        # What returns no image is refused later.
        with torch.no_grad(), suppress(RuntimeError, TypeError, IndexError, AttributeError):
            self.scale = max(1, made(noise).shape[2] // height)
        reach = Reach(made, noise, *middle)
        if network_in(self) is not None:
            # Without gradients, what the middle changes: a slope shows what saturates.
            with sloped(0.25):
                return reach.of_change()
        measured = None
        with suppress(RuntimeError, TypeError, IndexError, AttributeError):
            measured = reach.of_gradient()
        if measured is None:
            # Without gradients this cannot be measured; a quarter is what tiling tools usually use.
            return min(height, width) // 4
        spread = reach.of_nan()
        if spread <= measured or spread < max(height // 2, width // 2):
            return max(spread, measured)
        return measured if reach.is_within(measured, 1e-5) else spread
