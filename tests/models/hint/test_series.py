"""Two networks in a row are the second on the result of the first, whatever the tiles."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.models.hint.test_network import picture

import napari_restore as nr
from napari_restore.errors import BadModel
from napari_restore.images import light_of_srgb
from napari_restore.models import SweepInput, entry_of, load, run_steps
from napari_restore.models.hint.model import Hint
from napari_restore.models.hint.network import Place
from napari_restore.models.hint.series import HintSeries, exposed, make_series

TINY = {"width": 8, "blocks1": 1, "blocks2": 1, "blocks3": 1, "latent": 1, "refinement": 1}


@pytest.fixture
def series() -> HintSeries:
    card = entry_of("hint-small-lowlight").card
    sizes = {f"{part}_{name}": n for part in ("denoise", "brighten") for name, n in TINY.items()}
    torch.manual_seed(3)
    made = make_series(replace(card, values=card.fill({})), **sizes).double().eval()
    return made.requires_grad_(False)


def in_a_row(series: HintSeries, x: torch.Tensor) -> torch.Tensor:
    between = series.denoise.whole(x)
    brighten = copy.copy(series.brighten)
    brighten.place = Place()
    bright = brighten(between)
    return exposed(between, bright, exposure_of(between, bright))


def light_of(display: torch.Tensor) -> torch.Tensor:
    """Return linear light, by another library's curve."""
    return torch.from_numpy(light_of_srgb(display.numpy()))


def luminance_of(display: torch.Tensor) -> torch.Tensor:
    light = light_of(display)
    return 0.2126 * light[:, 0] + 0.7152 * light[:, 1] + 0.0722 * light[:, 2]


def exposure_of(between: torch.Tensor, bright: torch.Tensor) -> torch.Tensor:
    """Return the exposure by bisection."""
    share = luminance_of(between.clamp(0, 1))
    share, own = share / (share + 0.0012), luminance_of(bright.clamp(0, 1))

    def is_dark(ev: float) -> bool:
        odds = own / (1 - own) * 2 ** (share * ev)
        return bool((odds / (1 + odds)).clamp(min=1e-4).log().mean() < math.log(0.04))

    low, high = (0.0, 3.0) if is_dark(0) else (0.0, 0.0)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if is_dark(middle) else (low, middle)
    return torch.tensor([high], dtype=bright.dtype)


@pytest.mark.slow
def test_sweeps_are_one_network_on_the_result_of_the_other(series: HintSeries):
    x = picture(height=48, width=64)
    x = x * 0.2
    # The exposure lies on a line between steps of a quarter.
    wanted, close = in_a_row(series, x), {"rtol": 0, "atol": 0.002}
    torch.testing.assert_close(series(x), wanted, **close)
    swept, statistics = run_steps(series.steps(), x, {})
    torch.testing.assert_close(swept["restored"], series(x))
    assert 0.1 < statistics["brighten.exposure"] < 3
    assert {name.partition(".")[0] for name in statistics} == {"denoise", "brighten"}
    assert series.ordered_steps.problem(8, True) == ""


