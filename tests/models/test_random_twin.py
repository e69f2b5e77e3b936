"""A network's twin with random weights is the one that the loader makes, and the network stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from napari_restore.errors import BadParameter
from napari_restore.models import RANDOM_WEIGHTS, load, random_twin, sha256_of_state

CARD = {"bands": 3, "halo": 1}


class Small(nn.Module):
    """One convolution, and a number that no seed knows."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Conv2d(3, 3, 3, padding=1)
        self.register_buffer("mean", torch.tensor(0.25))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.out(x - self.mean)


@pytest.mark.parametrize("name", ["inf-dehaze-small", "haze-unet"])
@pytest.mark.ids("slow", "inf-dehaze-small")
def test_it_is_what_the_loader_makes(name: str) -> None:
    model = load(name) if name == "inf-dehaze-small" else load(name, weights="random:3")
    digest = sha256_of_state(model)
    twin, expected = random_twin(model), load(name, weights=RANDOM_WEIGHTS)
    assert sha256_of_state(twin) == sha256_of_state(expected) != digest
    assert twin.card.weights_sha256 == expected.card.weights_sha256
    assert twin.card.values == model.card.values and twin.spec == expected.spec
    assert sha256_of_state(model) == digest


def test_a_weights_file_with_a_card(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(load("haze-unet", weights="random:3").state_dict(), path)
    path.with_suffix(".json").write_text('{"model": "haze-unet"}')
    twin = random_twin(load(path))
    assert sha256_of_state(twin) == sha256_of_state(load("haze-unet", weights=RANDOM_WEIGHTS))


def test_a_module_is_copied() -> None:
    module = Small()
    model = load(module, card=CARD)
    before = module.out.weight.clone()
    twin = random_twin(model)
    assert torch.equal(module.out.weight, before)
    x = torch.rand(1, 3, 8, 8)
    assert not torch.equal(twin(x), model(x)) and twin.card.halo == 1
    assert twin.card.weights_sha256 != model.card.weights_sha256


def test_networks_without_such_a_twin() -> None:
    for model, message in (
        (load("dcp"), "dcp cannot be loaded with random weights: .* takes no weights"),
        (load("haze-unet", weights=RANDOM_WEIGHTS), "haze-unet has the weights random:0 itself"),
    ):
        with pytest.raises(BadParameter, match=message) as caught:
            random_twin(model)
        assert "random_twin" in caught.value.hint
