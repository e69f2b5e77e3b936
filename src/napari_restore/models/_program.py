"""An exported program as a module, also one that takes images of a single size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_restore.errors import BadModel
from napari_restore.models._measure import BAND_COUNTS
from napari_restore.models._padding import reflected
from napari_restore.models._unfit import image_in, misfit

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_STEPS = (32, 16, 8, 4, 2, 1)
"""Distances of windows are multiples of this many pixels: a network halves an image no more
often."""


def fixed_shape(program: ExportedProgram) -> tuple[int, int, int, int] | None:
    """Return (count, bands, height, width) of the images that `program` takes.

    None where any is open. A program of other inputs than one image fails when it is tried.
    """
    shape = _input_shape(program)
    if len(shape) != 4 or not all(isinstance(n, int) for n in shape[1:]):
        return None
    return (shape[0] if isinstance(shape[0], int) else 1, *shape[1:])


def batch_size(program: ExportedProgram) -> int | None:
    """Return the number of images that `program` takes at a time; None where it is open."""
    count = next(iter(_input_shape(program)), None)
    return count if isinstance(count, int) else None


def band_counts(program: ExportedProgram) -> tuple[int, ...]:
    """Return the number of bands that `program` takes; the usual ones where it leaves them open.

    Raises `BadModel` for a program of anything but one image.
    """
    shape = _input_shape(program)
    if len(shape) != 4:
        raise BadModel("The program does not take one image (N, C, H, W).", "Export it again.")
    return (shape[1],) if isinstance(shape[1], int) else BAND_COUNTS


def _input_shape(program: ExportedProgram) -> tuple[Any, ...]:
    """Return the shape of the one input, open sizes as symbols; () where it has none or several."""
    names = program.graph_signature.user_inputs
    nodes = [node for node in program.graph.nodes if node.name in names]
    return tuple(nodes[0].meta["val"].shape) if len(nodes) == 1 else ()


class Program(nn.Module):
    """The module of an exported program; (N, C, H, W) → the same, or what it returns first.

    A program exported with a fixed size is given windows of that size, which overlap by twice the
    `margin` that its output depends on. Beyond the image's edges its input is the image reflected.
    One exported with a fixed batch size is called with batches of it.
    """

    def __init__(
        self,
        program: nn.Module,
        fixed: tuple[int, int, int, int] | None = None,
        count: int | None = None,
    ) -> None:
        """Wrap `program`.

        `fixed` is its (count, bands, height, width), `count` that of its images alone.
        """
        super().__init__()
        self.program = program
        self.fixed = fixed
        self.count = count
        self.step = 1
        """Edges of tiles should be multiples of this many pixels."""
        self.margin = 0
        if fixed is not None:
            self.margin, self.step = self._overlap(fixed)

    def train(self, mode: bool = True) -> Program:
        """Set the flags only: exported programs have no modes."""
        for part in self.modules():
            part.training = mode
        return self

    def forward(self, x: Tensor) -> Any:
        if self.fixed is None:
            if self.count in (None, len(x)):
                return self.program(x)
            return torch.cat(
                [self._run_padded(part, self.count) for part in torch.split(x, self.count)]
            )
        count, _, height, width = self.fixed
        down, along = height - 2 * self.margin, width - 2 * self.margin
        rows, columns = (-(-n // core) for n, core in zip(x.shape[2:], (down, along), strict=True))
        wide = x
        for axis, length in ((2, rows * down), (3, columns * along)):
            length += 2 * self.margin
            at = reflected(x.shape[axis], length, x.device, self.margin)
            wide = wide.index_select(axis, at)
        windows = wide.unfold(2, height, down).unfold(3, width, along)
        # (N, C, rows, columns, h, w): one window after the other.
        windows = windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1], height, width)
        inner = slice(self.margin, self.margin + down), slice(self.margin, self.margin + along)
        parts = torch.split(windows, count)
        cores = torch.cat([self._run_padded(part, count)[(..., *inner)] for part in parts])
        joined = cores.reshape(x.shape[0], rows, columns, x.shape[1], down, along)
        whole = joined.permute(0, 3, 1, 4, 2, 5).reshape(*x.shape[:2], rows * down, columns * along)
        return whole[..., : x.shape[2], : x.shape[3]]

    def _run_padded(self, windows: Tensor, count: int) -> Tensor:
        """Return the outputs of up to `count` windows or images; the program takes no fewer."""
        missing = count - len(windows)
        filled = torch.cat([windows, windows[:1].expand(missing, -1, -1, -1)])
        y = self.program(filled.contiguous())
        image = image_in(y, filled.shape)
        if image is None:
            raise misfit("The program", y, filled.shape)
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
        weight = next(iter((*self.program.parameters(), *self.program.buffers())), torch.empty(0))
        noise = torch.rand(fixed, generator=torch.Generator().manual_seed(0))
        x = noise.to(weight.device).requires_grad_(True)
        low, left = height // 2, width // 2
        # A window's middle of this size contains every phase of the usual steps.
        high, right = min(height, low + _STEPS[0]), min(width, left + _STEPS[0])
        try:
            with torch.enable_grad():
                y = self.program(x)
                y = y[0] if isinstance(y, (tuple, list)) and y else y
                block = y[..., low:high, left:right]
                (outputs,) = torch.autograd.grad(
                    (block * noise.to(block)[..., low:high, left:right]).sum(), x
                )
        except (RuntimeError, TypeError, IndexError):
            # Without gradients this cannot be measured; a quarter is what tiling tools usually use.
            return min(height, width) // 4
        rows, columns = (outputs != 0).flatten(0, 1).any(0).nonzero().T
        if not len(rows):
            return 0
        beyond = (low - rows.min(), rows.max() - high + 1, left - columns.min())
        return max(0, int(max(*beyond, columns.max() - right + 1)))
