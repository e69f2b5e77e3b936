"""A tiny run: a small network, a feed of made-up crops, two dev scenes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_restore_lab.data import Batch, Recipe
from napari_restore_lab.loop import Pictures, TrainConfig, config_of
from napari_restore_lab.synthetic_haze import ClearScene

SIZE = 32


@dataclass
class MadeUpFeed:
    """Batches that follow from their number; those of `spoilt` steps hold infinity."""

    recipe: Recipe
    spoilt: frozenset[int] = frozenset()

    def batches(self, start_step: int = 0) -> Generator[Batch, None, None]:
        step = start_step
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> Batch:
        n, size = self.recipe.batch, self.recipe.size
        generator = torch.Generator().manual_seed(step)
        clear = torch.rand(n, 3, size, size, generator=generator)
        depth = torch.rand(n, 1, 1, 1, generator=generator).expand(n, 1, size, size)
        airlight = torch.full((n, 3), 0.9)
        t = torch.exp(-depth)
        hazy = clear * t + airlight[:, :, None, None] * (1 - t)
        if step in self.spoilt:
            hazy[0, 0, 0, 0] = torch.inf
        valid = torch.ones(n, 1, size, size, dtype=torch.bool)
        return Batch(hazy, clear, depth, airlight, valid, ("a",) * n)


TABLES: dict[str, Any] = {
    "model": {"id": "haze-unet", "sizes": {"width": 4, "blocks": 1}},
    "data": {"index": "pictures"},
    "recipe": {"size": SIZE, "batch": 2},
    "optimiser": {"lr": 1e-3, "warmup": 5},
    "run": {
        "output": "run",
        "steps": 50,
        "threads": 1,
        "log_every": 1,
        "score_every": 25,
        "checkpoint_every": 20,
    },
    "score": {"scenes": 1, "side": 64, "classical": False},
}


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., TrainConfig]:
    """A configuration whose tables are those above with others' keys over them."""

    def make(**tables: Any) -> TrainConfig:
        content = dict(TABLES)
        for name, table in tables.items():
            old = content.get(name, {})
            content[name] = {**old, **table} if isinstance(table, dict) else table
        return config_of(content, tmp_path)

    return make


@pytest.fixture
def make_pictures() -> Callable[..., Pictures]:
    """Pictures whose feed spoils the batches of the given steps."""

    def make(*spoilt: int, dev: bool = True) -> Pictures:
        rng = np.random.default_rng(3)
        scenes = [
            ClearScene(kind, kind, rng.random((64, 64, 3), np.float32), np.ones((64, 64), bool))
            for kind in ("aerial", "natural")
        ]
        rows = [{"name": "a.jpg", "source": "a", "licence": "CC0-1.0"}]
        return Pictures(
            lambda recipe: MadeUpFeed(recipe, frozenset(spoilt)), rows, scenes if dev else []
        )

    return make
