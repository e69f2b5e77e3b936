"""What every restoration model is to the engine: a module with a card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from napari_restore.models._card import ModelCard
from napari_restore.models._context import Context

Facts = Mapping[str, Tensor]
"""Small tensors that `prepare` draws from the whole image: airlight, tables …"""

ToModel = Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]
"""Maps source values (..., C), all bands of the image, into the model's range."""


class RestorationModel(nn.Module):
    """A network or classical method behind one interface.

    ``model(x)`` with ``x`` (N, C, H, W) float32, nominally in [0, 1] (values
    outside are carried, not clipped), is the one-shot reference: facts are then
    taken from ``x`` itself. The engine calls `prepare` once per image and
    `forward` per tile, and both agree.
    """

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        self.spec: dict[str, Any] = {}
        """What `load` needs to make this model again; empty when it cannot."""

    def prepare(self, context: Context, to_model: ToModel, bands: tuple[int, ...]) -> Facts:
        """Facts of one image; `bands` are the image's band numbers behind x's channels."""
        return {}

    def forward_with_maps(
        self, x: Tensor, facts: Facts | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The restored image and the side maps named by the card, each (N, 1 or C, H, W).

        `valid` (N, 1, H, W) bool marks pixels that count; invalid ones may hold
        anything finite and their results are thrown away.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, facts: Facts | None = None, valid: Tensor | None = None) -> Tensor:
        return self.forward_with_maps(x, facts, valid)[0]


def one_shot_facts(model: RestorationModel, x: Tensor, valid: Tensor | None = None) -> Facts:
    """The facts of ``x`` (1, C, H, W) taken as a whole image."""
    from napari_restore.models._context_pass import context_of

    pixels = x[0].permute(1, 2, 0).contiguous().numpy(force=True)
    mask = None if valid is None else valid[0, 0].numpy(force=True)
    context = context_of(pixels, mask)
    return model.prepare(context, lambda v: np.asarray(v, np.float64), tuple(range(x.shape[1])))
