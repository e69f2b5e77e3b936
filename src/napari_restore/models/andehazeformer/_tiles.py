"""What a sweep of anDehazeFormer sees of its tiles: planes and tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_restore.models._steps import SweepInput
from napari_restore.models.andehazeformer._network import AnDehazeNetwork


def seen(model: AnDehazeNetwork, given: SweepInput) -> tuple[Tensor, Tensor]:
    """Return the planes (N, 10, h, w), and which pixels count (N, 1, h, w) bool."""
    x = given.view
    assert x is not None
    valid = given.valid
    if valid is None:
        valid = torch.ones_like(x[:, :1], dtype=torch.bool)
    return model.planes(x, given.statistics, valid), valid


def tokens_of(given: SweepInput, layer: int) -> Tensor:
    """Return tokens (N, h, w, C) of a map."""
    return given.maps[f"tokens{layer}"].permute(0, 2, 3, 1)
