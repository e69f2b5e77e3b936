"""Two networks in a row are the second on the result of the first, whatever the tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.models.hint.test_network import picture

import napari_restore as nr
from napari_restore.errors import BadModel
from napari_restore.models import SweepInput, entry_of, load, run_steps
from napari_restore.models.hint.model import Hint
from napari_restore.models.hint.series import HintSeries, make_series

TINY = {"width": 8, "blocks1": 1, "blocks2": 1, "blocks3": 1, "latent": 1, "refinement": 1}


@pytest.fixture
def series() -> HintSeries:
    card = entry_of("hint-small-lowlight").card
    sizes = {f"{part}_{name}": n for part in ("denoise", "brighten") for name, n in TINY.items()}
    torch.manual_seed(3)
    made = make_series(replace(card, values=card.fill({})), **sizes).double().eval()
    return made.requires_grad_(False)


def in_a_row(series: HintSeries, x: torch.Tensor) -> torch.Tensor:
    return series.brighten.whole(series.denoise.whole(x))


@pytest.mark.slow
def test_sweeps_are_one_network_on_the_result_of_the_other(series: HintSeries):
    x = picture(height=48, width=64)
    torch.testing.assert_close(series(x), in_a_row(series, x))
    swept, statistics = run_steps(series.steps(), x, {})
    torch.testing.assert_close(swept["restored"], in_a_row(series, x))
    assert {name.partition(".")[0] for name in statistics} == {"denoise", "brighten"}
    assert series.ordered_steps.problem(8, True) == ""


@pytest.mark.slow
def test_tiles_of_a_run_are_the_whole(series: HintSeries, quick_plans: None, tmp_path):
    x = picture(height=141, width=203)
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
        network: Hint = getattr(series, part)

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
    without = series.without_head(f"brighten.{site}", 1)
    torch.testing.assert_close(without.denoise.whole(x), series.denoise.whole(x))
    assert not torch.allclose(without(x), series(x))


def test_weights_of_one_network_are_refused(tmp_path):
    path = tmp_path / "one.pth"
    torch.save(load("hint-small", weights="random:0").state_dict(), path)
    with pytest.raises(BadModel, match="lack those of 'denoise'"):
        load("hint-small-lowlight", weights=path)
