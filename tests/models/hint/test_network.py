"""HINT is the HINT of its report: names, sizes, operations, values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.models.hint._literal import hint
from torch import Tensor, nn

from napari_restore.errors import BadModel, BadParameter
from napari_restore.models import card_of, entry_of, load
from napari_restore.models.hint.attention import SIDE, products_of, squares_of
from napari_restore.models.hint.model import Hint
from napari_restore.models.hint.ways import make

TINY = {"width": 8, "blocks1": 1, "blocks2": 1, "blocks3": 1, "latent": 2, "refinement": 1}


def network(values: dict | None = None, seed: int = 0, **sizes: int) -> Hint:
    """A small network whose every part changes the result by much."""
    card = entry_of("hint").card
    from dataclasses import replace

    model = make(replace(card, values=card.fill(values or {})), **{**TINY, **sizes}).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.5 if parameter.ndim < 2 else (2 / parameter[0].numel()) ** 0.5
            fresh = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * spread
            parameter.copy_(fresh + 1 if name.endswith(("body.weight", "temperature")) else fresh)
    return model.requires_grad_(False)


def picture(seed: int = 1, height: int = 24, width: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)


def start_of(model: Hint, start: str) -> Tensor | None:
    side = model.config.channels("latent")
    return torch.zeros(side, side, dtype=torch.float64) if start == "zeros" else None


def test_it_has_the_published_sizes():
    with torch.device("meta"):
        model = make(card_of("hint"))
    state = model.state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == 24_873_812
    assert len(state) == 948
    assert state["encoder_level1.3.ffn.project_in.weight"].shape == (254, 48, 1, 1)
    assert state["latent.5.attn.inter_modulator4.conv_width.weight"].shape == (288, 144, 1)
    assert state["refinement.0.attn.intra_modulator.up.weight"].shape == (96, 48, 1)
    assert "reduce_chan_level1.weight" not in state


@pytest.mark.slow
@pytest.mark.nightly
def test_its_convolutions_take_the_published_operations():
    with torch.device("meta"):
        model = make(card_of("hint")).eval()
    total = 0

    def count(layer: nn.Conv2d, inputs: object, output: Tensor) -> None:
        nonlocal total
        total += layer.weight.numel() * output.shape[2] * output.shape[3]

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    model(torch.rand(1, 3, 256, 256, device="meta"))
    assert total / 1e9 == pytest.approx(126.93, abs=0.005)


@pytest.mark.parametrize("rounding", ["trunc", "floor", "none"])
@pytest.mark.parametrize("start", ["zeros", "none"])
def test_it_is_the_literal_network(rounding: str, start: str):
    model, x = network({"cache_rounding": rounding, "cache_start": start}), picture()
    expected, _ = hint(model.state_dict(), x, rounding=rounding, cache=start_of(model, start))
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-10)
    single = model.float()(x.float())
    scale = float(expected.max() - expected.min())
    assert float((single - expected).abs().max()) < 1e-5 * max(1.0, scale)


@pytest.mark.parametrize(
    "sizes, values, told",
    [
        ({"equal_heads": 1}, {}, {"equal": True}),
        ({"intra": 0}, {}, {}),
        ({"inter": 0}, {}, {}),
        ({"inter": 0, "intra": 0}, {"regroup": False}, {"regroup": False}),
        ({}, {"intra_size": 64}, {"intra_size": 64}),
    ],
)
def test_so_it_is_with_every_switch(sizes: dict, values: dict, told: dict):
    model, x = network({"cache_rounding": "none", **values}, **sizes), picture()
    cache = start_of(model, "zeros")
    expected, _ = hint(model.state_dict(), x, rounding="none", cache=cache, **told)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-10)
    # No switch is without effect.
    plain, _ = hint(network().state_dict(), x, rounding="none", cache=cache)
    assert float((plain - expected).abs().max()) > 1e-3


@pytest.mark.slow
def test_options_of_the_cache_matter():
    x = picture()
    results = [
        network({"cache_rounding": rounding, "cache_start": start})(x)
        for rounding, start in (
            ("trunc", "zeros"),
            ("floor", "zeros"),
            ("none", "zeros"),
            ("none", "none"),
        )
    ]
    for index, one in enumerate(results):
        for other in results[:index]:
            assert float((one - other).abs().max()) > 1e-4


@pytest.mark.slow
def test_a_carried_cache_is_that_of_the_image_before():
    model = network({"cache_rounding": "none", "cache_start": "carry"})
    first, second = picture(1), picture(2, 16, 16)
    expected, cache = hint(model.state_dict(), first, rounding="none")
    torch.testing.assert_close(model(first), expected, rtol=0, atol=1e-10)
    expected, _ = hint(model.state_dict(), second, rounding="none", cache=cache)
    torch.testing.assert_close(model(second), expected, rtol=0, atol=1e-10)
    fresh = network({"cache_rounding": "none", "cache_start": "zeros"})
    assert torch.equal(fresh(second), (fresh(first), fresh(second))[1])


def test_images_of_a_batch_do_not_know_each_other():
    model = network({"cache_rounding": "none"})
    x = torch.cat([picture(1), picture(2)])
    both = model(x)
    for number in range(2):
        torch.testing.assert_close(
            both[number], model(x[number : number + 1])[0], rtol=0, atol=1e-10
        )


def test_any_size_and_odd_contents_are_restored():
    model = network({"cache_rounding": "none"})
    for height, width in ((1, 1), (3, 50), (17, 9)):
        y = model(picture(3, height, width))
        assert y.shape == (1, 3, height, width)
        assert torch.isfinite(y).all()
    # Channels that do not vary correlate with none.
    assert torch.isfinite(model(torch.full((1, 3, 16, 16), 0.5, dtype=torch.float64))).all()
    nothing = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    assert torch.isfinite(model(picture(3, 16, 16), None, nothing)).all()


@pytest.mark.slow
def test_invalid_pixels_weigh_nothing():
    model, x = network({"cache_rounding": "none"}), picture(4, 32, 64)
    # Two columns of cells beyond the reach of what stands in the invalid half.
    attention = model.get_submodule("latent.0.attn")
    weight = torch.zeros(1, 1, 32, 64)
    weight[..., :32] = 1
    q, k = torch.rand(2, 1, 64, 32, 64, dtype=torch.float64)
    some = attention.count(q, k, weight)
    cut = attention.count(q[..., :32], k[..., :32])
    for one, other in zip(some, cut, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
    valid = torch.ones(1, 1, 32, 64, dtype=torch.bool)
    assert torch.equal(model(x, None, valid), model(x))
    valid[..., 40:] = False
    assert float((model(x, None, valid) - model(x)).abs().max()) > 1e-4


def test_squares_of_tiles_are_those_of_the_whole():
    x = torch.rand(1, 5, 48, 72)
    whole = torch.cat([squares_of(x[:, :, y : y + SIDE]) for y in range(0, 48, SIDE)], 1)
    for height, width in ((16, 32), (48, 16), (32, 80)):
        squares = {
            each.numpy().tobytes()
            for y in range(0, 48, height)
            for left in range(0, 72, width)
            for top in range(y, min(48, y + height), SIDE)
            for each in squares_of(x[:, :, top : top + SIDE, left : left + width])[0]
        }
        assert squares == {each.numpy().tobytes() for each in whole[0]}
    # Cut ones are filled up.
    assert whole.shape == (1, 3 * 5, SIDE**2, 5)
    torch.testing.assert_close(whole.double().sum((1, 2)), x.double().sum((2, 3)))


def test_products_of_one_square_and_of_many_are_the_same():
    a, b = torch.rand(2, 1, 3, SIDE**2, 24).unbind()
    one = sum(products_of(a[:, n : n + 1], b[:, n : n + 1]) for n in range(3))
    expected = torch.einsum("nsmi,nsmj->nij", a.double(), b.double())
    torch.testing.assert_close(one, products_of(a, b), rtol=1e-7, atol=0)
    torch.testing.assert_close(one, expected, rtol=1e-5, atol=0)


@pytest.mark.slow
def test_in_training_both_caches_are_constants():
    model = network({"cache_rounding": "none"}).requires_grad_(True)
    x = picture(5, 16, 16)

    def gradient(training: bool) -> Tensor:
        model.train(training)
        model.zero_grad()
        model(x).square().sum().backward()
        return model.latent[0].attn.qkv.weight.grad.clone()

    followed, detached = gradient(False), gradient(True)
    assert float((followed - detached).abs().max()) > 1e-6
    torch.testing.assert_close(model(x), model.eval()(x), rtol=0, atol=0)


def test_the_gradient_is_that_of_the_function():
    model, x = network({"cache_rounding": "none"}), picture(6, 32, 40)
    direction = torch.randn(
        x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(model(x).square().sum(), x)
    step = 1e-6
    with torch.no_grad():
        ends = [float(model(x + sign * step * direction).square().sum()) for sign in (1, -1)]
    assert float((slope * direction).sum()) == pytest.approx(
        (ends[0] - ends[1]) / (2 * step), rel=1e-5
    )


def saved(model: nn.Module, path: Path) -> Path:
    torch.save({"params": model.state_dict()}, path)
    return path


@pytest.mark.slow
def test_a_published_file_loads_strictly(tmp_path: Path):
    model = make(card_of("hint"))
    found = load("hint", weights=saved(model, tmp_path / "hint.pth"))
    assert torch.equal(found.output.weight, model.output.weight)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    del state["module.latent.3.attn.temperature"]
    torch.save({"params": state}, tmp_path / "part.pth")
    with pytest.raises(BadModel, match=r"part.pth lacks latent.3.attn.temperature"):
        load("hint", weights=tmp_path / "part.pth")


def test_sizes_are_those_of_the_file(tmp_path: Path):
    for sizes in ({}, {"latent": 1, "equal_heads": 1}, {"intra": 0}, {"inter": 0}):
        model = make(card_of("hint-small"), **{**TINY, **sizes})
        save_file(model.state_dict(), tmp_path / "small.safetensors")
        found = load("hint-small", weights=tmp_path / "small.safetensors")
        assert found.config == model.config


def test_other_weights_are_refused_by_name(tmp_path: Path):
    small = saved(make(card_of("hint-small"), **TINY), tmp_path / "small.pth")
    with pytest.raises(BadModel, match=r"patch_embed.proj.weight has 8 channels instead of 48"):
        load("hint", weights=small)
    state = torch.load(small)["params"]
    torch.save({**state, "encoder_level1.0.attn.temperature": torch.ones(1, 1, 1)}, small)
    with pytest.raises(BadModel, match=r"encoder_level1.0.attn.temperature belongs to Restormer"):
        load("hint-small", weights=small)
    torch.save({"stem.weight": torch.ones(2)}, small)
    with pytest.raises(BadModel, match=r"lack patch_embed.proj.weight"):
        load("hint-small", weights=small)


def test_a_file_with_code_is_refused(tmp_path: Path):
    torch.save({"params": make(card_of("hint-small"), **TINY)}, tmp_path / "code.pth")
    with pytest.raises(BadModel, match="could run code"):
        load("hint-small", weights=tmp_path / "code.pth")


def test_every_part_of_the_small_one_is_there():
    model = load("hint-small", weights="random:0")
    assert sum(p.numel() for p in model.parameters()) <= 2_000_000
    parts = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    assert {"intra_modulator", "inter_modulator4", "qkv_dwconv", "dwconv", "norm1"} <= parts
    assert model.config.depth("refinement") >= 1
    with pytest.raises(BadParameter, match="cache_rounding"):
        load("hint-small", weights="random:0", parameters={"cache_rounding": "up"})
