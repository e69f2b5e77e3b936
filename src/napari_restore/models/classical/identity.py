"""The model that changes nothing."""

from __future__ import annotations

from torch import Tensor

from napari_restore.models._card import ModelCard
from napari_restore.models._model import Statistics
from napari_restore.models.classical.base import ClassicalModel


class Identity(ClassicalModel):
    """A model that returns its input, to show the effect of reading and writing alone."""

    def restore(
        self, x: Tensor, statistics: Statistics, valid: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return x, {}


def make(card: ModelCard) -> Identity:
    """Return the model of a card."""
    return Identity(card)
