"""The atmosphere model: what must hold whatever its weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_restore.errors import BadModel
from napari_restore.models import context_of, load, one_shot_statistics, randomise
from napari_restore.models.atmosphere import model as _model, restraint
from napari_restore.models.atmosphere.network import SECOND_PASS_FEATURES, ensembled, sizes_of
from napari_restore.models.atmosphere.restraint import restrained
from napari_restore.models.atmosphere.small import small


def scene(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(1, 3, height, width): patches of colour with texture."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, 6, 8), np.float32))
    large = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    texture = torch.from_numpy(rng.random((1, 3, height, width), np.float32))
    return (0.8 * large + 0.2 * texture).clamp(0, 1)


def drawn(ensemble=2):
    """Random weights that see some haze, as those of a start do."""
    model = load("atmosphere", weights="random:3", parameters={"ensemble": ensemble})
    model.network.first.start([-1.5, 0.0], [0.3, 0.3, 0.3, 0.0, 2.0, 0.0], 0.002)
    model.network.second.start([0.0, 0.0], [0.0] * 6, 0.002)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def model():
    return drawn()


def known(model, x, **changed):
    statistics = dict(one_shot_statistics(model, x))
    return {**statistics, **{k: torch.as_tensor(v) for k, v in changed.items()}}


def haze_statistics(model, x, depth, airlight, exponent, display):
    """Statistics of even haze of a known depth."""
    logit = float(np.log(depth / (2.2 - depth)))
    maps = torch.zeros(1, 3, *x.shape[2:])
    maps[:, 0] = logit
    return known(
        model,
        x,
        maps=maps,
        step=torch.tensor(1.0, dtype=torch.float64),
        presence=1.0,
        airlight=torch.tensor(airlight),
        exponent=exponent,
        display=display,
        # A scene whose colours nothing is known of.
        hue_spread=1e6,
    )


def test_nothing_changes_within_the_deadband(model):
    x = scene(32, 48)
    for depth in (0.001, 0.02):
        y = model(x, haze_statistics(model, x, depth, (0.9, 0.9, 0.9), 0.0, 0.3))
        assert torch.equal(y, x)
    y = model(x, haze_statistics(model, x, 0.1, (0.9, 0.9, 0.9), 0.0, 0.3))
    assert not torch.equal(y, x)


def test_a_picture_without_haze_by_its_presence_is_left_alone(model):
    x = scene(32, 48)
    assert torch.equal(model(x, known(model, x, presence=0.0)), x)


def test_the_share_of_the_range_that_a_scene_fills_does_not_matter(model):
    x = 0.4 + 0.6 * scene(128, 192)
    full, dim = model(x), model(x * 0.01)
    assert torch.allclose(full, dim * 100, atol=1e-3)
    assert not torch.allclose(full, x, atol=1e-2)


def test_tiles_equal_the_whole_to_the_last_bit(model):
    x = scene(150, 210)
    statistics = one_shot_statistics(model, x)
    whole = model(x, statistics)
    for y0, x0, y1, x1 in [(0, 0, 64, 64), (37, 101, 150, 210), (149, 0, 150, 1)]:
        own = {
            **statistics,
            "origin": torch.tensor([[y0, x0]]),
            "scale": torch.tensor(1.0).double(),
        }
        tile = model(x[..., y0:y1, x0:x1].contiguous(), own)
        assert torch.equal(tile, whole[..., y0:y1, x0:x1])


def test_a_batch_is_its_images_one_by_one(model):
    x = torch.cat([scene(64, 80, seed) for seed in range(3)])
    # Products of matrices may add up in another order from one call to the next.
    alone = torch.cat([model(one[None]) for one in x])
    assert torch.allclose(model(x), alone, atol=1e-5)


def test_a_grey_picture_stays_grey(model):
    grey = scene(128, 160).mean(1, keepdim=True).expand(1, 3, 128, 160).contiguous()
    y = model(grey)
    assert not torch.allclose(y, grey, atol=1e-2)
    assert (y.amax(1) - y.amin(1)).max() < 1e-5
    coloured = model(scene(128, 160))
    assert (coloured.amax(1) - coloured.amin(1)).max() > 1e-2


def test_invalid_pixels_do_not_count(model):
    x = scene(128, 160)
    valid = torch.ones(1, 1, 128, 160, dtype=torch.bool)
    valid[..., :40] = False
    known, other = (model.observe(pixels, valid) for pixels in (x, x.where(valid, 0.9 - x.mean())))
    for name in known:
        assert torch.allclose(known[name], other[name], atol=1e-5), name
    assert not torch.allclose(model.observe(x)["maps"], known["maps"], atol=1e-3)


def test_the_same_pixels_are_valid_in_a_context():
    # What is trained sees one orientation.
    model = drawn(1)
    pixels = scene(128, 160)[0].permute(1, 2, 0).numpy()
    valid = np.ones((128, 160), bool)
    valid[:, :40] = False
    statistics = model.prepare(context_of(pixels, valid), np.asarray, (0, 1, 2))
    x, mask = torch.from_numpy(pixels).permute(2, 0, 1)[None], torch.from_numpy(valid)[None, None]
    assert torch.allclose(statistics["maps"][:, :2], model.observe(x, mask)["maps"], atol=1e-4)


@pytest.mark.parametrize(
    ("ensemble", "equal"),
    [(1, ()), (2, ("mirrored",)), (8, ("mirrored", "upside down", "turned"))],
)
@pytest.mark.ids("slow", "8-equal2")
def test_a_result_follows_the_orientations_that_are_averaged(ensemble, equal):
    model = drawn(ensemble)
    x = scene(128, 192)
    turns = {
        "mirrored": lambda picture: picture.flip(3),
        "upside down": lambda picture: picture.flip(2),
        "turned": lambda picture: picture.transpose(2, 3).flip(3),
    }
    for name, turn in turns.items():
        difference = float((model(turn(x).contiguous()) - turn(model(x))).abs().max())
        assert (difference < 1e-5) == (name in equal), (name, difference)


@pytest.mark.slow
def test_gradients_are_those_of_the_mean_of_all_orientations():
    model = drawn(8)
    cells = _model._network_input(small(scene(128, 64), torch.ones(1, 1, 128, 64))).cells
    features = cells.features.requires_grad_()

    def gradient(estimates):
        value = sum(e.airlight.sum() + e.presence.sum() for e in estimates) / len(estimates)
        return torch.autograd.grad(value, features)[0]

    found = gradient([ensembled(model.network, cells, (128, 64), 8)])
    by_hand = [
        model.network(
            type(cells)(*((p.transpose(2, 3) if t else p).flip(axes).contiguous() for p in cells)),
            (64, 128) if t else (128, 64),
        )
        for t in (False, True)
        for axes in ((), (2,), (3,), (2, 3))
    ]
    assert torch.allclose(found, gradient(by_hand), atol=1e-6)
    assert found.abs().max() > 1e-4


def test_a_result_has_gradients_towards_its_input(model):
    x = scene(96, 128).requires_grad_()
    model(x, one_shot_statistics(model, x.detach()))[..., 40:50, 60:70].sum().backward()
    touched = x.grad.abs().sum(1)[0] > 0
    assert touched[40:50, 60:70].all() and touched.sum() == 100


def test_an_image_without_a_valid_pixel_gives_finite_statistics(model):
    pixels = np.zeros((70, 90, 3), np.float32)
    statistics = model.prepare(context_of(pixels, np.zeros((70, 90), bool)), np.asarray, (0, 1, 2))
    assert all(torch.isfinite(value).all() for value in statistics.values())


def test_training_sees_what_the_image_will_get(monkeypatch):
    # But for what is held back then.
    monkeypatch.setattr(restraint, "LOST", 1.0)
    monkeypatch.setattr(restraint, "UNSURE", (0.0, 0.0))
    monkeypatch.setattr(_model, "ABOVE", 9.0)
    monkeypatch.setattr(_model, "DARK_CHANNEL", 0.0)
    monkeypatch.setattr(_model, "OPAQUE", (8.0, 9.0))
    model = drawn(1)
    x = 0.4 + 0.6 * scene(128, 192)
    later = model(x)
    model.train()
    y, _ = model.forward_with_maps(x)
    assert torch.allclose(y, later, atol=2e-4)
    rows, columns = slice(1, None, 2), slice(20, 90)
    part, _ = model.invert(x, model.observe(x), rows, columns)
    assert torch.allclose(part, y[..., rows, columns], atol=1e-6)


def test_every_weight_learns():
    model = load("atmosphere", weights="random:3")
    randomise(model, 5)
    # Larger last layers than a start has, so that no clamp hides a gradient.
    with torch.no_grad():
        model.network.first.numbers.bias.zero_()
    model.train().requires_grad_(True)
    y, maps = model.forward_with_maps(scene(128, 192))
    (y.square().mean() + maps["airlight"].mean()).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_a_second_look_adds_to_the_first():
    one, two = (load("atmosphere", weights="random:3") for _ in range(2))
    two.network.second.start([0.0, 0.0], [0.0] * 6, 0.0)
    for name in ("maps", "numbers", "look"):
        getattr(two.network.second, name).bias.data.zero_()
    one.network.second = None
    x = scene(128, 192)
    alone, both = one.observe(x), two.observe(x)
    for name in alone:
        assert torch.equal(alone[name], both[name]), name
    # It sees what the first one left: other haze in its features, another answer.
    randomise(two.network.second, 1)
    assert not torch.allclose(two.observe(x)["maps"], alone["maps"], atol=1e-3)


def test_files_of_one_and_of_two_looks_are_told_apart(model):
    state = model.state_dict()
    assert sizes_of(state) == {"width": 24, "looks": 2}
    first = {name: value for name, value in state.items() if ".second." not in name}
    assert sizes_of(first) == {"width": 24, "looks": 1}
    with pytest.raises(BadModel, match="not those of atmosphere"):
        sizes_of({"stem.weight": torch.zeros(4, 15, 3, 3)})


def test_bands_it_does_not_see_have_an_airlight(model):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4000, (64, 80, 5)).astype(np.uint16)
    statistics = model.prepare(context_of(pixels), lambda v: np.asarray(v) / 4000, (2, 1, 0))
    assert statistics["airlight_all"].shape == (5,) and (statistics["airlight_all"] > 0).all()
    assert torch.equal(statistics["airlight_all"][[2, 1, 0]], statistics["airlight"])


def test_no_more_than_a_hundredth_becomes_black(model):
    x = 0.3 + 0.1 * scene(128, 160)
    statistics = haze_statistics(model, x, 2.0, (1.0, 1.0, 1.0), 0.0, 1.0) | {
        "presence": torch.tensor(1.0)
    }
    valid = torch.ones(1, 1, 128, 160)
    presence = restrained(x, valid, statistics, model.deadband)
    assert 0.1 < presence < 0.5

    black = 0.002 / statistics["brightness"]

    def lost(presence):
        return float((model(x, statistics | {"presence": presence}).amin(1) < black).float().mean())

    assert lost(statistics["presence"]) > 0.9
    assert lost(presence) <= 0.01 < lost(1.1 * presence)
    # What was black before, and what is not valid, does not count; thin haze is left alone.
    dark = x.clone()
    dark[..., :100] = 0.001
    shut = valid.clone()
    shut[..., 40:] = 0
    thin = haze_statistics(model, x, 0.2, (1.0, 1.0, 1.0), 0.0, 1.0) | {
        "presence": torch.tensor(1.0)
    }
    assert restrained(dark, shut, statistics, model.deadband) == 1
    assert restrained(x, valid, thin, model.deadband) == 1


def test_the_second_pass_sees_nothing_where_nothing_is_valid():
    model, seen = drawn(ensemble=1), []
    hook = model.network.second.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    valid = torch.ones(1, 1, 128, 256, dtype=torch.bool)
    valid[..., :128] = False
    one_shot_statistics(model, scene(128, 256), valid)
    hook.remove()
    (inputs,) = seen
    features = inputs[0, -SECOND_PASS_FEATURES:]
    hidden, shown = features.tensor_split(2, dim=2)
    assert not hidden.any()
    assert shown.any(0).all()


PINNED = {
    "atmosphere": [
        [[0.6691, 0.6221, 0.5662], [0.5275, 0.4808, 0.6142]],
        [[0.6512, 0.7165, 0.6949], [0.6261, 0.6280, 0.6293]],
        [[0.5909, 0.6172, 0.5147], [0.6087, 0.6230, 0.6741]],
    ],
    "atmosphere-aerial": [
        [[0.6066, 0.5620, 0.5125], [0.4503, 0.4016, 0.5425]],
        [[0.5565, 0.6232, 0.6055], [0.5125, 0.5119, 0.5199]],
        [[0.4728, 0.5001, 0.4000], [0.4695, 0.4859, 0.5438]],
    ],
}
"""Means of blocks of 32 pixels of a hazy scene, as the shipped weights make it since 2026-11."""


@pytest.mark.parametrize("name", PINNED)
def test_the_shipped_weights_meet_the_features_they_were_trained_with(name: str):
    model = load(name).requires_grad_(False)
    x = 0.55 * scene(64, 96) + 0.4
    with torch.inference_mode():
        y = model(x, one_shot_statistics(model, x))
    blocks = torch.nn.functional.avg_pool2d(y, 32)[0]
    np.testing.assert_allclose(blocks, PINNED[name], atol=1e-3)
