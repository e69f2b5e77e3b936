"""Inf-Dehaze through the engine: streamed equals one-shot, routing and order included."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_restore as nr
from napari_restore.engine.running.tokens import TokenStore
from napari_restore.models import Routing, card_of, cut, load, randomise, stitch
from napari_restore.models.inf_dehaze.config import SMALL
from napari_restore.models.inf_dehaze.network import InfDehaze

SIZE = (533, 1011)
ROLES = "red=1,green=2,blue=3"


@pytest.fixture(scope="module", params=[0, 24], ids=["alone", "context"])
def model(request: pytest.FixtureRequest) -> InfDehaze:
    """The small network, its attention sparse from few tokens on, its change not small."""
    card = replace(card_of("inf-dehaze-small"), values={}, needs_context=True, placed=True)
    made = InfDehaze(card, replace(SMALL, exact_below=512, samples=16), context=request.param)
    randomise(made, 0)
    assert made.head is not None
    assert made.card.needs_context == made.card.placed == (request.param > 0)
    if made.atmosphere is not None:
        shipped = load("atmosphere").state_dict()
        made.atmosphere.load_state_dict(shipped)
    made.head.knots.weight.data *= 30
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray[Any, Any]:
    """Smooth and rough parts, so that tokens differ."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    waves = np.dstack([np.sin(y / 40), np.cos(x / 60), np.sin((x + y) / 90)])
    noise = np.random.default_rng(0).random((*SIZE, 3), np.float32)
    return np.asarray(0.5 + 0.3 * waves + 0.1 * noise * (x > 600)[..., None], np.float32)


@pytest.fixture(scope="module")
def whole(model: InfDehaze, pixels: Any) -> np.ndarray[Any, Any]:
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    with torch.inference_mode():
        return model(x)[0].permute(1, 2, 0).numpy()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tier", "batch"),
    [
        ("ram", 1),
        pytest.param("disk", 4, marks=pytest.mark.slow),
        ("recompute-first", 16),
        pytest.param("recompute", 4, marks=pytest.mark.slow),
        pytest.param("auto", 16, marks=pytest.mark.slow),
    ],
)
@pytest.mark.ids(
    "nightly",
    "alone-ram-1",
    "context-ram-1",
    "context-recompute-4",
    "context-recompute-first-16",
    "alone-recompute-4",
    "alone-auto-16",
    "alone-recompute-first-16",
    "context-disk-4",
    "context-auto-16",
)
def test_streamed_equals_one_shot(
    model: InfDehaze, pixels: Any, whole: Any, tmp_path: Path, tier: str, batch: int
) -> None:
    image = nr.open_image(pixels, bands=ROLES)
    given = {"scratch": tmp_path, "residuals": tier, "tile_batch": batch, "exposure": 0}
    result = nr.restore(image, model, **given)
    spread = float(whole.max() - whole.min())
    assert np.abs(whole - pixels).max() > 0.05
    assert np.abs(np.asarray(result.array) - whole).max() <= 1e-5 * spread


@pytest.mark.slow
@pytest.mark.ids("nightly", "context", "alone")
def test_no_token_goes_another_way(model: InfDehaze, pixels: Any, tmp_path: Path) -> None:
    """Experts and hash buckets of every token, layer by layer, streamed against one-shot."""
    image = nr.open_image(pixels, bands=ROLES)
    plan = nr.plan(image, model, scratch=tmp_path, tile_batch=4)
    nr.start(plan).result()
    assert plan.staged is not None
    store = TokenStore.of(plan)
    assert store is not None
    streamed, _ = store.load(torch.device("cpu"), lambda: None)
    store.close()
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    with torch.inference_mode():
        tokens, _ = model.encode(cut(model.viewed(x)[0], model.tile))
        rows, columns = plan.staged.rows, plan.staged.columns
        grid = stitch(tokens, rows, columns).permute(1, 2, 0).contiguous()
        assert float((grid - streamed).abs().max()) <= 1e-5
        flipped = torch.zeros(grid.shape[:2], dtype=torch.bool)
        grids = [model.place_tokens(grid), model.place_tokens(streamed)]
        for layer in range(model.layers):
            both = Routing(), Routing()
            grids = [
                model.bottleneck_layer(layer, g, None, routing)
                for g, routing in zip(grids, both, strict=True)
            ]
            a, b = (routing.made for routing in both)
            assert set(a) == {
                "experts",
                *(("buckets", head) for head in range(SMALL.bottleneck_heads)),
            }
            for name in a:
                flipped |= (a[name] != b[name]).any(dim=-1).reshape(flipped.shape)
    assert float(flipped.float().mean()) == 0.0
