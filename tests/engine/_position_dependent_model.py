"""A model whose output depends on where its pixels lie: a map of the whole image, sampled."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

import napari_restore as nr
from napari_restore.models import ModelCard, RestorationModel, Statistics, one_shot_statistics

CARD = ModelCard(
    id="placed-test",
    title="Placed",
    summary="Adds a map of the image.",
    needs_context=True,
    placed=True,
    maps=("transmission", "airlight"),
    transmission_wavelength=550.0,
)
CELLS = 8
"""Overview pixels per cell of the map along a side."""


class CallCounts:
    """Counts that are no part of what a model computes by: it cannot be stored."""

    def __init__(self) -> None:
        self.prepared = 0
        self.calls: list[tuple[list[list[int]], float]] = []

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("counts are not stored")


class Placed(RestorationModel):
    """x + map/4 at the place of each pixel; the map is the overview's brightness in cells."""

    def __init__(self, card: ModelCard = CARD) -> None:
        super().__init__(card)
        self.weight = torch.nn.Parameter(torch.ones(()), requires_grad=False)
        self.seen = CallCounts()
        self.eval()

    def prepare(self, context: Any, to_model: Any, bands: tuple[int, ...]) -> Statistics:
        self.seen.prepared += 1
        seen = to_model(context.overview)[..., list(bands)].mean(axis=2)
        height, width = seen.shape
        rows, columns = (np.arange(0, n, CELLS) for n in (height, width))
        sums = np.add.reduceat(np.add.reduceat(np.nan_to_num(seen), rows, 0), columns, 1)
        counts = np.add.reduceat(np.add.reduceat(np.isfinite(seen), rows, 0, int), columns, 1)
        field = torch.from_numpy(sums / np.maximum(counts, 1))
        return {
            "field": field,
            "cell": torch.tensor(float(CELLS * context.factor), dtype=torch.float64),
            "airlight": torch.full((len(bands),), 0.75),
            "airlight_all": torch.full((context.bands,), 0.75),
            "exponent": torch.tensor(2.0),
        }

    def forward_with_maps(
        self, x: Tensor, statistics: Statistics | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        statistics = one_shot_statistics(self, x, valid) if statistics is None else statistics
        origin, scale = statistics["origin"], statistics["scale"]
        assert origin.shape == (len(x), 2) and origin.dtype == torch.int64
        assert scale.shape == () and scale.dtype == torch.float64
        self.seen.calls.append((origin.tolist(), float(scale)))
        fields = [self._at(statistics, origin[n], scale, x.shape[2:]) for n in range(len(x))]
        field = torch.stack(fields)[:, None].to(x.dtype)
        airlight = statistics["airlight"][None, :, None, None].expand(len(x), -1, 1, 1)
        return x + self.weight * field / 4, {"transmission": 1 - field / 2, "airlight": airlight}

    @staticmethod
    def _at(statistics: Statistics, origin: Tensor, scale: Tensor, size: Any) -> Tensor:
        """The field (h, w) between the middles of its cells."""
        field = statistics["field"]
        parts = []
        for axis in (0, 1):
            place = (origin[axis] + torch.arange(size[axis]) + 0.5) * scale / statistics[
                "cell"
            ] - 0.5
            place = place.clamp(0, field.shape[axis] - 1)
            low = place.floor().long().clamp(max=max(0, field.shape[axis] - 2))
            parts.append((low, (low + 1).clamp(max=field.shape[axis] - 1), place - low))
        (top, bottom, down), (left, right, across) = parts
        down, across = down[:, None], across[None]
        upper = field[top][:, left] * (1 - across) + field[top][:, right] * across
        lower = field[bottom][:, left] * (1 - across) + field[bottom][:, right] * across
        return upper * (1 - down) + lower * down


@functools.cache
def placed() -> Placed:
    """The model, tried out once."""
    return Placed()


def scene(height: int = 300, width: int = 420, bands: int = 3, seed: int = 0) -> np.ndarray:
    """(h, w, C) float32 in [0, 0.7]: detail over a field that differs from place to place."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    field = 0.3 + 0.2 * np.sin(y / 40) * np.cos(x / 55)
    pixels = field[..., None] + 0.1 * rng.random((height, width, bands))
    return pixels.astype(np.float32)


def restore(image: Any, model: RestorationModel, scratch: Any, **options: Any) -> Any:
    """A run on the processor in a folder of its own."""
    return nr.restore(image, model, device="cpu", scratch=scratch, **options)
