"""HINT by crops that overlap, each judged alone, as the published scripts score some sets."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from napari_restore.errors import BadParameter
from napari_restore.models._card import ModelCard
from napari_restore.models._context import Context
from napari_restore.models._model import Statistics, ToModel
from napari_restore.models.hint._config import STRIDE, HintConfig
from napari_restore.models.hint._network import HintNetwork
from napari_restore.models.hint._sweeps import refuse_carried

SIZE = "size"
"""Statistic (2,) int64: height and width of the image in pixels of the context."""


class HintByCrops(HintNetwork):
    """HINT on crops of the image; where they overlap, results are averaged uniformly.

    Crops start every `crop` − `overlap` pixels from the image's origin, the last flush with its
    edge; an image that is smaller than a crop is one. A crop has the same pixels in every tile that
    it touches. Source: the scripts of HINT (Zhou et al., ICCV 2025) for Snow100K and LOL-v2-real.
    """

    def __init__(self, card: ModelCard, config: HintConfig) -> None:
        super().__init__(card, config)
        refuse_carried(card)
        self.crop, self.overlap = int(card.values["crop"]), int(card.values["overlap"])
        if self.crop % STRIDE:
            raise BadParameter(
                f"A crop of {self.crop} pixels is no multiple of {STRIDE}.",
                f"Use crop={-(-self.crop // STRIDE) * STRIDE}.",
            )
        if self.overlap >= self.crop:
            raise BadParameter(
                f"Crops of {self.crop} pixels cannot overlap by {self.overlap}.",
                f"Use an overlap below the crop, such as overlap={self.crop // 2}.",
            )
        self.card = replace(
            card,
            scope="local",
            halo=self.crop,
            needs_context=True,
            placed=True,
            uses_validity=True,
            routing=(),
        )

    def prepare(self, context: Context, to_model: ToModel, bands: tuple[int, ...]) -> Statistics:
        return {SIZE: torch.tensor([context.height, context.width])}

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        size, origins = tuple(x.shape[2:]), [(0, 0)] * len(x)
        if statistics is not None:
            scale = float(statistics["scale"])
            size = tuple(math.ceil(side / scale) for side in statistics[SIZE].tolist())
            origins = statistics["origin"].tolist()
        masks = [None] * len(x) if valid is None else torch.split(valid, 1)
        images = zip(torch.split(x, 1), origins, masks, strict=True)
        return torch.cat([self._averaged(*image, size) for image in images]), {}

    def _averaged(
        self, x: Tensor, origin: tuple[int, ...], valid: Tensor | None, size: tuple[int, ...]
    ) -> Tensor:
        """Return the mean of all crops of an input box (1, 3, h, w) that begins at `origin`.

        Pixels of the box that no computed crop covers stay as they are: they are halo, or invalid.
        """
        total, number = torch.zeros_like(x), torch.zeros_like(x[:, :1])
        rows, columns = (self._along(*axis) for axis in zip(size, origin, x.shape[2:], strict=True))
        for window in product((...,), rows, columns):
            mask = None if valid is None else valid[window]
            if mask is not None and not bool(mask.any()):
                continue
            total[window] += self._restored(x[window], mask)
            number[window] += 1
        return torch.where(number > 0, total / number.clamp(min=1), x)

    def _restored(self, crop: Tensor, valid: Tensor | None) -> Tensor:
        if not crop.requires_grad:
            return self.whole(crop, valid)
        # The graphs of all crops together would be many times that of the box.
        restored: Tensor = checkpoint(
            self.whole, crop, valid, use_reentrant=False, preserve_rng_state=False
        )
        return restored

    def _along(self, size: int, origin: int, length: int) -> list[slice]:
        """Return the crops along one axis that reach pixels of the box which are no halo.

        `size` is that of the image, `origin` where the box begins in it, `length` its own; slices
        are counted from `origin`.
        """
        first = self.card.halo if origin > 0 else 0
        end = length if origin + length >= size else length - self.card.halo
        starts = [*range(0, size - self.crop, self.crop - self.overlap), max(0, size - self.crop)]
        ranges = [(start - origin, min(start + self.crop, size) - origin) for start in starts]
        return [
            slice(max(0, low), min(length, high))
            for low, high in ranges
            if low < end and high > first
        ]
