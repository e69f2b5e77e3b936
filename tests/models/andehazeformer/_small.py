"""A network of the smallest sizes that have every part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from napari_restore.models import entry_of, randomise
from napari_restore.models.andehazeformer.config import AnDehazeConfig
from napari_restore.models.andehazeformer.model import AnDehazeFormer
from napari_restore.models.andehazeformer.sphere import ChannelScale, renormalise

TINY = AnDehazeConfig(
    width=8, heads=2, pairs=2, hidden=6, window=4, widths=(3, 2, 2), estimator_width=2
)


def card_with(**values: Any) -> Any:
    card = entry_of("andehazeformer-small").card
    return replace(card, values=card.fill(values))


def network(
    config: AnDehazeConfig = TINY, seed: int = 0, context: int = 0, **values: Any
) -> AnDehazeFormer:
    """Return a network in float64 whose every parameter matters."""
    model = AnDehazeFormer(card_with(**values), config, context, looks=1)
    randomise(model, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name in model.ends:
                tensor *= 50
            elif tensor.ndim < 2 and not name.startswith("atmosphere."):
                tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
        for module in model.modules():
            if isinstance(module, ChannelScale):
                module.shift *= module.pace
    renormalise(model)
    model = model.eval().requires_grad_(False)
    return model if context else model.double()


def pictures(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Return (N, 3, h, w) float64 in [0, 1] whose brightness varies over the picture."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, height, width, generator=generator, dtype=torch.float64)
    ramp = torch.linspace(0, 1, width, dtype=torch.float64) ** 2
    return 0.5 * noise * (1 - 0.8 * ramp) + 0.5 * ramp
