"""Networks known by their weights, against the authors' own code.

`facts.json` is what the public code named in it gave: a digest of names and shapes of the weights,
small and as released, and some values of a small network's output for weights and a picture that
follow from their names and a seed (`_weights_for`, `_picture`).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import napari_restore as nr
from napari_restore.api import inspect_model, save_card
from napari_restore.errors import BadModel
from napari_restore.models import WrappedModel, entry_of, known_network, load, resolve, structures

FACTS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("facts.json").read_text("utf-8")
)
RELEASED = [(name, release) for name, fact in FACTS.items() for release in fact["released"]]
LEVEL = 15 / 255


def _weights_for(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return values that depend on a tensor's name and shape alone."""
    made = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point() or name.endswith("relative_positions"):
            made[name] = tensor.clone()
            continue
        seed = int(hashlib.sha256(name.encode()).hexdigest()[:7], 16)
        values = np.random.RandomState(seed).standard_normal(tuple(tensor.shape))
        if name.endswith("running_var"):
            values = 0.5 + np.abs(values)
        elif tensor.ndim == 1:
            values = 1 + 0.1 * values if name.endswith(".weight") else 0.05 * values
        elif "temperature" in name or "rescale" in name:
            values = 1 + 0.2 * values
        else:
            values = values / np.sqrt(int(np.prod(tensor.shape[1:])) or 1)
        made[name] = torch.from_numpy(values.astype(np.float32))
    return made


def _picture(bands: int, height: int, width: int) -> Tensor:
    values = np.random.RandomState(1).random_sample((1, bands, height, width))
    return torch.from_numpy(values.astype(np.float32))


def _digest(state: dict[str, Tensor]) -> str:
    lines = sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, (tuple, list)) else value


def _small(name: str) -> dict[str, Tensor]:
    """Return the weights of the small network `name`."""
    fact = FACTS[name]
    return _weights_for(_made(fact["network"], fact["sizes"]).network.state_dict())


def _made(network: str, sizes: dict[str, Any]) -> WrappedModel:
    entry = entry_of(network)
    model: WrappedModel = resolve(entry.factory)(entry.card, **sizes)
    return model


def _file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.safetensors"
    save_file(_small(name), path)
    return path


@pytest.mark.parametrize("name", FACTS)
def test_the_network_is_the_authors(name: str, tmp_path: Path) -> None:
    fact = FACTS[name]
    state = _small(name)
    assert _digest(state) == fact["digest"]
    save_file(state, tmp_path / "mine.safetensors")
    model = load(tmp_path / "mine.safetensors")
    assert isinstance(model, WrappedModel)
    assert model.card.id == fact["network"]
    x = _picture(*fact["input"])
    network = model.network
    with torch.inference_mode():
        if fact["network"] == "ffdnet":
            y = network(x, torch.full((1, 1, 1, 1), LEVEL))
        elif fact["network"] == "drunet":
            y = network(torch.cat((x, torch.full_like(x[:, :1], LEVEL)), dim=1))
        else:
            y = network(x)
    assert list(y.shape[1:]) == fact["output"]
    flat = y.flatten()
    step = max(1, len(flat) // len(fact["values"]))
    found = flat[::step][: len(fact["values"])]
    torch.testing.assert_close(
        found, torch.tensor(fact["values"]), rtol=0, atol=1e-5 * max(1.0, fact["span"])
    )


@pytest.mark.parametrize(("name", "release"), RELEASED)
def test_released_weights_are_known(name: str, release: str) -> None:
    fact = FACTS[name]
    released = fact["released"][release]
    with torch.device("meta"):
        state = _made(fact["network"], released["sizes"]).network.state_dict()
    assert (len(state), _digest(state)) == (released["tensors"], released["digest"])
    assert known_network(state, Path(release)) == fact["network"]
    sizes = entry_of(fact["network"]).sizes_in(state)
    assert {key: _plain(value) for key, value in sizes.items()} == released["sizes"]


@pytest.mark.parametrize(
    ("nest", "prefix"),
    [("params", ""), ("params_ema", ""), ("state_dict", "module."), (None, "net.")],
)
def test_nests_and_prefixes(nest: str | None, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "net_g_latest.pth"
    state = {prefix + name: tensor for name, tensor in _small("nafnet").items()}
    torch.save({nest: state, "iter": 7} if nest else state, path)
    plain = nr.load_model(_file(tmp_path, "nafnet"), card={"halo": 0})
    x = _picture(3, 40, 48)
    with torch.inference_mode():
        assert torch.equal(nr.load_model(path, card={"halo": 0})(x), plain(x))


def test_masks_of_the_training_size_are_left_out(tmp_path: Path) -> None:
    state = _small("swinir")
    state["layers.0.residual_group.blocks.1.attn_mask"] = torch.zeros(4, 64, 64)
    save_file(state, tmp_path / "x.safetensors")
    assert load(tmp_path / "x.safetensors").card.id == "swinir"


def test_dncnn_of_another_implementation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    stack = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1, bias=False),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 1, 3, padding=1, bias=False),
    ).eval()
    path = tmp_path / "net.pth"
    torch.save({f"module.dncnn.{k}": v for k, v in stack.state_dict().items()}, path)
    x = _picture(1, 20, 24)
    with torch.inference_mode():
        torch.testing.assert_close(load(path)(x), x - stack(x))


