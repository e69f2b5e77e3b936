"""Measurement of the bands and sizes that a module without a card takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn

STEPS = (*range(1, 11), 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128)
"""Multiples that sizes are tried in: of halvings, and of windows."""
TRIAL_SIDE = 128
BAND_COUNTS = (3, 1, 4)
"""Band counts tried in this order where a module does not define its own."""


def possible_sizes(
    module: Callable[..., Any], counts: Sequence[int] = BAND_COUNTS
) -> Iterator[dict[str, int]]:
    """Return card fields ``bands`` and ``multiple_of`` that `module` takes, the least strict first.

    It is called with (1, bands, side, side) float32 of 0.5, and takes them if it gives the same
    shape back.
    """
    for bands in counts:
        for step in STEPS:
            # Odd multiples, which are none of a larger step.
            first = -(-TRIAL_SIDE // step) | 1
            if all(_keeps_size(module, bands, n * step) for n in (first, first + 2)):
                yield {"bands": bands, "multiple_of": step}


def tried(module: Callable[..., Any], x: torch.Tensor) -> Any:
    """Return what `module` makes of `x` (N, C, H, W) on its device; raises what its code raises."""
    if isinstance(module, nn.Module):
        x = x.to(next(chain(module.parameters(), module.buffers()), x).device)
    with torch.inference_mode():
        return module(x)


def _keeps_size(module: Callable[..., Any], bands: int, side: int) -> bool:
    x = torch.full((1, bands, side, side), 0.5)
    try:
        y = tried(module, x)
    except Exception:  # whatever code of others makes of a size it does not take
        return False
    first = y[0] if isinstance(y, (tuple, list)) and y else y
    return isinstance(first, torch.Tensor) and first.shape == x.shape
