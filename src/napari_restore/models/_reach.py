"""Probes of how far what a network makes of a block of an image depends on pixels around."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Span = tuple[int, int]
"""First pixel along an axis, and the one after the last."""


def beyond(touched: Tensor, rows: Span, columns: Span, side: int) -> int:
    """Return how far (…, h, w) bool, cells over an image of `side` rows, reaches beyond a block, in its pixels."""
    there = touched.flatten(0, -3).any(0).cpu()
    found = there.nonzero()
    if not len(found):
        return 0
    first, last = found.amin(0) * side // len(there), -(-(found.amax(0) + 1) * side // len(there))
    low, high = torch.tensor([rows, columns]).T
    return max(0, int(torch.maximum(low - first, last - high).max()))


class Reach:
    """Probes a block of the image `x` (1, C, h, w); `call` makes another of it, or an enlarged one."""

    def __init__(
        self, call: Callable[[Tensor], Tensor], x: Tensor, rows: Span, columns: Span
    ) -> None:
        self._call, self._x, self._spans = call, x, (rows, columns)

    def _block(self, y: Tensor, margin: int = 0) -> tuple[slice, ...]:
        """Return where the block with so much around it is in an output."""
        scale = y.shape[-2] // self._x.shape[-2]
        spans = ((max(0, low - margin), high + margin) for low, high in self._spans)
        return slice(None), slice(None), *(slice(scale * low, scale * high) for low, high in spans)

    def _beyond(self, touched: Tensor) -> int:
        return beyond(touched, *self._spans, self._x.shape[-2])

    def of_gradient(self) -> int | None:
        """Return how far the gradient of the output there reaches, for this image; None without a gradient."""
        leaf = self._x.clone().requires_grad_(True)
        with torch.enable_grad():
            y = self._call(leaf.clone())
            if not y.requires_grad:
                return None
            part = y[self._block(y)]
            weights = torch.rand(part.shape, generator=torch.Generator().manual_seed(1))
            (gradient,) = torch.autograd.grad((part * weights.to(part)).sum(), leaf)
        return self._beyond(gradient != 0)

    def of_nan(self) -> int:
        """Return how far a NaN there spreads: through all that may depend on it."""
        # Everywhere if it breaks the network: a table look-up, for instance, takes none.
        poisoned = self._x.clone()
        poisoned[self._block(poisoned)] = torch.nan
        try:
            with torch.no_grad():
                return self._beyond(self._call(poisoned).isnan())
        except (RuntimeError, IndexError, ValueError):
            return max(self._x.shape[-2:])

    def of_change(self) -> int:
        """Return how far other pixels there are seen by more than rounding."""
        moved = self._x.clone()
        block = self._block(moved)
        moved[block] = 1 - moved[block]
        with torch.no_grad():
            return self._beyond((self._call(moved) - self._call(self._x.clone())).abs() > 1e-6)

    def is_within(self, margin: int, rounding: float = 1e-6) -> bool:
        """Return whether the output there stays when all beyond `margin` of it changes."""
        near = self._block(self._x, margin)
        changed = 1 - self._x
        changed[near] = self._x[near]
        with torch.no_grad():
            y, other = (self._call(each) for each in (self._x.clone(), changed))
        return torch.allclose(y[self._block(y)], other[self._block(y)], atol=rounding)
