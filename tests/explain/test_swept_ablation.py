"""Heads are left out of networks whose layers judge a pixel by sums over the whole image."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import napari_restore as nr
from napari_restore import Region, api
from napari_restore.errors import BadParameter, InputError

SIZE = (104, 136)
BOX = Region(30, 40, 90, 100)
SITES = [
    pytest.param("hint-small", "latent.2", "3", marks=pytest.mark.slow),
    pytest.param("hint-small", "decoder_level1.1", "1", marks=pytest.mark.slow),
    pytest.param("andehazeformer-small", "windows.2", "2", marks=pytest.mark.slow),
    pytest.param("andehazeformer-small", "globals.1", "4", marks=pytest.mark.slow),
]


@pytest.fixture(autouse=True)
def smaller_trials(measured_on: Callable[..., None]) -> None:
    """Measure what the networks cost on small tiles."""
    measured_on(16, 32)


@pytest.fixture(scope="module")
def pixels() -> Any:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = [np.sin(y / (5 + band)) * np.cos(x / (7 - band)) for band in range(3)]
    noise = np.random.default_rng(0).normal(0, 0.1, (*SIZE, 3))
    return np.clip(0.5 + 0.3 * np.stack(waves, -1) + noise, 0, 1).astype(np.float32)


def restored(pixels: Any, model: Any) -> Any:
    return np.asarray(nr.restore(pixels, model, tile=64, device="cpu", progress=False))


@pytest.mark.parametrize(("model_id", "name", "head"), SITES)
@pytest.mark.ids(
    "nightly",
    "hint-small-latent.2-3",
    "andehazeformer-small-windows.2-2",
    "hint-small-decoder_level1.1-1",
    "andehazeformer-small-globals.1-4",
)
def test_the_effect_of_a_head_is_that_on_the_whole_image(
    pixels: Any, model_id: str, name: str, head: str
) -> None:
    model = nr.load_model(model_id, weights="random:0")
    found = nr.attend(
        pixels, model, [BOX], layers=[name], ablate=True, device="cpu", progress=False
    )
    effect = next(each for each in found.queries[0].effects if each.head == head)
    number = int(head) - 1
    changed = model.without_head(name, number)
    expected = restored(pixels, changed) - restored(pixels, model)
    rows, columns = slice(BOX.y0, BOX.y1), slice(BOX.x0, BOX.x1)
    assert np.abs(expected[rows, columns]).max() > 1e-4
    np.testing.assert_allclose(effect.difference, expected[rows, columns], atol=2e-5)


@pytest.mark.parametrize(("model_id", "name", "head"), SITES[1:3])
@pytest.mark.ids("nightly", "hint-small-decoder_level1.1-1")
def test_a_head_that_is_left_out_twice_changes_nothing(
    pixels: Any, model_id: str, name: str, head: str
) -> None:
    silent = nr.load_model(model_id, weights="random:0").without_head(name, int(head) - 1)
    found = nr.attend(
        pixels,
        silent,
        [(50, 60)],
        layers=[name],
        ablate=True,
        device="cpu",
        progress=False,
    )
    effects = {each.head: each.to_dict() for each in found.queries[0].effects}
    assert effects[head]["without_largest"] < 1e-5
    assert all(each["without_largest"] > 1e-5 for key, each in effects.items() if key != head)


@pytest.mark.nightly
def test_without_all_heads_a_layer_adds_nothing(pixels: Any) -> None:
    x = torch.from_numpy(pixels[:64, :64]).permute(2, 0, 1)[None]
    model = nr.load_model("hint-small", weights="random:0")
    for head in range(4):
        model = model.without_head("latent.1", head)
    bypassed = nr.load_model("hint-small", weights="random:0")
    # What the intra-layer cache makes of zeros is not the heads'.
    for each in (model, bypassed):
        del each.latent[0].attn.intra_modulator
    bypassed.latent[0].attn.project_out.weight.data.zero_()
    with torch.inference_mode():
        torch.testing.assert_close(model(x), bypassed(x))


def test_a_model_that_cannot_be_run_without_a_head_is_refused(pixels: Any) -> None:
    with pytest.raises(BadParameter, match="without a head"):
        nr.load_model("haze-unet", weights="random:0").without_head("x", 0)


@pytest.mark.slow
def test_a_changed_network_is_described_and_is_another_run(tmp_path: Any) -> None:
    path = tmp_path / "town.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    whole = nr.load_model("andehazeformer-small", weights="random:0")
    changed = whole.without_head("globals.1", 3).without_head("windows.2", 0)
    task = json.loads(json.dumps(api.task_of(nr.plan(path, changed))))
    again = api.plan_of(task).model
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(again(x), changed(x), rtol=0, atol=0)
        assert (whole(x) - changed(x)).abs().max() > 1e-4
    # Both results of one file may be open at once.
    results = [nr.restore(path, model, device="cpu", progress=False) for model in (whole, again)]
    assert (np.asarray(results[0]) != np.asarray(results[1])).any()
    with pytest.raises(InputError, match="without some of its heads"):
        api.command_of(api.plan_of(task), tmp_path / "o.png")
