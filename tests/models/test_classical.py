"""What the classical methods promise about values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_restore.errors import BadParameter
from napari_restore.models import RestorationModel, context_of, load, one_shot_statistics
from napari_restore.models.classical import hot
from napari_restore.models.classical.base import airlight_of
from napari_restore.models.classical.dcp import DarkChannelPrior
from napari_restore.models.classical.guided import apply_coefficients, box_mean, guided_coefficients

from ._scenes import hazed, land, psnr, smooth

HAZY_MODELS = ["dcp", "hot", "htm"]


@pytest.mark.parametrize("model_id", HAZY_MODELS)
def test_removes_uneven_haze(model_id: str) -> None:
    scene = land(240, 256, seed=2)
    uneven = 1 - 0.6 * (smooth(240, 256, seed=3) - 0.4).clamp(min=0) / 0.6
    x = hazed(scene, uneven)
    # The haze of a small image varies within the default patch.
    y = load(model_id, parameters={"patch_radius": 7} if model_id == "dcp" else None)(x)
    assert psnr(y, scene) > psnr(x, scene) + 1


@pytest.mark.parametrize("model_id", HAZY_MODELS)
def test_leaves_clear_pixels_bit_for_bit(model_id: str) -> None:
    scene = land(240, 256, seed=2)
    x = hazed(scene, 1 - 0.6 * (smooth(240, 256, seed=3) - 0.5).clamp(min=0) / 0.5)
    y = load(model_id)(x)
    same = (y == x).all(1)
    assert 0.1 < float(same.float().mean()) < 0.9


@pytest.mark.parametrize("bands", [1, 3, 4, 13])
def test_dcp_takes_any_bands(bands: int) -> None:
    scene = land(120, 131, bands)
    x = hazed(scene, 0.5)
    y, maps = load("dcp").forward_with_maps(x)
    assert psnr(y, scene) > psnr(x, scene) + 3
    assert maps["transmission"].shape == (1, 1, 120, 131)
    assert maps["airlight"].shape == x.shape


def test_dcp_transmission_is_that_of_the_haze() -> None:
    scene = land(256, 256, seed=4)
    haze = 1 - 0.6 * smooth(256, 256, seed=9)
    airlight = torch.tensor([0.9, 0.85, 0.8])[None, :, None, None]
    x = scene * haze + airlight * (1 - haze)
    model = load("dcp", parameters={"omega": 1.0, "patch_radius": 7, "airlight": "0.9,0.85,0.8"})
    _, maps = model.forward_with_maps(x)
    assert float((maps["transmission"] - haze).abs().mean()) < 0.1


@pytest.mark.parametrize("scale", [1.0, 0.05, 1 / 65535])
def test_dcp_does_not_depend_on_the_range(scale: float) -> None:
    """A dark 16-bit scene is treated like the same scene over the full range."""
    x = hazed(land(160, 160), 0.6)
    model = load("dcp")
    assert torch.allclose(model(x * scale) / scale, model(x), atol=2e-3)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0, -0.2, 1.4])
@pytest.mark.parametrize("model_id", [*HAZY_MODELS, "identity"])
def test_constant_image_stays_finite(model_id: str, value: float) -> None:
    y = load(model_id)(torch.full((1, 3, 40, 33), value))
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("model_id", [*HAZY_MODELS, "identity"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (17, 5)], ids=str)
def test_tiny_images(model_id: str, size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    y, maps = load(model_id).forward_with_maps(x)
    assert y.shape == x.shape
    assert torch.isfinite(y).all()
    assert set(maps) == set(load(model_id).card.maps)


@pytest.mark.parametrize("model_id", HAZY_MODELS)
def test_values_outside_the_range_are_carried(model_id: str) -> None:
    x = hazed(land(96, 96), 0.7)
    x[0, :, 10, 10], x[0, :, 50, 50] = 1.5, -0.1
    y = load(model_id)(x)
    assert torch.isfinite(y).all()
    assert float(y[0, :, 10, 10].min()) > 1


@pytest.mark.parametrize("model_id", HAZY_MODELS)
def test_nothing_valid(model_id: str) -> None:
    x = torch.zeros(1, 3, 40, 40)
    y = load(model_id)(x, valid=torch.zeros(1, 1, 40, 40, dtype=torch.bool))
    assert torch.isfinite(y).all()


def test_identity_returns_its_input() -> None:
    x = torch.randn(2, 4, 9, 7)
    assert torch.equal(load("identity")(x), x)


def test_dcp_airlight_can_be_given() -> None:
    model = load("dcp", parameters={"airlight": "0.9, 0.8, 0.7"})
    statistics = one_shot_statistics(model, land(32, 32))
    assert statistics["airlight"].tolist() == pytest.approx([0.9, 0.8, 0.7])
    one = one_shot_statistics(load("dcp", parameters={"airlight": "0.9"}), land(32, 32, bands=4))
    assert one["airlight"].tolist() == pytest.approx([0.9] * 4)


@pytest.mark.parametrize("text", ["", "red", "0.9,", "0,0,0", "-1", "inf", "0.9;0.8"])
def test_dcp_refuses_a_bad_airlight(text: str) -> None:
    with pytest.raises(BadParameter, match="airlight"):
        load("dcp", parameters={"airlight": text})


def test_dcp_refuses_an_airlight_of_other_bands() -> None:
    model = load("dcp", parameters={"airlight": "0.9,0.8"})
    with pytest.raises(BadParameter, match="2 values for 3 bands"):
        model(land(32, 32))


def test_statistics_follow_the_bands() -> None:
    """Statistics belong to the model's channels, in the model's range."""
    pixels = (hazed(land(64, 64, 4), 0.5)[0].permute(1, 2, 0).numpy() * 1000).astype(np.uint16)
    context = context_of(pixels)
    model = load("dcp")
    whole = model.prepare(context, lambda v: v / 1000.0, (0, 1, 2, 3))["airlight"]
    some = model.prepare(context, lambda v: v / 1000.0, (2, 0))
    assert torch.equal(some["airlight"], whole[[2, 0]])
    assert torch.equal(some["airlight_all"], whole)


def test_hot_corrects_further_bands() -> None:
    """Blue and red tell the haze; all bands given are corrected."""
    scene = land(240, 256, bands=4, seed=2)
    x = hazed(scene, 1 - 0.6 * (smooth(240, 256, seed=3) - 0.4).clamp(min=0) / 0.6)
    y = load("hot")(x)
    for band in range(4):
        assert psnr(y[:, band], scene[:, band]) > psnr(x[:, band], scene[:, band])


def test_hot_takes_no_more_from_a_band_than_haze_adds() -> None:
    """Clear land, half of it paved: bluer than soil, and far brighter in near infrared."""
    soil = land(128, 160, 3)
    paved = soil * torch.tensor([1.3, 1.0, 1.0])[None, :, None, None] + 0.08
    paved[:, 2] += 0.3
    scene = torch.where(smooth(128, 160, 3) > 0.5, paved, soil)
    model = load("hot")
    offsets = one_shot_statistics(model, scene)["offsets"]
    context = context_of(scene[0].permute(1, 2, 0).numpy())
    airlight = torch.from_numpy(airlight_of(context, np.float64, (0, 1, 2)))
    shares = offsets / airlight[:, None]
    assert shares[0].max() > 0.05
    assert (shares[1:] <= shares[0] * (1 + 1e-6)).all()


def test_strength_zero_changes_nothing() -> None:
    x = hazed(land(96, 96), 1 - 0.6 * smooth(96, 96, seed=3))
    for model_id in ("hot", "htm"):
        assert torch.equal(load(model_id, parameters={"strength": 0})(x), x)
    assert torch.equal(load("dcp", parameters={"omega": 0})(x), x)


def test_box_mean_counts_valid_cells_only() -> None:
    x = torch.arange(25.0, dtype=torch.float64).reshape(1, 1, 5, 5)
    weight = torch.ones_like(x)
    weight[..., 2, 2] = 0
    mean = box_mean(x, weight, 1)
    assert float(mean[..., 0, 0]) == pytest.approx((0 + 1 + 5 + 6) / 4)
    assert float(mean[..., 1, 1]) == pytest.approx((0 + 1 + 2 + 5 + 6 + 7 + 10 + 11) / 8)


def test_guided_filter_keeps_a_line_of_its_guide() -> None:
    guide = smooth(40, 44, seed=1).double()
    fit = guided_coefficients(guide, 0.3 * guide + 0.2, torch.ones_like(guide), 4, 1e-9)
    out = apply_coefficients(fit, guide, 1)
    assert float((out - (0.3 * guide + 0.2)).abs().max()) < 1e-3


def test_gradients_reach_the_input() -> None:
    x = hazed(land(64, 64), 0.5).requires_grad_(True)
    model: RestorationModel = load("dcp")
    assert isinstance(model, DarkChannelPrior)
    model(x, one_shot_statistics(model, x.detach())).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert float(x.grad.abs().sum()) > 0


def test_dark_objects_rise_by_what_the_middles_of_the_levels_do() -> None:
    """With as few pixels of each level as count; the two levels at the ends are smoothed."""
    middles = (np.arange(hot.LEVELS) + 0.5) / hot.LEVELS
    haze = np.repeat([0.0, *middles], hot.FEWEST)
    rise = np.array([3.0, 1.0, 0.5])
    found = hot.dark_object_offsets(haze[:, None] * rise + 0.1, haze, 0.0, 1.0)
    there = np.linspace(0, 1, hot.ENTRIES)
    inner = (there > middles[1]) & (there < middles[-2])
    np.testing.assert_allclose(found[:, inner], rise[:, None] * there[inner], atol=1e-6)
    assert not found[:, 0].any()
    # One pixel less below the clear level, and nothing is known.
    assert not hot.dark_object_offsets(haze[1:, None] * rise, haze[1:], 0.0, 1.0).any()
