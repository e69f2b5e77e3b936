"""Statistics of the overview: exact where it is the image, else seam-free and approximate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.models._tiling import random_cores, tiled
from tests.models.hint.test_network import network, picture
from torch import Tensor
from torch.nn.functional import interpolate

import napari_restore as nr
from napari_restore.errors import BadParameter
from napari_restore.models import load, one_shot_statistics
from napari_restore.models.hint import ways
from napari_restore.models.hint.ways import HintByOverview

WAY = {"statistics": "overview", "cache_rounding": "none"}


def model_of(**values: object) -> HintByOverview:
    model = network({**WAY, **values})
    assert isinstance(model, HintByOverview)
    return model


def whole_of(x: Tensor, valid: Tensor | None = None, **values: object) -> Tensor:
    return network({"cache_rounding": "none", **values})(x, None, valid)


@pytest.mark.parametrize("size", [(40, 64), (33, 50), (1, 1), (3, 20)])
@pytest.mark.parametrize("intra_size", [0, 64])
@pytest.mark.ids("slow", "64-size0")
def test_an_image_that_is_its_own_overview_is_exact(size: tuple[int, int], intra_size: int):
    # A context holds float32.
    x = picture(1, *size).float().double()
    found = model_of(intra_size=intra_size)(x)
    torch.testing.assert_close(found, whole_of(x, intra_size=intra_size), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_images_of_a_batch_have_their_own_overview():
    model, x = model_of(), torch.cat([picture(1, 24, 32), picture(2, 24, 32)])
    assert torch.equal(model(x), torch.cat([model(x[:1]), model(x[1:])]))


@pytest.fixture
def small_overviews(monkeypatch: pytest.MonkeyPatch) -> None:
    """Overviews of at most 64 pixels."""
    monkeypatch.setattr(ways, "SIDE", 64)


def pair_of(seed: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """An image in whose every four pixels are equal, and its overview."""
    small = picture(seed, height, width).float().double()
    return interpolate(small, scale_factor=2), small


@pytest.mark.parametrize("intra_size", [0, 32])
def test_statistics_are_those_of_the_overview(intra_size: int, small_overviews: None):
    model = model_of(intra_size=intra_size)
    x, small = pair_of(3, 40, 64)
    of_x, of_small = (one_shot_statistics(model, image) for image in (x, small))
    assert set(network().counted) <= set(of_x)
    for name in ("order0", "attention0"):
        torch.testing.assert_close(of_x[name], of_small[name])
    # The image has four times the pixels: so its norms are twice those of the overview.
    ratio = 1.0 if intra_size else 0.5
    torch.testing.assert_close(of_x["scales0"], ratio * of_small["scales0"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.ids("nightly", "1")
def test_tiles_are_the_whole(seed: int, small_overviews: None):
    model, x = model_of(), picture(4, 24, 200)
    whole = model(x)
    assert model.card.scope == "local"
    assert model.card.halo == network().reach
    cores = random_cores(24, 200, 8, seed)
    found = tiled(model, x, one_shot_statistics(model, x), cores)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-9)


@pytest.mark.nightly
def test_the_engine_restores_what_the_network_gives(quick_plans: None, small_overviews: None):
    model, x = model_of().float(), picture(5, 150, 170).float()
    pixels, expected = x[0].permute(1, 2, 0).numpy(), model(x)[0].permute(1, 2, 0).numpy()
    image = nr.open_image(pixels, bands="red=1,green=2,blue=3")
    plan = nr.plan(image, model, tile=128, device="cpu")
    assert (plan.to_dict()["scope"], plan.layout.halo) == ("local", model.card.halo)
    assert plan.needs_context and plan.staged is None
    restored = nr.restore(image, model, tile=128, device="cpu")
    assert np.abs(np.asarray(restored) - expected).max() < 1e-5 * np.ptp(expected)
    part = nr.restore(image, model, region=nr.Region(30, 70, 40, 140), device="cpu")
    assert np.abs(np.asarray(part) - expected[30:40, 70:140]).max() < 1e-5 * np.ptp(expected)


def test_invalid_pixels_weigh_nothing(small_overviews: None):
    model, x = model_of(), pair_of(6, 40, 60)[0]
    valid = torch.ones(1, 1, *x.shape[2:], dtype=torch.bool)
    valid[..., 48:] = False
    other = torch.where(valid, x, 5.0)
    found, with_other = (one_shot_statistics(model, image, valid) for image in (x, other))
    for name in model_names(model):
        assert torch.equal(found[name], with_other[name])
    counted = one_shot_statistics(model, other)
    assert not torch.equal(counted["scales0"], found["scales0"])


def model_names(model: HintByOverview) -> tuple[str, ...]:
    return tuple(
        f"{name}{number}" for name in ("order", "attention", "scales") for number in (0, 5)
    )


@pytest.mark.slow
def test_odd_contents_are_restored():
    model = model_of()
    x = torch.full((1, 3, 40, 40), 0.5, dtype=torch.float64)
    torch.testing.assert_close(model(x), whole_of(x), rtol=0, atol=1e-6)
    nothing = torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    assert torch.isfinite(model(picture(7, 40, 40), None, nothing)).all()


def test_in_training_a_crop_is_its_own_overview():
    x = picture(8, 24, 24)
    torch.testing.assert_close(model_of().train()(x), network({"cache_rounding": "none"})(x))


def test_a_cache_of_the_image_before_is_refused():
    given = {"statistics": "overview", "cache_start": "carry"}
    with pytest.raises(BadParameter, match="depends on the image before"):
        load("hint-small", weights="random:0", parameters=given)


@pytest.mark.nightly
def test_pixels_are_attributed_and_the_overview_is_held(quick_plans: None):
    model, pixels = model_of().float(), picture(9, 40, 48)[0].permute(1, 2, 0).float().numpy()
    box = nr.Region(8, 8, 16, 16)
    attribution = nr.attribute(pixels, model, box=box, steps=3, device="cpu")
    assert np.isfinite(attribution.map).all() and np.abs(attribution.map).max() > 0
    with pytest.raises(BadParameter, match="has no gradients"):
        nr.attribute(pixels, model, box=box, context_gradient="through", steps=3, device="cpu")
