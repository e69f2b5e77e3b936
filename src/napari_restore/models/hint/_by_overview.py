"""HINT by what its attention layers see of the overview: one pass over the image, approximate."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from napari_restore.models._card import ModelCard
from napari_restore.models._context import Context
from napari_restore.models._model import Statistics, ToModel, one_shot_statistics
from napari_restore.models._padding import pad_to_multiple
from napari_restore.models._steps import RESTORED, Steps
from napari_restore.models._sweeps import run_steps
from napari_restore.models.atmosphere._small import small_overview
from napari_restore.models.hint._config import STRIDE, HintConfig
from napari_restore.models.hint._network import HintNetwork
from napari_restore.models.hint._sweeps import SHARE, sweeps_of

SIDE = 1024
"""Longest side in pixels of the picture that stands for the image."""


class HintByOverview(HintNetwork):
    """HINT whose order, attention and norms of every layer are those of the image's overview.

    With them the network is local: a tile needs the halo that it has once all sums are known. It
    equals the whole network where the overview is the image itself, up to `SIDE` pixels.
    """

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
            return self.whole(x, valid), {}
        masks = [None] * len(x) if valid is None else torch.split(valid, 1)
        images = zip(torch.split(x, 1), masks, strict=True)
        each = [self._restored(one, one_shot_statistics(self, one, mask)) for one, mask in images]
        return torch.cat(each), {}

    def _restored(self, x: Tensor, statistics: Statistics) -> Tensor:
        height, width = x.shape[2:]
        known = {name: value.to(x.device) for name, value in statistics.items() if name != "scale"}
        outputs, _ = run_steps(self._sweeps, pad_to_multiple(x, STRIDE), known)
        return outputs[RESTORED][..., :height, :width]
