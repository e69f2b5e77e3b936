"""IPL as a model of the whole image."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from napari_restore.errors import BadParameter
from napari_restore.models._card import ModelCard
from napari_restore.models._model import Statistics
from napari_restore.models._sweeps import Sweep, SweptModel
from napari_restore.models.ipl._config import IplConfig
from napari_restore.models.ipl._network import IplNetwork


class Ipl(IplNetwork, SweptModel):
    """IPL as a model of whole images."""

    def steps(self) -> tuple[Sweep, ...]:
        raise BadParameter(
            f"Model {self.card.id} cannot be run tile by tile yet.", "Choose mertens."
        )

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self.whole(x, valid), {}


SMALL: dict[str, Any] = {"dim": 24, "blocks": 4, "affine": 1}
"""Sizes of `ipl-small`: 0.2 M weights, cubes of 1 GMAC."""


def make(card: ModelCard, **sizes: int) -> Ipl:
    """Return a network of the published size, but for `sizes`: fields of `IplConfig`."""
    return Ipl(card, IplConfig(**sizes))


def make_small(card: ModelCard, **sizes: int) -> Ipl:
    """Return a network of the small size, but for `sizes`."""
    return make(card, **{**SMALL, **sizes})
