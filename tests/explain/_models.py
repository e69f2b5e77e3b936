"""Models whose attributions are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import napari_restore as nr
from napari_restore.models import RestorationModel

HALO = 8


class Pointwise(nn.Module):
    """y = f(x), pixel by pixel or by neighbours."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        # A network has weights: these count for nothing.
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) + 0 * self.nothing


class Small(nn.Module):
    """Three convolutions with a kink and a curve between them, added to the input."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 5, padding=2),
                nn.ReLU(),
                nn.Conv2d(8, 8, 3, padding=1),
                nn.Tanh(),
                nn.Conv2d(8, 3, 3, padding=1),
            )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


def wrapped(module: nn.Module, halo: int = HALO, **card: Any) -> RestorationModel:
    return nr.load_model(
        module, card={"id": "mine", "title": "M", "summary": "S", "bands": 3, "halo": halo, **card}
    )


def scene(height: int = 128, width: int = 160, seed: int = 0) -> np.ndarray[Any, Any]:
    """(h, w, 3) float32 in 0 … 1: waves and noise."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = np.dstack([np.sin(y / 20), np.cos(x / 30), np.sin((x + y) / 40)])
    noise = np.random.default_rng(seed).random((height, width, 3), np.float32)
    return np.asarray(0.5 + 0.3 * waves + 0.2 * (noise - 0.5), np.float32)
