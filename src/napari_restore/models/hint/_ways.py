"""HINT by the value of its parameter `statistics`: what an attention layer sums over."""

from __future__ import annotations

from napari_restore.models._card import ModelCard
from napari_restore.models.hint._by_crops import HintByCrops
from napari_restore.models.hint._by_overview import HintByOverview
from napari_restore.models.hint._config import HintConfig
from napari_restore.models.hint._network import HintNetwork
from napari_restore.models.hint._sweeps import Hint

WAYS: dict[str, type[HintNetwork]] = {
    "image": Hint,
    "overview": HintByOverview,
    "crop": HintByCrops,
}
SMALL = {"width": 16, "blocks1": 1, "blocks2": 2, "blocks3": 2, "latent": 3, "refinement": 1}
"""Sizes of `hint-small`: 1.5 M weights, most of the work below full scale."""


def make(card: ModelCard, **sizes: int) -> HintNetwork:
    """Return a network of the published size, but for `sizes`: fields of `HintConfig`."""
    way = WAYS[str(card.values.get("statistics", "image"))]
    return way(card, HintConfig(**sizes))


def make_small(card: ModelCard, **sizes: int) -> HintNetwork:
    """Return a network of the small size, but for `sizes`."""
    return make(card, **{**SMALL, **sizes})
