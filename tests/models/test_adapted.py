"""What networks take and give: ranges, normalised bands, noise levels, several outputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import napari_restore as nr
from napari_restore.errors import BadModel, BadParameter
from napari_restore.models import WrappedModel, content_of, definition_of, inputs_in_words, load

X = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0))
SIZES = {"bands": 3, "halo": 0}


class Net(nn.Module):
    """Calls a function, and is a network for it has a weight."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def _result(function: Callable[..., Any], **card: Any) -> Tensor:
    parameters = card.pop("parameters", None)
    with torch.inference_mode():
        return load(Net(function), card={**SIZES, **card}, parameters=parameters)(X)


def _kept(x: Tensor) -> Tensor:
    return x


def _squared(x: Tensor) -> Tensor:
    return x * x


BANDS = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 1.0, 2.0]}
MEAN, STD = (torch.tensor(BANDS[name])[:, None, None] for name in ("mean", "std"))


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ({"value_range": [-1, 1]}, ((2 * X - 1) ** 2 + 1) / 2),
        ({"value_range": [0, 255]}, (255 * X) ** 2 / 255),
        (BANDS, ((X - MEAN) / STD) ** 2 * STD + MEAN),
        ({"mean": [0.5]}, (X - 0.5) ** 2 + 0.5),
        ({"std": [0.5]}, (X / 0.5) ** 2 * 0.5),
        ({**BANDS, "output_range": [0, 1]}, ((X - MEAN) / STD) ** 2),
        ({"output_range": [-1, 1]}, (X * X + 1) / 2),
        (
            {"value_range": [0, 255], "mean": [127.5], "std": [127.5]},
            ((255 * X - 127.5) ** 2 / 127.5 + 127.5) / 255,
        ),
    ],
)
def test_values_are_scaled_there_and_back(card: dict[str, Any], expected: Tensor) -> None:
    torch.testing.assert_close(_result(_squared, **card), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        _result(_kept, **{k: v for k, v in card.items() if k != "output_range"}), X
    )


@pytest.mark.parametrize(
    ("value_range", "unit"), [([0, 1], 1 / 255), ([0, 255], 1), ([-1, 1], 2 / 255)]
)
def test_a_noise_level_is_a_band_or_an_argument(value_range: list[float], unit: float) -> None:
    def of_band(x: Tensor) -> Tensor:
        assert x.shape[1] == 4
        return x[:, 3:].expand(-1, 3, -1, -1)

    def of_argument(x: Tensor, level: Tensor) -> Tensor:
        assert level.shape == (1, 1, 1, 1)
        return level.expand_as(x)

    given = {"noise_level": 25, "value_range": value_range, "output_range": [0, 1]}
    for function, how in ((of_band, "band"), (of_argument, "argument")):
        for parameters, sigma in ((None, 25), ({"sigma": "40"}, 40)):
            y = _result(function, noise_as=how, parameters=parameters, **given)
            torch.testing.assert_close(y, torch.full_like(X, sigma * unit))


def test_no_noise_level_no_parameter() -> None:
    with pytest.raises(BadParameter, match="no parameter 'sigma'"):
        _result(_kept, parameters={"sigma": 3})
    with pytest.raises(BadParameter, match=r"sigma = 300\.0 is outside"):
        _result(_kept, noise_level=3, parameters={"sigma": 300})


@pytest.mark.parametrize(
    ("function", "output"),
    [
        (lambda x: (x[:, :1], x), 1),
        (lambda x: [x * 0, x, x * 2], 1),
        (lambda x: {"mask": x[:, :1], "restored": x}, "restored"),
    ],
)
def test_one_of_several_outputs(function: Callable[..., Any], output: int | str) -> None:
    torch.testing.assert_close(_result(function, output=output), X)
    with pytest.raises(BadModel, match=r"without the output 'else' of its card"):
        _result(function, output="else")


def test_blue_green_red_is_an_order_of_roles() -> None:
    step = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    card = {**SIZES, "roles": ["blue", "green", "red"]}
    picture = np.full((16, 16, 3), 0.25, np.float32)
    result = nr.restore(picture, load(Net(lambda x: x + step), card=card)).array
    np.testing.assert_allclose(result[0, 0], [0.55, 0.45, 0.35], atol=1e-6)


