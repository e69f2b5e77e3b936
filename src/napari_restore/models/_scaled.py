"""Networks whose results have another size than their input, on the grid of their results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from torch import Tensor, nn

from napari_restore.models._card import ModelCard
from napari_restore.models._model import RestorationModel
from napari_restore.models._wrap import WrappedModel

_MADE = "_on_output_grid"


class OnOutputGrid(WrappedModel):
    """`source`, a model of scale N or 1/N, as one whose results have the size of its input.

    It sees the image resampled to the grid of the results by nearest neighbours, of which it takes
    what `source` sees: with scale N every N-th pixel, which are those of the image. With scale 1/N
    it is given N² images, (N, N² · C, h, w), in which the image's pixels lie by row and column within
    blocks of N × N. So everything that holds for a model holds for it: halo, steps and sizes on its
    card are in pixels of the result.
    """

    def __init__(self, source: WrappedModel) -> None:
        RestorationModel.__init__(self, _card_on_grid(source.card))
        self.module = _Sampled(source)
        self._found = None
        self._card = source.card
        for name in ("measured", "structure", "spec", "code", "claimed_step"):
            setattr(self, name, getattr(source, name))
        if self.claimed_step is not None:
            self.claimed_step = self.card.multiple_of
        self.train(source.training)

    @property
    def source(self) -> WrappedModel:
        """The model itself."""
        return self.module.source

    @property
    def network(self) -> nn.Module:
        return self.source.network

    @property
    def described(self) -> WrappedModel:
        return self.source

    @property
    def least_box(self) -> int:
        return math.ceil(self.source.least_box * self.card.ratio)

    def shape_for(self, shape: Sequence[int]) -> tuple[int, ...]:
        count, planes, *size = shape
        return (count, planes // self.card.inputs, *size)

    def state_on_source(self) -> None:
        """State on the card of `source` what is stated on this one, in pixels of the input."""
        source, ratio, card = self.source, self.card.ratio, self.card
        if source.claimed_step is None:
            source.claimed_step = source.card.multiple_of
        halo, step = (math.ceil(each / ratio) for each in (card.halo, card.multiple_of))
        source.card = self._card = replace(source.card, halo=halo, multiple_of=step)


class _Sampled(nn.Module):
    """What `source` makes of the pixels that an image on the grid of its results has of its input."""

    source: WrappedModel

    def __init__(self, source: WrappedModel) -> None:
        super().__init__()
        self.source = source
        self.ratio = source.card.ratio

    def forward(self, x: Tensor) -> Any:
        height, width = x.shape[-2:]
        up, down = self.ratio.numerator, self.ratio.denominator
        if down > 1:
            count, planes = x.shape[0], x.shape[1] // down**2
            blocks = x.reshape(count, down, down, planes, height, width)
            x = blocks.permute(0, 3, 4, 1, 5, 2)
            x = x.reshape(count, planes, height * down, width * down)
        else:
            x = x[..., ::up, ::up].contiguous()
        return self.source.image_of(x)[..., :height, :width]


def _card_on_grid(card: ModelCard) -> ModelCard:
    """Return `card` with sizes in pixels of the result."""
    ratio = card.ratio
    step = math.lcm(card.multiple_of, ratio.denominator)
    padded = None if card.padded_to is None else math.lcm(card.padded_to, ratio.denominator)
    return replace(
        card,
        halo=math.ceil(card.halo * ratio),
        multiple_of=int(step * ratio),
        padded_to=None if padded is None else int(padded * ratio),
        min_size=max(1, math.ceil(card.min_size * ratio)),
        inputs=ratio.denominator**2,
    )


def on_output_grid(model: RestorationModel) -> RestorationModel:
    """Return `model` on the grid of its results: itself where that is the grid of its input.

    It is made once for each model and card.
    """
    if model.card.ratio == 1 or isinstance(model, OnOutputGrid):
        return model
    assert isinstance(model, WrappedModel)
    made: OnOutputGrid | None = vars(model).get(_MADE)
    if made is None or made.source is not model or made._card is not model.card:
        made = OnOutputGrid(model)
        # No part of the model: `setattr` would make it one.
        vars(model)[_MADE] = made
    return made
