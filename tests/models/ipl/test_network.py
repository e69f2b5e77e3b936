"""IPL is the network of its text: sizes, operations, values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.models.ipl._literal import ipl
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from napari_restore.errors import BadModel, MissingWeights
from napari_restore.models import card_of, entry_of, load
from napari_restore.models.ipl import cube
from napari_restore.models.ipl.cube import CubeLayers, sampled
from napari_restore.models.ipl.network import IplNetwork
from napari_restore.models.ipl.sweeps import make, make_small

TINY = {"dim": 4, "blocks": 3}
RESULTS = [{"mixes": 0}, {"mixes": 1}, {"mixes": 1, "curves": 1, "detail": 5}]


def network(values: dict[str, Any] | None = None, seed: int = 0, **sizes: int) -> IplNetwork:
    """A small network whose every part changes the result by much."""
    card = entry_of("ipl").card
    model = make(replace(card, values=card.fill(values or {})), **{**TINY, **sizes}).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.5 if parameter.ndim < 2 else (2 / parameter[0].numel()) ** 0.5
            fresh = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(fresh * spread)
    return model.requires_grad_(False)


def bracket(height: int = 90, width: int = 301, seed: int = 1, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    # The same in float32: values at the edge of a step of a histogram would be in another.
    return torch.rand(count, 9, height, width, generator=generator).double()


def shown(x: Tensor, mixes: int) -> Tensor:
    return x.clamp(min=1e-4) ** 0.7 if mixes else x


@pytest.mark.slow
def test_it_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        model, small = make(card_of("ipl")), make_small(card_of("ipl-small"))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(974_700, rel=1e-4)
    assert sum(parameter.numel() for parameter in small.parameters()) <= 200_000
    assert {p.shape for p in model.cubes.parameters()} == {(192, 192, 1, 1)}


@pytest.mark.slow
def test_it_takes_the_published_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    # Interpolation is not among them.
    monkeypatch.setattr(cube, "FEW", 0)

    def operations(side: int) -> float:
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            make(card_of("ipl"))(torch.rand(1, 9, side, side))
        return counter.get_total_flops() / 2e9

    assert operations(256) == pytest.approx(33.475, rel=1e-3)
    # Cubes cost the same whatever the image.
    assert operations(512) - operations(256) == pytest.approx(
        3 * (33.475 - 24 * 0.192**4 * 1e3), rel=0.01
    )


@pytest.mark.parametrize("reading", ["R1", "R2", "R3"])
@pytest.mark.parametrize(("turns", "last"), [("roll", "gelu"), ("mixnet", "sigmoid")])
@pytest.mark.parametrize("result", RESULTS)
def test_it_is_the_literal_network(
    reading: str, turns: str, last: str, result: dict[str, int]
) -> None:
    values = {"reading": reading, "turns": turns, "last": last}
    model, x = network(values, **result), bracket()
    expected = ipl(model.state_dict(), x, **values)
    assert expected.std() > 0.1
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-9)
    y = model.float()(x.float()).double()
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-4 * max(1.0, expected.std().item()))


@pytest.mark.parametrize("turns", ["roll", "mixnet"])
def test_layers_mix_their_axes_and_leave_the_others(turns: Any) -> None:
    # Layers that turn each axis they mix by one place: the labels show which.
    layers, side = CubeLayers(5).double(), 5
    for layer in (layers.first, layers.second, layers.third):
        layer.weight.data = torch.eye(side).roll(1, 0).double()[..., None, None]
    labels = 10 + torch.arange(side**3).double().view(1, side, side, side)
    expected = labels.roll({"roll": (1, 1, 1), "mixnet": (2, 1, 0)}[turns], (1, 2, 3))
    torch.testing.assert_close(layers(labels, turns), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("few", [0, 128])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 2), (16, 16), (37, 81)])
def test_samples_span_the_image(size: tuple[int, int], few: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(cube, "FEW", few)
    x = bracket(*size)
    for height, width in ((16, 16), (1, 40), (3, 1)):
        expected = torch.nn.functional.interpolate(
            x, size=(height, width), mode="bilinear", align_corners=True
        )
        torch.testing.assert_close(sampled(x, height, width), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (64, 65), (257, 255)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    y = network()(bracket(*size))
    assert y.shape == (1, 3, *size)
    assert torch.isfinite(y).all()


def test_images_of_a_batch_know_nothing_of_each_other() -> None:
    model, x = network(), bracket(70, 64, count=2)
    torch.testing.assert_close(model(x)[1:], model(x[1:]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("result", RESULTS)
def test_a_new_network_begins_with_the_medium_frame(result: dict[str, int]) -> None:
    torch.manual_seed(0)
    model, x = make(card_of("ipl"), dim=8, **result), bracket(100, 132).float()
    curves = torch.rand(1, 2, 3, 64) if model.config.curves else None
    side, last = model.config.channels, model.features(model.seen(x, None, curves))
    for block in range(model.config.blocks):
        last = model.attend(block, last)
        last = last + last * sampled(model.relate(block, sampled(last, side, side)), 25, 33)
        assert 0.1 < last.std() < 2
    y = model(x)
    assert 0 < (y - shown(x[:, 3:6], result["mixes"])).abs().max() < 0.2
    (y**2).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_random_weights_are_usable() -> None:
    x = bracket(40, 50).float()
    y = load("ipl-small", weights="random:0")(x)
    assert 0 < (y - shown(x[:, 3:6], 1)).abs().max() < 0.2


def test_what_is_not_valid_does_not_matter() -> None:
    model, x = network(mixes=1, curves=1, detail=5), bracket(40, 44)
    valid = torch.ones(1, 3, 40, 44, dtype=torch.bool)
    valid[:, 0, :, 20:] = False
    valid[:, :, 30:, 30:] = False
    one = model(x, None, valid)
    changed = x.clone()
    changed.unflatten(1, (3, 3)).movedim(2, -1)[~valid] = 7.0
    assert not torch.equal(changed, x)
    assert torch.equal(model(changed, None, valid), one)
    assert torch.equal(model(x, None, torch.ones_like(valid)), model(x))


def test_a_file_of_weights_tells_its_sizes(tmp_path: Path) -> None:
    sizes = {
        "dim": 8,
        "blocks": 2,
        "hidden_width": 5,
        "hidden_channel": 3,
        "shared": 0,
        "mixes": 1,
        "curves": 1,
        "detail": 6,
    }
    card = card_of("ipl-small")
    model = make(card, **sizes).eval().requires_grad_(False)
    path = tmp_path / "mine.safetensors"
    save_file(model.state_dict(), path)
    loaded = load("ipl-small", weights=path)
    assert loaded.config == model.config
    x = bracket(20, 30).float()
    assert torch.equal(loaded(x), model(x))
    with pytest.raises(BadModel, match="32 channels instead of 192"):
        load("ipl", weights=path)
    for name, said in (("mix.2.weight", "lack up.weight"), ("down.weight", "lack down.weight")):
        state = {key: value for key, value in model.state_dict().items() if key != name}
        save_file(state, path)
        with pytest.raises(BadModel, match=said):
            load("ipl-small", weights=path)


def test_published_sizes_are_not_the_small_ones(tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    save_file(make(card_of("ipl"), blocks=1).state_dict(), path)
    with pytest.raises(BadModel, match="192 channels, 191 at most"):
        load("ipl-small", weights=path)
    assert load("ipl", weights=path).config.blocks == 1
    with pytest.raises(MissingWeights):
        load("ipl")
