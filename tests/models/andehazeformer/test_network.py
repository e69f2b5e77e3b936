"""The whole network: against its formulas, and tile by tile."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.andehazeformer._literal import Literal
from tests.models.andehazeformer._small import TINY, card_with, network, pictures
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_restore.errors import BadModel, BadParameter
from napari_restore.models import (
    entry_of,
    load,
    model_ids,
    one_shot_statistics,
    read_state,
    shipped_weights,
)
from napari_restore.models.andehazeformer.cache import candidates_of
from napari_restore.models.andehazeformer.config import SMALL, operations, sizes_of_small
from napari_restore.models.andehazeformer.model import make_small


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("rho, most", [(0.6, 1024), (1.0, 1024), (1.0, 5)])
def test_equals_the_formulas(normalised: bool, rho: float, most: int) -> None:
    model = network(replace(TINY, normalised=normalised), rho=rho, cache_tokens=most)
    x = pictures(1, 64, 80)
    statistics = one_shot_statistics(model, x)
    view, guide = model.planes(x, statistics), model.guide(statistics)
    facts = {name: value[0].numpy() for name, value in guide._asdict().items()}
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    literal = Literal(weights, model.config, facts)
    tokens = literal.tokens(view[0].numpy(), rho, most)
    valid = torch.ones(1, 1, 64, 80, dtype=torch.bool)
    found = model.relate(view, guide, valid)
    np.testing.assert_allclose(found[0].numpy(), tokens, atol=1e-10)
    y = model(x, statistics)
    np.testing.assert_allclose(y[0].numpy(), literal.pixels(tokens, view[0].numpy()), atol=1e-10)
    assert float((y - x).abs().max()) > 0.01


def test_a_far_corner_reaches_the_other_through_the_cache_alone() -> None:
    x = pictures(1, 160, 160)
    changed = x.clone()
    changed[..., 130:, 130:] = 1 - changed[..., 130:, 130:]
    for tokens, reaches in ((1024, True), (0, False)):
        model = network(cache_tokens=tokens)
        statistics = one_shot_statistics(model, x)
        difference = model(changed, statistics) - model(x, statistics)
        assert bool(difference[..., :16, :16].any()) == reaches
        assert bool(difference[..., 140:, 140:].any())


def test_invalid_pixels_have_no_say() -> None:
    model = network()
    x = pictures(1, 100, 120)
    valid = torch.ones(1, 1, 100, 120, dtype=torch.bool)
    valid[..., 40:97, 33:81] = False
    statistics = one_shot_statistics(model, x, valid)
    y = model(x, statistics, valid)
    other = torch.where(valid, x, 3.0)
    assert torch.equal(model(other, statistics, valid).where(valid, 0.0), y.where(valid, 0.0))
    assert not torch.allclose(model(x, statistics).where(valid, 0.0), y.where(valid, 0.0))


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 3)])
def test_any_size_and_no_valid_pixel(size: tuple[int, int]) -> None:
    model = network()
    x = pictures(1, *size)
    assert model(x).shape == x.shape
    assert bool(model(x).isfinite().all())
    nothing = torch.zeros(1, 1, *size, dtype=torch.bool)
    assert bool(model(x, None, nothing).isfinite().all())
    constant = torch.full_like(x, 0.5)
    assert bool(model(constant).isfinite().all())


def test_a_batch_is_its_images() -> None:
    model = network()
    x = pictures(3, 48, 64)
    y, maps = model.forward_with_maps(x)
    for n in range(3):
        torch.testing.assert_close(y[n : n + 1], model(x[n : n + 1]))
    assert set(maps) == set(model.card.maps)
    assert maps["transmission"].shape == (3, 1, 48, 64)
    assert maps["airlight"].shape == x.shape
    # In training all of them at once, with the same statistics but for the overview's rounding.
    torch.testing.assert_close(model.train()(x), y, atol=1e-4, rtol=0)


def test_an_image_without_a_valid_pixel_leaves_its_batch_alone() -> None:
    model = network().train()
    x = pictures(2, 48, 64)
    valid = torch.ones(2, 1, 48, 64, dtype=torch.bool)
    valid[1] = False
    together = model(x, None, valid)
    torch.testing.assert_close(together[:1], model(x[:1], None, valid[:1]))
    assert bool(together.isfinite().all())


def test_a_fresh_network_changes_nothing() -> None:
    x = pictures(1, 40, 40).float()
    assert torch.equal(make_small(card_with()).eval()(x), x)
    behind = make_small(card_with(), context=8, looks=1).eval()
    assert behind.atmosphere is not None
    assert torch.equal(behind(x), behind.atmosphere(x))
    assert not torch.equal(behind(x), x)


@pytest.mark.parametrize("context", [0, 8])
def test_training_reaches_every_parameter(context: int) -> None:
    model = network(context=context).float().train().requires_grad_(True)
    if model.atmosphere is not None:
        model.atmosphere.requires_grad_(False)
    y, maps = model.forward_with_maps(pictures(2, 80, 80).float())
    (y.square().mean() + maps["transmission"].mean()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in without if not name.startswith("atmosphere.")] == []


def test_the_context_may_follow_another_overview() -> None:
    for context in (0, 8):
        model = network(context=context).float()
        x = pictures(1, 64, 64).float()
        statistics = one_shot_statistics(model, x)
        overview, valid = x.clone().requires_grad_(), torch.ones(1, 1, 64, 64)
        found = model.follow(overview, valid, statistics)
        for name in ("airlight", "strength", "texture", "tint"):
            torch.testing.assert_close(found[name], statistics[name], atol=1e-5, rtol=1e-4)
        (found["texture"].sum() + found["strength"]).backward()
        assert overview.grad is not None and bool(overview.grad.any())


def test_size_of_small() -> None:
    model = make_small(card_with())
    assert sum(p.numel() for p in model.parameters()) == 882_034 <= 3_000_000
    tokens = 3840 * 2160 / SMALL.stride**2
    assert operations(SMALL, tokens, 1024) / (3840 * 2160) <= 60_000
    # Bounded by `cache_tokens`, so that work is linear in area.
    assert operations(SMALL, 4 * tokens, 1024) == 4 * operations(SMALL, tokens, 1024)


@pytest.mark.parametrize("normalised", [1, 0])
def test_operations_are_those_that_run(normalised: int) -> None:
    model = make_small(card_with(rho=1.0), normalised=normalised).eval().requires_grad_(False)
    x = pictures(1, 128, 192).float()
    statistics = one_shot_statistics(model, x)
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        model(x, statistics)
    tokens = 16 * 24
    expected = operations(SMALL, tokens, tokens // 4, merged=False)
    # Shifted windows reach beyond the image, by half a window on each side.
    beyond = 24 * 32 - tokens
    windows = beyond * (4 * SMALL.width**2 + 2 * SMALL.window**2 * SMALL.width)
    assert counter.get_total_flops() / 2 == pytest.approx(
        expected + SMALL.pairs / 2 * windows, rel=1e-3
    )


def test_sizes_follow_from_the_weights() -> None:
    for sizes in ({}, {"normalised": 0}, {"context": 8, "looks": 1}):
        assert sizes_of_small(make_small(card_with(), **sizes).state_dict()) == sizes
    with pytest.raises(BadModel, match="not those of this anDehazeFormer"):
        sizes_of_small(network().state_dict())


@pytest.mark.parametrize(
    "name, value",
    [
        ("rho", 0),
        ("rho", 1.5),
        ("rho", "nan"),
        ("eta", 2),
        ("cache_tokens", -1),
        ("selection", "best"),
    ],
)
def test_bad_parameters_are_refused(name: str, value: Any) -> None:
    with pytest.raises(BadParameter, match=name):
        load("andehazeformer-small", weights="random:0", parameters={name: value})


def test_haze_lowers_an_adaptive_share() -> None:
    model = network(retention="adaptive", rho=0.3, eta=0.8)
    ranks = torch.rand(3, 20, 20)
    candidates = candidates_of(ranks)
    kept = [len(model.finalize_members(candidates, torch.tensor(c)).cells) for c in (0.0, 0.5, 1.0)]
    assert kept == [400, 240, 120]


def test_it_is_listed_and_loads() -> None:
    assert "andehazeformer-small" in model_ids()
    assert entry_of("andehazeformer-small").card.scope == "swept"
    model = load("andehazeformer-small", weights="random:3")
    x = pictures(1, 32, 32).float()
    assert not torch.equal(model(x), x)
    assert float((model(x) - x).abs().max()) < 0.5


def test_the_shipped_weights_work_behind_the_shipped_atmosphere() -> None:
    atmosphere = read_state(shipped_weights(entry_of("atmosphere")))
    made = load("andehazeformer-small").state_dict()
    for name, value in atmosphere.items():
        assert torch.equal(made[f"atmosphere.{name}"], value.float())
