"""What a model file is found to be."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import napari_restore as nr
from napari_restore.api import inspect_model, save_card
from napari_restore.errors import BadModel, BadOutput
from napari_restore.models import TorchProgram, windows_along


class Halves(nn.Module):
    """Looks 5 pixels far on half the resolution: multiples of 2."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Conv2d(3, 3, 5, padding=2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.interpolate(self.seen(x), scale_factor=2.0)
        return x + 0.1 * y


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of haze-unet without a card."""
    path = tmp_path / "mine.safetensors"
    save_file(nr.load_model("haze-unet", weights="random:3").state_dict(), path)
    return path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An exported program without a card."""
    path = tmp_path / "sharp.pt2"
    side = {2: 2 * torch.export.Dim("h", min=8), 3: 2 * torch.export.Dim("w", min=8)}
    exported = torch.export.export(
        Halves(), (torch.rand(1, 3, 64, 64),), dynamic_shapes=(side,), strict=False
    )
    torch.export.save(exported, path)
    return path


def test_weights_are_recognised_by_what_they_fit_into(weights: Path):
    found = inspect_model(weights)
    assert found.card == {"model": "haze-unet", "title": "mine"}
    assert found.architecture == "HazeUNet"
    assert found.model.card.halo == 48
    assert (found.bytes, found.known) == (weights.stat().st_size, False)
    save_card(found, title="My haze")
    again = nr.load_model(str(weights))
    assert again.card.title == "My haze"
    assert inspect_model(weights).known


def test_a_pickle_of_weights_is_recognised_too(weights: Path, tmp_path: Path):
    path = tmp_path / "mine.pth"
    state = nr.load_model("haze-unet", weights=str(weights)).state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    assert inspect_model(path).card["model"] == "haze-unet"


@pytest.mark.slow
def test_a_program_needs_trust_and_is_measured(program: Path):
    with pytest.raises(BadModel, match="trust its author"):
        inspect_model(program)
    found = inspect_model(program, trust=True)
    assert found.card["bands"] == 3
    assert found.card["multiple_of"] == 2
    assert 2 <= found.card["halo"] <= 6
    assert found.measured
    save_card(found)
    assert nr.load_model(str(program), trust=True).card.halo == found.card["halo"]


@pytest.mark.nightly
def test_a_program_runs_as_the_module_it_was_made_from(program: Path):
    save_card(inspect_model(program, trust=True))
    scene = np.random.default_rng(0).integers(0, 256, (150, 190, 3), np.uint8)
    torch.manual_seed(0)
    run = nr.restore(scene, nr.load_model(str(program), trust=True), tile=128, device="cpu")
    module = torch.export.load(program).module()
    with torch.inference_mode():
        x = torch.from_numpy(scene).permute(2, 0, 1)[None] / 255
        expected = (module(x)[0].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
    assert np.abs(expected.astype(int) - scene).mean() > 1
    assert np.abs(run.read(run.region).astype(int) - expected).max() <= 1


def fixed_program(path: Path, module: nn.Module, shape: tuple[int, int, int, int]) -> Path:
    """`module` exported for images of a single size."""
    torch.export.save(torch.export.export(module, (torch.rand(shape),), strict=False), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 64, 96)], ids=str)
@pytest.mark.ids("nightly", "(1, 3, 64, 64)", "(2, 3, 64, 96)")
def test_a_program_of_one_size_sees_windows_of_it(tmp_path: Path, shape: tuple[int, ...]):
    module = Halves()
    path = fixed_program(tmp_path / "fixed.pt2", module, shape)
    found = inspect_model(path, trust=True)
    assert (found.card["bands"], found.measured) == (3, True)
    assert 2 <= found.card["halo"] <= 16
    assert found.card["multiple_of"] % 2 == 0
    save_card(found)
    model = nr.load_model(str(path), trust=True)
    x = torch.rand(1, 3, 150, 232)
    with torch.inference_mode():
        whole, y = module(x), model(x)
    assert y.shape == x.shape
    # At the image's edge a window ends; below and right it is grown by reflection.
    inner = (..., slice(0, 142), slice(0, 224))
    assert torch.allclose(y[inner], whole[inner], atol=1e-6)
    scene = (x[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    runs = [nr.restore(scene, model, tile=tile, device="cpu") for tile in (64, 256)]
    one, other = (run.read(run.region) for run in runs)
    np.testing.assert_array_equal(one, other)
    assert (one != scene).mean() > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 3, 64, 96), (2, 3, 320, 288)], ids=str)
@pytest.mark.ids("nightly", "(1, 3, 64, 96)")
def test_an_image_of_the_size_of_a_program_is_what_the_program_makes(tmp_path: Path, shape):
    path = fixed_program(tmp_path / "fixed.pt2", Halves(), shape)
    program = torch.export.load(path).module()
    scene = np.random.default_rng(0).random((*shape[2:], 3)).astype(np.float32)
    x = torch.from_numpy(scene).permute(2, 0, 1).expand(*shape)
    with torch.inference_mode():
        expected = program(x.contiguous())[0].permute(1, 2, 0)
    model = nr.load_model(str(path), trust=True)
    for tile in (128, 512):
        found = nr.restore(scene, model, tile=tile, device="cpu", scratch=tmp_path / str(tile))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_windows_lie_within_the_image_and_keep_off_their_inner_edges():
    for length, side, margin in ((64, 64, 16), (100, 64, 16), (96, 64, 0), (1000, 64, 28)):
        windows = windows_along(length, side, margin)
        kept = [np.arange(side)[one] + start for start, one in windows]
        assert np.array_equal(np.concatenate(kept), np.arange(length))
        for start, one in windows:
            assert 0 <= start <= length - side
            assert start == 0 or one.start >= margin
            assert start == length - side or one.stop <= side - margin


