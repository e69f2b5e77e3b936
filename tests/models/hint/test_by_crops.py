"""Crops that overlap: the published scripts' average, whatever the tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.models._tiling import random_cores
from tests.models.hint.test_network import network, picture
from torch import Tensor

import napari_restore as nr
from napari_restore.commands import main
from napari_restore.errors import BadParameter
from napari_restore.models import load, one_shot_statistics, placed_at
from napari_restore.models.hint.ways import HintByCrops

WAY = {"statistics": "crop", "crop": 32, "overlap": 8, "cache_rounding": "none"}


def model_of(**values: object) -> HintByCrops:
    model = network({**WAY, **values})
    assert isinstance(model, HintByCrops)
    return model


def literal(model: HintByCrops, x: Tensor, crop: int, overlap: int) -> Tensor:
    """Crop by crop as the published scripts do: results added, then divided by their number."""
    whole = network({"cache_rounding": "none"})
    height, width = x.shape[2:]
    high, wide = min(crop, height), min(crop, width)
    tops = [*range(0, height - high, crop - overlap), height - high]
    lefts = [*range(0, width - wide, crop - overlap), width - wide]
    total, number = torch.zeros_like(x), torch.zeros_like(x)
    for top in tops:
        for left in lefts:
            part = (..., slice(top, top + high), slice(left, left + wide))
            total[part] += whole(x[part])
            number[part] += 1
    return total / number


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "crop", "overlap"),
    [
        ((71, 53), 32, 8),
        ((64, 56), 32, 0),
        ((34, 37), 32, 31),
        ((19, 90), 32, 16),
        ((7, 5), 32, 16),
        ((32, 32), 32, 16),
    ],
)
@pytest.mark.ids("nightly", "size0-32-8", "size1-32-0", "size2-32-31")
def test_it_is_the_average_of_the_scripts(size: tuple[int, int], crop: int, overlap: int):
    model, x = model_of(crop=crop, overlap=overlap), picture(1, *size)
    torch.testing.assert_close(model(x), literal(model, x, crop, overlap), rtol=0, atol=1e-12)


@pytest.mark.nightly
def test_images_of_a_batch_are_cropped_alone():
    model, x = model_of(), torch.cat([picture(1, 40, 50), picture(2, 40, 50)])
    assert torch.equal(model(x), torch.cat([model(x[:1]), model(x[1:])]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.ids("nightly", "0", "1")
def test_tiles_are_the_whole(seed: int):
    model, x = model_of(), picture(2, 97, 90)
    statistics, whole = one_shot_statistics(model, x), model(x)
    assert (model.card.scope, model.card.halo) == ("local", 32)
    for y0, x0, y1, x1 in random_cores(97, 90, 8, seed):
        top, left = max(0, y0 - 32), max(0, x0 - 32)
        box = x[..., top : y1 + 32, left : x1 + 32]
        y = model(box, placed_at(statistics, [(top, left)], 1.0, x))
        core = y[..., y0 - top : y1 - top, x0 - left : x1 - left]
        assert torch.equal(core, whole[..., y0:y1, x0:x1])


@pytest.mark.slow
def test_tiles_of_a_coarser_level_are_its_whole():
    model, x = model_of(), picture(3, 66, 75)
    statistics = one_shot_statistics(model, picture(3, 262, 298))
    whole = model(x, placed_at(statistics, [(0, 0)], 4.0, x))
    assert torch.equal(whole, model(x))
    low = model(x[..., 16:, 24:], placed_at(statistics, [(16, 24)], 4.0, x))
    assert torch.equal(low[..., 32:, 32:], whole[..., 48:, 56:])


@pytest.mark.slow
@pytest.mark.nightly
def test_the_engine_restores_what_the_network_gives(quick_plans: None):
    model, x = model_of().float(), picture(4, 136, 150).float()
    pixels, expected = x[0].permute(1, 2, 0).numpy(), model(x)[0].permute(1, 2, 0).numpy()
    image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
    plan = nr.plan(image, model, tile=128, device="cpu")
    assert (plan.to_dict()["scope"], plan.layout.halo, plan.staged) == ("local", 32, None)
    restored = np.asarray(nr.restore(image, model, tile=128, device="cpu"))
    assert np.abs(restored - expected).max() < 1e-6 * np.ptp(expected)
    part = nr.restore(image, model, region=nr.Region(30, 70, 40, 140), device="cpu")
    assert np.abs(np.asarray(part) - expected[30:40, 70:140]).max() < 1e-6 * np.ptp(expected)


@pytest.mark.slow
def test_invalid_pixels_weigh_nothing():
    model, x = model_of(overlap=0), picture(5, 32, 96)
    valid = torch.ones(1, 1, 32, 96, dtype=torch.bool)
    valid[..., 40:] = False
    y = model(x, None, valid)
    # The second crop counts its first columns alone, as by itself; the third is not computed.
    torch.testing.assert_close(
        y[..., 32:64],
        network({"cache_rounding": "none"}).whole(x[..., 32:64], valid[..., 32:64]),
        rtol=0,
        atol=1e-12,
    )
    assert torch.equal(y[..., 64:], x[..., 64:])
    assert torch.equal(y[..., :32], model(x)[..., :32])


def test_odd_contents_are_restored():
    model = model_of()
    for x in (picture(6, 1, 1), torch.full((1, 3, 40, 40), 0.5, dtype=torch.float64)):
        assert torch.isfinite(model(x)).all()
    x = picture(6, 40, 40)
    assert torch.equal(model(x, None, torch.zeros(1, 1, 40, 40, dtype=torch.bool)), x)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"crop": 128, "overlap": 128}, "Crops of 128 pixels cannot overlap by 128"),
        ({"crop": 100}, "A crop of 100 pixels is no multiple of 8"),
        ({"crop": 0}, "crop = 0 is outside"),
        ({"overlap": -1}, "overlap = -1 is outside"),
        ({"cache_start": "carry"}, "depends on the image before"),
    ],
)
def test_impossible_crops_are_refused(values: dict, told: str):
    given = {"statistics": "crop", **values}
    with pytest.raises(BadParameter, match=told):
        load("hint-small", weights="random:0", parameters=given)


def test_the_command_line_refuses_them_with_a_sentence(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["restore", str(sample), "-o", str(tmp_path / "out.tif")]
    settings = ["--set", "statistics=crop", "--set", "crop=64"]
    assert main([*words, "--model", "hint-small-denoise", *settings]) == 2
    assert "Crops of 64 pixels cannot overlap by 128." in capsys.readouterr().err
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.slow
def test_its_gradient_is_that_of_the_average():
    model, x = model_of(), picture(7, 45, 40)
    expected_x = x.clone().requires_grad_(True)
    x.requires_grad_(True)
    (found,) = torch.autograd.grad(model(x)[..., 10:30, 8:30].square().sum(), x)
    y = literal(model, expected_x, 32, 8)[..., 10:30, 8:30]
    (expected,) = torch.autograd.grad(y.square().sum(), expected_x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.nightly
def test_its_pixels_are_attributed(quick_plans: None):
    model = model_of(overlap=0).float()
    pixels = picture(8, 40, 48)[0].permute(1, 2, 0).float().numpy()
    box = nr.Region(8, 8, 16, 16)
    attribution = nr.attribute(pixels, model, box=box, steps=3, memory="1GiB", device="cpu")
    assert np.isfinite(attribution.map).all() and np.abs(attribution.map).max() > 0
    # A crop of 32 pixels from the origin, one flush with the edge.
    assert not np.asarray(attribution.map)[:, 40:].any()


def test_a_draft_keeps_the_crops():
    """Smaller ones would be no multiples of 8, and unlike those of the training."""
    from napari_restore.plugin.runs.draft import scaled_parameters

    card = nr.load_model("hint-small", weights="random:0").card
    assert dict(scaled_parameters(card, {"crop": 200}, 8)) == {"crop": 200}