@pytest.mark.nightly
def test_a_local_one_runs_in_tiles(tmp_path: Path) -> None:
    model = nr.load_model(_file(tmp_path, "ffdnet"), parameters={"sigma": 25})
    assert (model.card.multiple_of, model.card.whole) == (2, "")
    assert model.card.halo >= 2 * 5
    picture = _picture(3, 90, 101)[0].permute(1, 2, 0).numpy()
    with torch.inference_mode():
        whole = model(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    tiled = nr.restore(picture, model, tile=32).array
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


def test_the_noise_level_is_a_parameter(tmp_path: Path) -> None:
    path = _file(tmp_path, "drunet")
    x = _picture(3, 40, 48)
    default, strong = load(path), load(path, parameters={"sigma": "25"})
    assert (default.card.values["sigma"], strong.card.values["sigma"]) == (15, 25)
    assert isinstance(strong, WrappedModel)
    with torch.inference_mode():
        level = torch.full_like(x[:, :1], 25 / 255)
        assert torch.equal(strong(x), strong.network(torch.cat((x, level), dim=1)))
        assert not torch.equal(strong(x), default(x))


def test_colours_of_ffa_net_are_normalised_before_and_not_after(tmp_path: Path) -> None:
    model = load(_file(tmp_path, "ffa-net"))
    assert isinstance(model, WrappedModel)
    x = _picture(3, 24, 32)
    mean, std = (
        torch.tensor(each)[:, None, None] for each in ((0.64, 0.6, 0.58), (0.14, 0.15, 0.152))
    )
    with torch.inference_mode():
        torch.testing.assert_close(model(x), model.network((x - mean) / std))


def test_dehazeformer_takes_minus_one_to_one(tmp_path: Path) -> None:
    model = load(_file(tmp_path, "dehazeformer"))
    assert isinstance(model, WrappedModel)
    x = _picture(3, 40, 48)
    with torch.inference_mode():
        expected = model.network(x * 2 - 1) / 2 + 0.5
        torch.testing.assert_close(model(x), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.slow
def test_inspection_names_structure_and_sizes(tmp_path: Path) -> None:
    found = inspect_model(_file(tmp_path, "aod-net"))
    assert found.architecture == "AOD-Net (bands 3)"
    assert found.card["model"] == "aod-net"
    assert found.card["halo"] == 7
    save_card(found)
    again = load(found.path)
    assert (again.card.halo, again.measured) == (7, False)


def test_a_card_says_another_order_of_bands(tmp_path: Path) -> None:
    bgr = ("blue", "green", "red")
    model = load(_file(tmp_path, "aod-net"), card={"roles": list(bgr)})
    assert model.card.roles == bgr


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"bands": 4}, "says bands 4; these weights have 3"), ({"mean": [1, 2]}, "2 values of mean")],
)
def test_a_card_of_other_bands_is_refused(fields: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=why):
        load(_file(tmp_path, "aod-net"), card=fields)