class Everywhere(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean((2, 3), keepdim=True)


def test_a_program_of_one_size_that_needs_all_of_it_is_refused(tmp_path: Path):
    path = fixed_program(tmp_path / "all.pt2", Everywhere(), (1, 3, 64, 64))
    with pytest.raises(BadModel, match=r"64 × 64 pixels only.*free height and width"):
        inspect_model(path, trust=True)


class Saturated(nn.Module):
    """Has no gradient anywhere for most inputs, and a reach of 3 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.blur = nn.AvgPool2d(7, 1, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.blur(x) * 9).clamp(0, 1)


def test_the_reach_of_a_program_is_seen_where_it_has_no_gradient():
    assert TorchProgram(Saturated(), (1, 3, 64, 64)).margin >= 3


def test_python_is_measured_too_and_keeps_its_factory(tmp_path: Path):
    path = tmp_path / "own.py"
    path.write_text("import torch\ndef make():\n    return torch.nn.Conv2d(1, 1, 3, padding=1)\n")
    with pytest.raises(BadModel, match="is Python code"):
        inspect_model(f"{path}:make")
    found = inspect_model(f"{path}:make", trust=True)
    assert (found.card["bands"], found.card["halo"], found.path) == (1, 1, path)


STRETCH = """
import torch


class Stretch(torch.nn.Module):
    def forward(self, x):
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return (x - low) / (high - low + 1e-6)
"""


@pytest.mark.slow
def test_what_needs_the_whole_image_still_does_with_its_card(tmp_path: Path):
    (tmp_path / "stretch.py").write_text(STRETCH)
    proposal = inspect_model(f"{tmp_path / 'stretch.py'}:Stretch", trust=True)
    save_card(proposal)
    model = nr.load_model(f"{tmp_path / 'stretch.py'}:Stretch", trust=True)
    assert not model.measured
    image = np.random.default_rng(0).random((200, 330, 3), np.float32)
    plan = nr.plan(image, model)
    assert plan.computing.is_whole
    assert any("the whole image in one pass" in note for note in plan.notes)


@pytest.mark.parametrize("name", ["notes.txt", "gone.pth"])
def test_what_is_no_model_is_refused(tmp_path: Path, name: str):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BadModel, match=name):
        inspect_model(tmp_path / name)


@pytest.mark.slow
def test_unknown_weights_are_refused_with_their_first_names(tmp_path: Path):
    path = tmp_path / "other.safetensors"
    save_file({"stem.weight": torch.ones(2, 3, 1, 1)}, path)
    with pytest.raises(BadModel, match=r"of no network known here: it begins with stem\.weight"):
        inspect_model(path)


def stack(
    taken: int, given: int, width: int, side: int = 3, name: str = "model"
) -> dict[str, Tensor]:
    """Weights of five layers of convolutions, with what lies between them."""
    counts = (taken, width, width, width, width, given)
    layers = [nn.Conv2d(a, b, side) for a, b in pairwise(counts)]
    state = {}
    for number, layer in enumerate(layers):
        state |= {f"{name}.{2 * number}.{k}": v for k, v in layer.state_dict().items()}
    return state


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (stack(3, 3, 64, 5), "nearest is DnCNN, but they are 5 convolutions of 5 × 5"),
        (stack(4, 3, 64), "nearest is DnCNN, but they take 4 bands and give 3"),
        (stack(15, 12, 96), "nearest is FFDNet, but they take 15 channels and give 12"),
        (
            stack(13, 12, 96, name="net.inner"),
            "nearest is FFDNet, whose names begin with model and not net.inner. L",
        ),
        (
            stack(3, 3, 64, name="body"),
            "nearest is DnCNN, whose names begin with model and not body. L",
        ),
        (
            stack(3, 3, 64, name="body") | {"body.1.running_mean": torch.ones(64)},
            "not body, of which it has the unknown body.1.running_mean",
        ),
    ],
)
@pytest.mark.slow
@pytest.mark.ids("nightly", "state5-not body, of which it has the unknown body.1.running_mean")
def test_the_nearest_of_stacks_of_layers_is_named(tmp_path: Path, state, words: str):
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(BadModel, match=re.escape(words)):
        inspect_model(tmp_path / "net.safetensors")


def test_a_card_that_cannot_be_written_says_so(weights: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    found = inspect_model(weights)
    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(BadOutput, match="Copy the model"):
        save_card(found)
    assert not weights.with_suffix(".json").exists()


def test_a_field_that_no_card_has_is_refused(weights: Path):
    found = inspect_model(weights)
    with pytest.raises(BadModel, match="no field 'colour'"):
        save_card(found, colour="red")
    assert not weights.with_suffix(".json").exists()


def test_a_card_beside_is_kept_as_it_is(weights: Path):
    card = {"model": "haze-unet", "title": "Kept", "trained_on": "my scenes"}
    weights.with_suffix(".json").write_text(json.dumps(card))
    assert dict(inspect_model(weights).card) == card
