"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch

from napari_restore.models import RestorationModel


class Average:
    """Exponential moving average of a network; float32, for scoring and saving.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that the random
    start is forgotten quickly. Buffers are those of the network. What weights must satisfy after a
    step (`RestorationModel.after_step`), the average satisfies as well.
    """

    def __init__(self, module: RestorationModel, decay: float) -> None:
        self.module = copy.deepcopy(module).float().eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, module: RestorationModel) -> None:
        """Update the average with `module`."""
        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        parameters = dict(module.named_parameters())
        for name, averaged in self.module.named_parameters():
            averaged.lerp_(parameters[name].detach().float(), share)
        buffers = dict(module.named_buffers())
        for name, buffer in self.module.named_buffers():
            buffer.copy_(buffers[name])
        self.module.after_step()