def test_sizes_are_measured_where_a_card_says_only_what_it_takes() -> None:
    net = nn.Conv2d(4, 3, 5, padding=2)
    model = nr.load_model(net, card={"noise_level": 25, "value_range": [-1, 1]})
    assert (model.card.bands, model.card.halo, model.measured) == (3, 2, True)
    claimed = load(net, card={"noise_level": 25, "halo": 7, "bands": 3})
    assert (claimed.card.halo, claimed.measured) == (7, False)


@pytest.mark.parametrize(
    ("function", "field"),
    [
        (lambda x, sigma: x, '"noise_as": "argument"'),
        (lambda x: x[:, :3] if x.shape[1] == 4 else 1 / 0, '"noise_as": "band"'),
        (lambda x: {"t": x[:, :1], "clear": x}, '"output": "clear"'),
        (lambda x: (x[..., ::2, ::2], x), '"output": 1'),
    ],
)
def test_the_field_to_write_is_named(function: Callable[..., Any], field: str) -> None:
    class Own(nn.Module):
        def forward(self, *inputs: Tensor) -> Any:
            return function(*inputs)

    class Told(nn.Module):
        def forward(self, x: Tensor, sigma: Tensor) -> Any:
            return x

    with pytest.raises(BadModel) as raised:
        load(Told() if "argument" in field else Own())
    assert field in raised.value.hint


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ({"value_range": [1, 0]}, r"impossible value_range \[1, 0\]"),
        ({"output_range": [0, 0]}, r"impossible output_range"),
        ({"value_range": [0]}, "value_range"),
        ({"mean": [0.1, 0.2]}, "2 values of mean for 3 bands"),
        ({"std": [0]}, "not positive"),
        ({"noise_level": -1}, "impossible noise_level"),
        ({"noise_as": "map"}, "noise_as"),
        ({"output": 1.5}, "output"),
    ],
)
def test_impossible_fields_are_refused(card: dict[str, Any], said: str) -> None:
    with pytest.raises(BadModel, match=said):
        load(Net(_kept), card={**SIZES, **card})


def test_digests_tell_what_a_network_takes() -> None:
    plain = load(nn.Conv2d(3, 3, 1), card=SIZES)
    assert isinstance(plain, WrappedModel)
    assert plain.module is plain.network
    other = load(plain.network, card={**SIZES, "value_range": [-1, 1]})
    assert content_of(other) != content_of(plain)
    assert definition_of(other) != definition_of(plain)


def test_in_words() -> None:
    card = load(Net(_kept), card={**SIZES, **BANDS, "value_range": [0, 255]}).card
    assert inputs_in_words(card) == "values of 0 to 255, less 0.1 0.2 0.3, over 0.5 1 2"
    assert inputs_in_words(load(Net(_kept), card=SIZES).card) == ""


# -- files ------------------------------------------------------------------------------


def _scripted(path: Path) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    torch.jit.script(net.eval()).save(str(path))
    return net


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
def test_torchscript_runs_only_with_consent(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    net = _scripted(path)
    with pytest.raises(BadModel, match="is a program"):
        load(path)
    with torch.inference_mode():
        torch.testing.assert_close(load(path, trust=True)(X), net(X))
    assert nr.api.code_file(str(path)) == str(path)
    assert nr.api.code_file("dcp") is None


def test_a_folder_stands_for_its_weights(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    with pytest.raises(BadModel, match="has no weights"):
        load(folder)
    state = {f"e_conv{n}.{part}": each for n, part, each in _aod()}
    torch.save(state, folder / "pytorch_model.bin")
    torch.save(state, folder / "optimizer.pt")
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "code.Model"}}')
    (folder / "code.py").write_text("raise SystemExit")
    model = load(folder)
    assert model.card.id == "aod-net"
    assert model.spec["model"] == str(folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin").rename(folder / "mine.bin")
    with pytest.raises(BadModel, match=r"several weights: optimizer\.pt, mine\.bin"):
        load(folder)


def _aod() -> list[tuple[int, str, Tensor]]:
    shapes = ((3, 1), (3, 3), (6, 5), (6, 7), (12, 3))
    made = []
    for number, (seen, side) in enumerate(shapes, 1):
        made.append((number, "weight", torch.zeros(3, seen, side, side)))
        made.append((number, "bias", torch.zeros(3)))
    return made
