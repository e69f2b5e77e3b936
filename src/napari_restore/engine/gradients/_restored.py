"""What a local model makes of a box, with its side maps: material for baselines and paths."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_restore.engine._region import Region
from napari_restore.engine._tiles import fed_box
from napari_restore.engine.gradients._opened import Opened

EDGE = 1024
"""Side in pixels of the pieces that a box is computed in."""


def restored(opened: Opened, box: Region) -> tuple[Tensor, dict[str, Tensor]]:
    """(1, C, h, w) in model range and the card's maps (1, 1 or C, h, w), as a run has them."""
    plan, work, size = opened.plan, opened.work, opened.size
    step = plan.model.card.multiple_of
    whole: dict[str, Tensor] = {}
    for y0 in range(box.y0 // EDGE * EDGE, box.y1, EDGE):
        for x0 in range(box.x0 // EDGE * EDGE, box.x1, EDGE):
            opened.check()
            core = Region(y0, x0, y0 + EDGE, x0 + EDGE).intersect(box)
            fed = fed_box(core.align(step).intersect(Region(0, 0, *size)), plan.halo, size, step)
            tile = opened.read(fed)
            x = opened.planes(tile)
            valid = None
            if work.model.card.uses_validity and tile.valid is not None:
                valid = torch.from_numpy(tile.valid)[None, None].to(x.device)
            with opened.computing(), torch.no_grad():
                y, maps = work.model.forward_with_maps(x, work.facts_at([fed], x), valid)
            inner = core.shift(-fed.y0, -fed.x0).slices
            there = core.shift(-box.y0, -box.x0).slices
            for name, values in {"": y, **maps}.items():
                spread = values.expand(-1, -1, *fed.shape)
                if name not in whole:
                    whole[name] = spread.new_empty(1, spread.shape[1], *box.shape)
                whole[name][(..., *there)] = spread[(..., *inner)]
    return whole.pop(""), whole
