"""What every card says about attention is what its model lists, and can be asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import napari_restore as nr
from napari_restore import api
from napari_restore.explain.attention.measures import ONE_CELL
from napari_restore.models import RestorationModel, card_of, load, model_ids

LARGE = {"hint", "ipl", "inf-dehaze", "inf-dehaze-lite", "inf-dehaze-paper", "inf-dehaze-fast"}
IDS = [
    pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in model_ids()
]
SMALL = ("andehazeformer-small", "hint-small", "inf-dehaze-small", "ipl-small")
SIZE = 72, 100


def model_of(name: str) -> RestorationModel:
    return load(name, weights="random:0" if card_of(name).needs_weights else None)


@pytest.mark.parametrize("name", IDS)
@pytest.mark.ids("nightly", "inf-dehaze-paper", "inf-dehaze-lite")
def test_the_card_names_the_kinds_of_the_sites(name: str) -> None:
    sites = model_of(name).attention_sites()
    assert set(card_of(name).attention) == {site.kind for site in sites}
    assert len({site.name for site in sites}) == len(sites)
    for site in sites:
        assert site.heads and len(set(site.heads)) == len(site.heads)
        assert site.stride >= 1 and (site.window or 1) > abs(site.shift)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.ids("nightly", "inf-dehaze-small", "ipl-small", "hint-small", "andehazeformer-small")
def test_every_family_can_be_asked(name: str, tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    if card_of(name).inputs > 1:
        scene = rng.integers(0, 255, (*SIZE, 3))
        frames = [(scene * light).astype(np.uint8) for light in (0.3, 0.6, 1)]
        image: Any = api.open_bracket(frames, exposures=[-2, 0, 2], align="off")
    else:
        image = nr.open_image(rng.random((*SIZE, 3), np.float32), bands="red=1,green=2,blue=3")
    model = model_of(name)
    y, x = SIZE[0] - 1, SIZE[1] - 1
    found = nr.attend(image, model, [(y, x)], device="cpu", progress=False)
    assert found.layers == tuple(site.name for site in model.attention_sites())
    for site in model.attention_sites():
        maps = found.maps(site.name)
        assert maps.query.y0 <= y < maps.query.y1 and maps.query.x0 <= x < maps.query.x1
        assert maps.query.width == site.stride
        assert maps.stride == (site.key_stride or site.stride)
        values, region, _ = maps.map()
        assert values.shape == region.shape and np.isfinite(values).any()
        if site.kind not in (*ONE_CELL, "channel"):
            np.testing.assert_allclose(maps.weights.sum(axis=1), 1, atol=1e-5)
        if site.kind == "routing":
            assert maps.weights.sum() == pytest.approx(1, abs=1e-5)
        asked = maps.cells[maps.cells[..., 0] >= 0]
        assert (asked >= 0).all()
    for suffix in ("csv", "npz"):
        assert found.save(tmp_path / f"all.{suffix}").stat().st_size > 0
    assert found.save(tmp_path / "one.tif", layer=found.layers[0]).stat().st_size > 0
