"""`inspect FILE`, weights without a card, and `--card`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ._scenes import read

OWN = """
import torch

class Net(torch.nn.Module):
    def forward(self, x, level):
        return {"kept": x[:, :1], "out": x * 0 + level}
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of AOD-Net that make every picture grey: K is 0.5, and the result 0.5 · x + 0.5."""
    shapes = ((3, 1), (3, 3), (6, 5), (6, 7), (12, 3))
    state = {}
    for number, (seen, side) in enumerate(shapes, 1):
        state[f"e_conv{number}.weight"] = torch.zeros(3, seen, side, side)
        state[f"e_conv{number}.bias"] = torch.full((3,), 0.5)
    path = tmp_path / "dehazer.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    return path


@pytest.mark.slow
def test_inspect_names_structure_and_sizes(cli: Any, weights: Path) -> None:
    run = cli("inspect", weights, "--json")
    assert run.code == 0
    found = json.loads(run.out)
    assert found["structure"] == "AOD-Net (bands 3)"
    assert (found["bands"], found["multiple_of"], found["card"]) == (3, 1, None)
    text = cli("inspect", weights, "--save").out
    assert "structure: AOD-Net (bands 3)\n" in text
    assert json.loads(weights.with_suffix(".json").read_text())["model"] == "aod-net"


@pytest.mark.slow
def test_weights_alone_restore(cli: Any, weights: Path, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    run = cli("restore", scene, "-o", out, "--model", weights, "--tile", 64)
    assert run.code == 0, run.err
    before, after = read(scene).astype(float), read(out).astype(float)
    np.testing.assert_allclose(after, 0.5 * before + 127.5, atol=1)


@pytest.mark.slow
def test_unknown_weights_exit_with_a_sentence(cli: Any, tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "net.pth")
    run = cli("inspect", tmp_path / "net.pth")
    assert run.code == 2
    assert "net.pth is of no network known here: it begins with a.weight." in run.err


@pytest.mark.slow
def test_fields_of_the_card_are_options(cli: Any, scene: Path, tmp_path: Path) -> None:
    own, out = tmp_path / "own.py", tmp_path / "out.tif"
    own.write_text(OWN)
    card = ["--card", "noise_level=25", "--card", "noise_as=argument", "--card", "output=out"]
    run = cli("inspect", f"{own}:Net", "--yes")
    assert run.code == 2
    assert "If level is a noise level, say so on a card" in run.err
    model = ["--model", f"{own}:Net", "--yes", *card]
    record = tmp_path / "run.json"
    run = cli("restore", scene, "-o", out, *model, "--set", "sigma=51", "--record", record)
    assert run.code == 0, run.err
    assert np.ptp(read(out)) <= 1 and abs(float(read(out).mean()) - 51) <= 1
    again = tmp_path / "again.tif"
    assert cli("rerun", record, "-o", again, "--yes").code == 0
    np.testing.assert_array_equal(read(again), read(out))
    run = cli("inspect", f"{own}:Net", "--yes", *card)
    assert "takes: the noise level as a second argument, of several outputs out" in run.out
    assert "? Does it take values of [0, 1]?" in run.out
    run = cli("restore", scene, "-o", out, "--overwrite", *model, "--card", "nose=3")
    assert (run.code, "no field 'nose'" in run.err) == (2, True)


@pytest.mark.parametrize("given", [["--weights", "net.pth"], ["--set", "width=7"]])
def test_weights_and_parameters_of_no_model_are_refused(cli: Any, given: list[str]) -> None:
    run = cli("models", *given)
    assert (run.code, "none is named" in run.err) == (2, True)


SIZED = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.last = torch.nn.Conv2d(3, width, 1)
        self.first = torch.nn.Conv2d(width, 3, 1)

    def forward(self, x):
        return self.first(self.last(x))
"""


@pytest.mark.parametrize("command", ["inspect", "models"])
def test_a_factory_is_given_arguments_and_weights(cli: Any, tmp_path: Path, command: str) -> None:
    own, weights = tmp_path / "own.py", tmp_path / "net_g.pth"
    own.write_text(SIZED)
    layers = {"last": torch.nn.Conv2d(3, 7, 1), "first": torch.nn.Conv2d(7, 3, 1)}
    torch.save({"params": torch.nn.ModuleDict(layers).state_dict()}, weights)
    given = ["--weights", weights, "--yes"]
    run = cli(command, f"{own}:Net", *given, "--set", "width=7")
    assert run.code == 0, run.err
    assert "last (Conv2d)" in run.out
    run = cli(command, f"{own}:Net", *given, "--set", "width=5")
    assert (run.code, "Give Net the arguments" in run.err) == (2, True)
    assert "as --set width=VALUE: it takes width." in run.err
