"""Networks whose results have another size than their input, on the grid of results or of inputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from napari_restore.models._card import ModelCard
from napari_restore.models._model import RestorationModel, Statistics
from napari_restore.models._undisturbed import undisturbed
from napari_restore.models._unfit import TRIAL_SIDE
from napari_restore.models._wrap import WrappedModel

_ON_OUTPUT, _ON_INPUT = "_on_output_grid", "_on_input_grid"


class _OfSource(WrappedModel):
    """`source`, a model of scale N or 1/N, seen otherwise; `module` calls it, `card` describes that."""

    def __init__(self, source: WrappedModel, card: ModelCard, module: nn.Module) -> None:
        RestorationModel.__init__(self, card)
        self.module = module
        self._found = None
        self.stated = source.card
        """The card of `source` that this one's follows from."""
        for name in ("measured", "structure", "spec", "code"):
            setattr(self, name, getattr(source, name))
        self.train(source.training)

    @property
    def source(self) -> WrappedModel:
        """The model itself."""
        source = self.module.source
        assert isinstance(source, WrappedModel)
        return source

    @property
    def network(self) -> nn.Module:
        return self.source.network

    @property
    def described(self) -> WrappedModel:
        return self.source

    def grown(self, x: Tensor) -> Tensor:
        # `source` grows what it sees: reflected here, the edge would be repeated first.
        return x


