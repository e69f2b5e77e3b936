"""Check whether a gradient may be needed, or memory be overwritten."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def learns(x: Tensor, *modules: object) -> bool:
    """Return whether a gradient of the outputs of `modules` for `x` may be needed.

    Where it is false, they may work in pieces and overwrite `x`.
    """
    parts = [module for module in modules if isinstance(module, nn.Module)]
    # Checkpointing runs a first pass without gradients, and needs its input once more.
    if any(part.training for part in parts):
        return True
    if not torch.is_grad_enabled():
        return False
    return x.requires_grad or any(p.requires_grad for part in parts for p in part.parameters())
