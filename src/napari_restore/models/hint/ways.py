"""HINT by the value of its parameter `statistics`: what an attention layer sums over."""

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
from napari_restore.models._layers import pad_to_multiple
from napari_restore.models._model import Statistics, ToModel, each_image, one_shot_statistics
from napari_restore.models._steps import RESTORED, Steps
from napari_restore.models._sweeps import run_steps
from napari_restore.models.atmosphere.small import small_overview
from napari_restore.models.hint.config import STRIDE, HintConfig
from napari_restore.models.hint.model import Hint
from napari_restore.models.hint.network import HintNetwork
from napari_restore.models.hint.sweeps import SHARE, refuse_carried, restored_at_once, sweeps_of

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

    reads_overview = False

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
        images = zip(each_image(x, valid), origins, strict=True)
        return torch.cat([self._averaged(*image, origin, size) for image, origin in images]), {}

    def _averaged(
        self, x: Tensor, valid: Tensor | None, origin: tuple[int, ...], size: tuple[int, ...]
    ) -> Tensor:
        """Return the mean of all crops of an input box (1, 3, h, w) that begins at `origin`."""
        # Pixels of the box that no computed crop covers stay as they are: they are halo, or
        # invalid.
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
            return restored_at_once(self, crop, valid)
        # The graphs of all crops together would be many times that of the box.
        restored: Tensor = checkpoint(
            restored_at_once, self, crop, valid, use_reentrant=False, preserve_rng_state=False
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


SIDE = 1024
"""Longest side in pixels of the picture that stands for the image."""


class HintByOverview(HintNetwork):
    """HINT whose order, attention and norms of every layer are those of the image's overview."""

    # With them the network is local: a tile needs the halo that it has once all sums are known. It
    # equals the whole network where the overview is the image itself, up to `SIDE` pixels.
    def __init__(self, card: ModelCard, config: HintConfig) -> None:
        super().__init__(card, config)
        self._sweeps = sweeps_of(self)
        halo = Steps(self._sweeps).reach(STRIDE)
        assert halo is not None
        # Placed: like a map of the image, what follows from its overview is no other image's.
        self.card = replace(
            card, scope="local", halo=halo, needs_context=True, placed=True, routing=()
        )

    @torch.no_grad()
    def prepare(self, context: Context, to_model: ToModel, bands: tuple[int, ...]) -> Statistics:
        overview, _, _ = small_overview(context, to_model, bands, self.output.weight.device, SIDE)
        picture, valid = overview.picture.to(self.output.weight.dtype), overview.valid
        mean = (picture * valid).sum((2, 3)) / valid.sum((2, 3)).clamp(min=1)
        # Neighbours see what stands there: black would be an edge.
        picture = torch.where(valid > 0, picture, mean[..., None, None])
        height, width = picture.shape[2:]
        share = height * width / (context.height * context.width)
        shares = torch.tensor([share], dtype=torch.float64, device=picture.device)
        view, counted = pad_to_multiple(picture, STRIDE), None
        if not bool((valid > 0).all()):
            counted = pad_to_multiple(valid > 0, STRIDE)
        # The last sweep only restores.
        known = run_steps(self._sweeps[:-1], view, {SHARE: shares}, counted)[1]
        return {name: value for name, value in known.items() if name != SHARE}

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if statistics is not None:
            return self._restored(x, statistics), {}
        if self.training:
            # A crop is its own overview.
            return restored_at_once(self, x, valid), {}
        each = [
            self._restored(one, one_shot_statistics(self, one, own))
            for one, own in each_image(x, valid)
        ]
        return torch.cat(each), {}

    def _restored(self, x: Tensor, statistics: Statistics) -> Tensor:
        height, width = x.shape[2:]
        known = {name: value.to(x.device) for name, value in statistics.items() if name != "scale"}
        outputs, _ = run_steps(self._sweeps, pad_to_multiple(x, STRIDE), known)
        return outputs[RESTORED][..., :height, :width]


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