class OnOutputGrid(_OfSource):
    """`source`, a model of scale N or 1/N, as one whose results have the size of its input.

    It sees the image resampled to the grid of the results by nearest neighbours, of which it takes
    what `source` sees: with scale N every N-th pixel, which are those of the image. With scale 1/N
    it is given N² images, (N, N² · C, h, w), in which the image's pixels lie by row and column within
    blocks of N × N. So everything that holds for a model holds for it: halo, steps and sizes on its
    card are in pixels of the result.
    """

    def __init__(self, source: WrappedModel) -> None:
        super().__init__(source, _card_on_grid(source.card), _Sampled(source))
        if source.claimed_step is not None:
            self.claimed_step = self.card.multiple_of

    def forward_with_maps(
        self,
        x: Tensor,
        statistics: Statistics | None = None,
        valid: Tensor | None = None,
        *more: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        known = (statistics or {}).get("sizes")
        sizes = [] if known is None else known.tolist()
        whole = [side * self.card.ratio.denominator for side in x.shape[2:]]
        if all(size == whole for size in sizes):
            return super().forward_with_maps(x)
        each = zip(torch.split(x, 1), sizes, strict=True)
        call = super().forward_with_maps
        return torch.cat([call(one, None, None, size)[0] for one, size in each]), {}

    def size_of(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the module's (height, width) for an image of `size`, which may be tried."""
        source, down = self.source, self.card.ratio.denominator
        step, least = math.lcm(source.size_step, down), max(TRIAL_SIDE, source.least_box)
        if source.size_step % down == 0 or not any(side % down for side in size):
            return tuple(math.ceil(side * self.card.ratio) for side in size)
        small = [-(-least // step) * step + side % step for side in size]
        x = torch.full((1, source.card.bands or 3, *small), 0.5)
        with torch.inference_mode(), undisturbed(source.weighted):
            found = source(x).shape[2:]
        sides = zip(found, size, small, strict=True)
        return tuple(got + (side - tried) // down for got, side, tried in sides)

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
        padded = source.card.size_step
        source.card = self.stated = replace(
            source.card, halo=halo, multiple_of=step, padded_to=padded
        )


class _OfNetwork(nn.Module):
    source: WrappedModel

    def __init__(self, source: WrappedModel) -> None:
        super().__init__()
        # Before calls, which leave no attributes.
        self.source, self.ratio, self.step = source, source.card.ratio, source.size_step


class _Sampled(_OfNetwork):
    """What `source` makes of the pixels that an image on the grid of its results has of its input."""

    def forward(self, x: Tensor, size: Sequence[int] = ()) -> Any:
        height, width = x.shape[-2:]
        up, down = self.ratio.numerator, self.ratio.denominator
        if down > 1:
            count, planes = x.shape[0], x.shape[1] // down**2
            blocks = x.reshape(count, down, down, planes, height, width)
            x = blocks.permute(0, 3, 4, 1, 5, 2)
            x = x.reshape(count, planes, height * down, width * down)
            if size:
                x = x[..., : size[0], : size[1]].contiguous()
        else:
            x = x[..., ::up, ::up].contiguous()
        return _filled(self.source.image_of(x), height, width)


def _filled(y: Tensor, height: int, width: int) -> Tensor:
    """Return `y` (N, C, h, w) cut, or a last row and column repeated, to a size."""
    y = y[..., :height, :width]
    return pad(y, (0, width - y.shape[-1], 0, height - y.shape[-2]), "replicate")


class OnInputGrid(_OfSource):
    """`source`, a model of scale N or 1/N, whose results lie on the grid of its input.

    With scale N an output pixel holds the N × N pixels of the result, (N, C · N², H, W), in the order
    of `pixel_shuffle`; with scale 1/N each pixel of the result is repeated N × N times. For gradients
    by the input.
    """

    def __init__(self, source: WrappedModel) -> None:
        super().__init__(source, replace(_in_blocks(source.card), scale=1), _Packed(source))

    def shape_for(self, shape: Sequence[int]) -> tuple[int, ...]:
        count, planes, *size = shape
        return (count, planes * self.source.card.ratio.numerator**2, *size)


class _Packed(_OfNetwork):
    """What `source` gives, on the grid of its input."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.source.image_of(x)
        up, down = self.ratio.numerator, self.ratio.denominator
        if up > 1:
            return pixel_unshuffle(y, up)
        return _filled(y.repeat_interleave(down, 2).repeat_interleave(down, 3), *x.shape[-2:])


def unpacked(planes: Tensor, ratio: Fraction) -> Tensor:
    """Return the pixels of the result that planes (N, …, H, W) of an `OnInputGrid` hold."""
    up, down = ratio.numerator, ratio.denominator
    return pixel_shuffle(planes, up) if up > 1 else planes[..., ::down, ::down]


def resampled(planes: Tensor, ratio: Fraction) -> Tensor:
    """Return planes (N, C, H, W) of the input on the grid of the result, by nearest neighbours."""
    up, down = ratio.numerator, ratio.denominator
    if up > 1:
        return planes.repeat_interleave(up, 2).repeat_interleave(up, 3)
    rows, columns = (
        torch.arange(down // 2, side + down // 2, down).clamp(max=side - 1)
        for side in planes.shape[2:]
    )
    return planes[..., rows[:, None], columns]


def _in_blocks(card: ModelCard) -> ModelCard:
    """Return `card` with sizes whose results have whole pixels."""
    down = card.ratio.denominator
    padded = None if card.padded_to is None else math.lcm(card.padded_to, down)
    return replace(card, multiple_of=math.lcm(card.multiple_of, down), padded_to=padded)


def _card_on_grid(card: ModelCard) -> ModelCard:
    """Return `card` with sizes in pixels of the result."""
    ratio, card = card.ratio, _in_blocks(card)
    return replace(
        card,
        halo=math.ceil(card.halo * ratio),
        multiple_of=int(card.multiple_of * ratio),
        padded_to=None if card.padded_to is None else int(card.padded_to * ratio),
        min_size=max(1, math.ceil(card.min_size * ratio)),
        inputs=ratio.denominator**2,
    )


def on_output_grid(model: RestorationModel) -> RestorationModel:
    """Return `model` on the grid of its results, made once; itself where that is the grid of its input."""
    if model.card.ratio == 1 or isinstance(model, OnOutputGrid):
        return model
    return _made(model, OnOutputGrid, _ON_OUTPUT)


def on_input_grid(model: RestorationModel) -> RestorationModel:
    """Return `model` with its results on the grid of its input, made once; itself where they lie there."""
    if model.card.ratio == 1:
        return model
    return _made(model.described, OnInputGrid, _ON_INPUT)


def _made(
    model: RestorationModel, kind: type[OnOutputGrid | OnInputGrid], name: str
) -> RestorationModel:
    assert isinstance(model, WrappedModel)
    known = vars(model).get(name)
    if known is not None and known.source is model and known.stated is model.card:
        found: RestorationModel = known
        return found
    made = kind(model)
    # No part of the model: `setattr` would make it one.
    vars(model)[name] = made
    return made
