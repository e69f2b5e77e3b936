"""Output of a local model for a box, and its side maps, for baselines and paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from napari_restore.engine._region import Region
from napari_restore.engine.gradients._gradient_source import GradientSource

EDGE = 1024
"""Side in pixels of the pieces that a box is computed in."""
Compute = Callable[[Tensor, Region], Mapping[str, Tensor]]
"""Returns planes (1, 1 or C, h, w) of a picture of the given input box, by name."""


def restored(source: GradientSource, box: Region) -> Tensor:
    """Return the model's output for `box`, (1, C, h, w) in model range, as in a run."""
    return _in_pieces(source, box, lambda x, where: {"output": source.output(x, where)[0]})[
        "output"
    ]


def side_maps(source: GradientSource, box: Region) -> dict[str, Tensor]:
    """Return the maps that the model's card names for `box`, each (1, 1 or C, h, w), as in a run."""
    return _in_pieces(source, box, source.side_maps)


def _in_pieces(source: GradientSource, box: Region, compute: Compute) -> dict[str, Tensor]:
    whole: dict[str, Tensor] = {}
    for y0 in range(box.y0 // EDGE * EDGE, box.y1, EDGE):
        for x0 in range(box.x0 // EDGE * EDGE, box.x1, EDGE):
            source.check()
            core = Region(y0, x0, y0 + EDGE, x0 + EDGE).intersect(box)
            input_box = source.input_box(core)
            with torch.no_grad():
                planes = compute(source.image(input_box), input_box)
            inner = core.within(input_box)
            in_box = core.within(box)
            for name, values in planes.items():
                spread = values.expand(-1, -1, *input_box.shape)
                if name not in whole:
                    whole[name] = spread.new_empty(1, spread.shape[1], *box.shape)
                whole[name][(..., *in_box)] = spread[(..., *inner)]
    return whole