@pytest.mark.slow
def test_tiles_of_a_run_are_the_whole(series: HintSeries, quick_plans: None, tmp_path):
    x = picture(height=93, width=141) * 0.2
    image = x[0].permute(1, 2, 0).numpy().astype(np.float32)
    result = nr.restore(
        image, series.float(), tile=64, scratch=tmp_path, device="cpu", progress=False
    )
    with torch.inference_mode():
        wanted = series(x.float())[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(np.asarray(result), wanted, atol=2e-5)


@pytest.mark.slow
def test_rows_of_attention_are_those_of_each_network(series: HintSeries):
    x, pixel = picture(height=40, width=56), (21, 34)
    own: dict[str, torch.Tensor] = {}
    for part, seen in (("denoise", x), ("brighten", series.denoise.whole(x))):
        # As if it were the model.
        network: Hint = copy.copy(getattr(series, part))
        network.place = Place()

        def keep(step, given: SweepInput, part=part, network=network) -> None:
            names = frozenset(site.name for site in network.attention_sites())
            for name, row in network.attention_rows(step.name, given, pixel, names).items():
                own[f"{part}.{name}"] = row.weights

        statistics = run_steps(network.steps(), seen, {})[1]
        run_steps(network.steps(), seen, statistics, visit=keep)
    found: dict[str, torch.Tensor] = {}
    names = frozenset(site.name for site in series.attention_sites())

    def collect(step, given: SweepInput) -> None:
        for name, row in series.attention_rows(step.name, given, pixel, names).items():
            found[name] = row.weights

    statistics = run_steps(series.steps(), x, {})[1]
    run_steps(series.steps(), x, statistics, visit=collect)
    assert found.keys() == own.keys() == names
    for name, weights in found.items():
        torch.testing.assert_close(weights, own[name])
    # Without a head of the second, the first is as it was.
    site = series.brighten.attention_sites()[0].name
    without = series.without_head(site, 1)
    torch.testing.assert_close(without.denoise.whole(x), series.denoise.whole(x))
    assert not torch.allclose(without(x), series(x))


HUES = ((0.05, 0.07, 0.2), (0.3, 0.2, 0.05), (0.1, 0.12, 0.11), (0.02, 0.3, 0.03))


@pytest.mark.parametrize("ev", [0.0, 1.5, 3.0])
@pytest.mark.parametrize("hue", HUES)
def test_exposed_keeps_the_ratio_of_the_bands(hue: tuple[float, ...], ev: float):
    between = torch.tensor(hue).view(1, 3, 1, 1) * torch.linspace(0.3, 1, 40)
    # The second network has made it paler.
    bright = (2 * between + 0.1).clamp(0, 1)
    found = exposed(between, bright, torch.tensor([ev]))
    before, after = light_of(between), light_of(found)
    sure = luminance_of(between) > 0.004
    assert sure.any()
    ratios = [(each / each.sum(1, keepdim=True))[:, :, sure[0]] for each in (before, after)]
    inside = (found.amax(1) < 0.98)[:, sure[0]][0]
    torch.testing.assert_close(ratios[1][..., inside], ratios[0][..., inside], rtol=0, atol=0.06)
    # Brighter stays brighter, and without an exposure the light is that of the network.
    assert (luminance_of(found).diff(dim=-1) > -1e-6).all()
    if not ev:
        torch.testing.assert_close(luminance_of(found), luminance_of(bright), rtol=1e-3, atol=1e-5)


def test_black_has_no_colour_and_no_gain():
    black = torch.tensor([1.0, 0.0, 0.4]).view(1, 3, 1, 1).expand(1, 3, 2, 2) / 255
    found = exposed(black, 2 * black, torch.tensor([3.0])) * 255
    assert found.amax() - found.amin() < 1e-4
    assert 0.5 < found.mean() < 2.5
    zero = torch.zeros_like(black)
    assert not exposed(zero, zero, torch.tensor([3.0])).any()
    # What is beyond the range stays.
    torch.testing.assert_close(exposed(zero + 1, zero + 1.5, torch.tensor([3.0])), zero + 1.5)


def test_gradients_are_finite_at_black_and_white():
    between = torch.tensor([0.0, 1e-3, 0.5, 1.0]).expand(1, 3, 2, 4).clone().requires_grad_()
    bright = torch.tensor([0.0, 0.1, 1.0, 1.2]).expand(1, 3, 2, 4).clone().requires_grad_()
    exposed(between, bright, torch.tensor([2.0])).sum().backward()
    assert between.grad.isfinite().all() and bright.grad.isfinite().all()


def test_weights_of_one_network_are_refused(tmp_path):
    path = tmp_path / "one.pth"
    torch.save(load("hint-small", weights="random:0").state_dict(), path)
    with pytest.raises(BadModel, match="lack those of 'denoise'"):
        load("hint-small-lowlight", weights=path)