@pytest.mark.slow
def test_unknown_weights_name_the_nearest(tmp_path: Path) -> None:
    state = _small("nafnet")
    near = {name: each for name, each in state.items() if ".sca." not in name}
    near["extra.3.weight"] = torch.zeros(2)
    save_file(near, tmp_path / "near.safetensors")
    with pytest.raises(BadModel) as raised:
        load(tmp_path / "near.safetensors")
    message = str(raised.value)
    assert "it begins with decoders.0.0.beta, " in message
    assert "nearest is NAFNet, of which it lacks " in message
    assert ".sca.1.weight" in message
    assert "has the unknown extra.3.weight" in message


@pytest.mark.slow
def test_weights_like_no_network(tmp_path: Path) -> None:
    save_file({"a.weight": torch.zeros(3), "b.bias": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(BadModel, match=r"it begins with a\.weight, b\.bias\. Load its code"):
        load(tmp_path / "x.safetensors")


def test_another_part_of_known_weights_is_missing(tmp_path: Path) -> None:
    state = _small("restormer")
    del state["refinement.0.ffn.project_in.weight"]
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(
        BadModel,
        match=r"x\.safetensors is of Restormer, but lacks refinement\.0\.ffn\.project_in\.weight\.",
    ):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "tensor", "change", "says"),
    [
        ("nafnet", "ending.bias", (5,), "is of NAFNet, but has ending.bias of 5 in place of 3."),
        ("nafnet", "intro.weight", (7,), "NAFNet, but their intro.weight has another shape, 7"),
        (
            "nafnet",
            "intro.weight",
            (),
            "NAFNet, but their intro.weight has another shape, one value",
        ),
        ("aod-net", "e_conv1.weight", None, "AOD-Net, of which it lacks e_conv1.weight"),
        ("drunet", "m_tail.weight", None, "DRUNet, of which it lacks m_tail.weight"),
    ],
)
@pytest.mark.slow
def test_a_tensor_that_does_not_fit_is_named(
    name: str, tensor: str, change: tuple[int, ...] | None, says: str, tmp_path: Path
) -> None:
    state = _small(name)
    del state[tensor]
    if change is not None:
        state[tensor] = torch.ones(change)
    path = tmp_path / "x.safetensors"
    save_file(state, path)
    with pytest.raises(BadModel) as raised:
        load(path)
    assert says in str(raised.value)
    with pytest.raises(BadModel) as raised:
        load(name, weights=path)
    assert entry_of(name).card.title in str(raised.value)
    assert tensor in str(raised.value)


def test_sizes_that_no_network_has_are_refused(tmp_path: Path) -> None:
    state = _small("dehazeformer")
    name = next(n for n in state if n.endswith("layer3.blocks.0.mlp.mlp.2.weight"))
    state[name] = state[name].flatten()[:3].clone()
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(BadModel, match="not those of DehazeFormer"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", structures())
def test_a_card_without_weights_says_so(name: str) -> None:
    card = entry_of(name).card
    assert card.id == name
    assert card.needs_weights
    assert card.summary.endswith(".")
    assert card.source


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swinir-x2", "swinir-real"])
@pytest.mark.ids("nightly", "swinir-real", "swinir-x2")
def test_super_resolution_runs_in_tiles(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net_g.pth"
    torch.save({"params": _small(name)}, path)
    model = nr.load_model(path)
    assert model.card.scale == FACTS[name]["sizes"]["scale"]
    picture = _picture(3, 70, 83)[0].permute(1, 2, 0).numpy()
    with torch.inference_mode():
        whole = model(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert whole.shape == (70 * model.card.scale, 83 * model.card.scale, 3)
    tiled = nr.restore(picture, model, tile=128, progress=False, scratch=tmp_path)
    assert tiled.record["plan"]["tiles"] > 1
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * max(1.0, np.abs(whole).max()))
