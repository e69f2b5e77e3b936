"""Common base of the classical methods."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_restore.models._model import RestorationModel, Statistics, one_shot_statistics


class ClassicalModel(RestorationModel):
    """A method without weights: whole-image statistics, then a rule per tile.

    Subclasses write `restore`; statistics left out are taken from every image of the
    batch by itself.
    """

    def restore(
        self, x: Tensor, statistics: Statistics, valid: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the result of `forward_with_maps`; `valid` is None if all pixels are."""
        raise NotImplementedError

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if valid is not None and bool(valid.all()):
            valid = None
        if statistics is not None:
            return self.restore(x, {k: v.to(x.device) for k, v in statistics.items()}, valid)
        images, maps = [], []
        for n in range(x.shape[0]):
            one, one_valid = x[n : n + 1], None if valid is None else valid[n : n + 1]
            one_statistics = {
                k: v.to(x.device) for k, v in one_shot_statistics(self, one, one_valid).items()
            }
            image, side = self.restore(one, one_statistics, one_valid)
            images.append(image)
            maps.append(side)
        return torch.cat(images), {k: torch.cat([m[k] for m in maps]) for k in maps[0]}


def exact_device(x: Tensor) -> torch.device:
    """Return the device for float64 sums over `x`: its own, unless that has no float64."""
    return torch.device("cpu") if x.device.type == "mps" else x.device
