from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from tests.models.inf_dehaze.test_network import HAZE, network
from tests.models.inf_dehaze.test_with_context import behind_a_context
from torch import nn

from napari_restore import metrics
from napari_restore.errors import BadParameter
from napari_restore.extension import cut
from napari_restore.models import randomise
from napari_restore_lab.loop import (
    SMALL,
    ModelConfig,
    depth_in_display,
    log_error,
    make_network,
    masked_l1,
    objective_of,
    small_outputs,
    spectral_l1,
    ssim,
)


def planes(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


@pytest.mark.parametrize("base", [0.0, 0.5, 0.97])
@pytest.mark.parametrize("masked", [False, True])
def test_ssim_is_that_of_the_metrics(base: float, masked: bool):
    rng = np.random.default_rng(0)
    a = np.clip(base + 0.05 * rng.standard_normal((37, 52, 3)), 0, 1).astype(np.float32)
    b = np.clip(a + 0.1 * rng.standard_normal(a.shape), 0, 1).astype(np.float32)
    valid = rng.random(a.shape[:2]) > 0.003 if masked else None
    mask = None if valid is None else torch.from_numpy(valid)[None, None]
    if valid is not None:
        b[~valid] = np.nan
    expected = metrics.ssim(a, b, 1.0, valid)
    assert expected < 0.95
    assert float(ssim(planes(a), planes(b), mask)) == pytest.approx(expected, abs=1e-5)


def test_ssim_has_a_gradient_towards_likeness():
    clear = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    y = (clear * 0.5 + 0.2).requires_grad_()
    before = ssim(y, clear)
    before.backward()
    assert y.grad is not None
    assert ssim(y.detach() + 5 * y.grad, clear) > before


def test_ssim_of_what_no_window_fits_into_is_no_loss():
    small = torch.zeros(1, 3, 10, 30)
    assert ssim(small, small + 1) == 1
    nothing = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    assert ssim(torch.zeros(1, 3, 20, 20), torch.ones(1, 3, 20, 20), nothing) == 1


def test_l1_counts_valid_pixels_only_whatever_the_others_hold():
    a, b = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.25)
    valid = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    valid[..., 0] = False
    b[..., 0] = torch.nan
    assert masked_l1(a, b, valid) == 0.25
    assert masked_l1(a, b, torch.zeros_like(valid)) == 0


def test_log_error_is_psnr_per_picture():
    a = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    b = a + torch.tensor([0.1, 0.02])[:, None, None, None]
    valid = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    valid[..., :3] = False
    b = b.where(valid, torch.nan)
    expected = sum(np.log10(e**2 + SMALL) for e in (0.1, 0.02)) / 2
    assert float(log_error(a, b, valid)) == pytest.approx(expected, abs=1e-4)
    # Both pictures count alike, however unlike their errors.
    assert float(log_error(a, a, valid)) == pytest.approx(np.log10(SMALL))


def test_a_weight_for_an_unknown_loss_is_refused():
    with pytest.raises(BadParameter, match="no key 'depth'"):
        objective_of("haze-unet").weighted({"depth": 1.0})
    assert objective_of("haze-unet").weighted({"l1": 3.0})["l1"] == 3.0
    assert "depth" in objective_of("atmosphere").weights


class Hazed(NamedTuple):
    """A batch of two pictures of 260 × 300 under even haze of depth 0.5, display values."""

    hazy: torch.Tensor
    clear: torch.Tensor
    depth: torch.Tensor
    airlight: torch.Tensor
    valid: torch.Tensor


@pytest.fixture
def hazed() -> Hazed:
    clear = torch.rand(2, 3, 260, 300, generator=torch.Generator().manual_seed(0))
    depth, airlight = torch.full_like(clear[:, :1], 0.5), torch.full((2, 3), 0.9)
    t = torch.exp(-depth)
    hazy = clear * t + 0.9 * (1 - t)
    there = torch.ones_like(depth, dtype=torch.bool)
    return Hazed(hazy, clear, depth, airlight, there)


def test_depth_is_read_off_a_pair_where_it_can_be_told(hazed: Hazed):
    depth, known = depth_in_display(hazed)
    assert torch.allclose(depth[known], torch.tensor(0.5), atol=1e-4)
    assert torch.equal(known, (hazed.clear - 0.9).abs() > 0.1)
    # Added in linear light, haze lifts the dark more than display values would have it.
    dark = Hazed(*(x.clone() for x in hazed))
    linear = dark.clear**2.2 * 0.6 + 0.9**2.2 * 0.4
    dark.hazy.copy_(linear ** (1 / 2.2))
    depth, _ = depth_in_display(dark)
    assert depth[dark.clear < 0.1].mean() > depth[(dark.clear - 0.6).abs() < 0.1].mean() + 0.1


@pytest.mark.slow
def test_a_network_that_inverts_learns_depth_and_airlight_too(hazed: Hazed):
    model = make_network(ModelConfig("inf-dehaze-small"), 0)
    objective = objective_of("inf-dehaze-small")
    found = objective.compute(model, hazed, False, set(objective.weights))
    assert found.keys() == objective.weights.keys()
    # An untrained one tells no haze, under an airlight of 0.8.
    assert found["depth"].item() == pytest.approx(0.5, abs=1e-3)
    assert found["airlight"].item() == pytest.approx(0.1 * (1 - np.exp(-0.5)), abs=1e-4)
    sum(found.values()).backward()
    assert model.head.knots.weight.grad.abs().max() > 0
    # The decoder learns of the tile that is drawn whole.
    assert model.decoder.unembed.weight.grad.abs().max() > 0


def test_what_opaque_fog_hides_is_no_target_but_its_colour_is(hazed: Hazed):
    model = make_network(ModelConfig("atmosphere"), 0)
    objective = objective_of("atmosphere")
    part = Hazed(*(x[..., :96, :96].clone() if x.ndim == 4 else x for x in hazed))
    opaque = slice(48, None)
    part.depth[:, :, opaque] = 3.5
    part.hazy[:, :, opaque] = 0.9

    def losses():
        torch.manual_seed(0)
        with torch.no_grad():
            return objective.compute(model, part, False, set(objective.weights))

    before = losses()
    assert before.keys() == objective.weights.keys()
    part.clear[:, :, opaque] = 1 - part.clear[:, :, opaque]
    assert losses()["l1"] == before["l1"] and losses()["depth"] == before["depth"]
    # A depth that the network cannot tell is not asked of it.
    part.depth[:, :, opaque] = 3.0
    assert losses()["depth"] == before["depth"]
    part.clear[:, 0, opaque] -= 0.2
    part.clear[:, 1, opaque] += 0.1
    part.clear[:, 2, opaque] += 0.1
    tinted = losses()["colour"]
    part.clear[:, :, opaque] = part.clear[:, :, opaque].mean(1, keepdim=True)
    assert tinted > losses()["colour"] + 0.05


def test_the_loss_of_the_spectrum_is_that_of_the_plain_fft():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 2, 3, 24, 32, generator=generator)
    valid = torch.ones(2, 1, 24, 32, dtype=torch.bool)
    waves = torch.fft.rfft2(a - b)
    plain = torch.stack([waves.real, waves.imag]).abs().mean()
    assert float(spectral_l1(a, b, valid)) == pytest.approx(
        float(plain) / (24 * 32) ** 0.5, rel=1e-5
    )
    valid[0, :, :8], a[0, :, :8] = False, torch.nan
    assert torch.isfinite(spectral_l1(a, b, valid))
    model = objective_of("hint-small")
    assert model.weights["fft"] > 0


def test_a_network_that_estimates_the_scattering_learns_it_too(hazed: Hazed):
    model = make_network(ModelConfig("andehazeformer-small"), 0)
    objective = objective_of("andehazeformer-small")
    part = Hazed(*(x[..., :64, :80] if x.ndim == 4 else x for x in hazed))
    found = objective.compute(model, part, False, set(objective.weights))
    assert found.keys() == objective.weights.keys()
    # An untrained one changes nothing.
    assert found["l1"].item() == pytest.approx(masked_l1(part.hazy, part.clear, part.valid).item())
    (found["scattering"] + found["depth"] + found["airlight"]).backward()
    assert model.estimator.dark[0].weight.grad.abs().max() > 0
    assert model.reconstruction.coarse.weight.grad is None
    # What the true transmission and airlight give is the clear image.
    true = {"transmission": torch.exp(-part.depth), "airlight": part.airlight[..., None, None]}
    model.forward_with_maps = lambda *_: (part.clear, true)
    found = objective.compute(model, part, False, {"scattering", "depth", "airlight"})
    for value in found.values():
        assert value.item() == pytest.approx(0, abs=1e-6)


@torch.inference_mode()
def test_what_training_makes_small_is_what_the_network_gives():
    made = network(HAZE)
    x = torch.rand(2, 3, 128, 192, generator=torch.Generator().manual_seed(0))
    rows, columns, chosen = slice(2, None, 3), slice(0, None, 3), torch.tensor([10, 1, 5])
    smooth, depth, airlight, drawn = small_outputs(made, x, rows, columns, chosen)
    whole = torch.cat([cut(image, 64) for image in made(x)])
    assert torch.allclose(drawn, whole[chosen], atol=1e-5)
    # Without the decoder's share the smooth maps are all.
    nn.init.zeros_(made.decoder.unembed.weight)
    nn.init.zeros_(made.decoder.unembed.bias)
    assert torch.allclose(smooth, made(x)[..., rows, columns], atol=1e-5)
    assert depth.shape == airlight.shape == smooth.shape == (2, 3, 42, 64)


def test_training_reaches_all_but_what_is_held():
    made = behind_a_context().train()
    randomise(made, 2)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(not name.startswith("atmosphere."))
    x = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    parts = small_outputs(made, x, slice(0, None, 3), slice(1, None, 3), torch.tensor([2]))
    sum(part.square().mean() for part in parts).backward()  # type: ignore[union-attr]
    for name, parameter in made.named_parameters():
        learned = parameter.grad is not None and bool(parameter.grad.any())
        # What the softmax is invariant to has no gradient: the bias of all bands.
        if not name.endswith("weight_net.2.bias") and "experts" not in name:
            assert learned != name.startswith("atmosphere."), name
