from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_restore.errors import BadModel, BadParameter, MissingWeights, UnknownModel
from napari_restore_lab.loop import (
    ModelConfig,
    OptimiserConfig,
    choose_parameters,
    make_network,
    make_optimiser,
    set_up_staged,
)

SMALL = {"width": 4, "blocks": 1}


def test_a_network_starts_as_its_seed_says_and_leaves_the_generator_alone():
    config = ModelConfig("haze-unet", SMALL)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two, other = (make_network(config, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one.stem.weight.equal(two.stem.weight)
    assert not one.stem.weight.equal(other.stem.weight)


@pytest.mark.parametrize(
    ("config", "error", "told"),
    [
        (ModelConfig("haze-net"), UnknownModel, "no model 'haze-net'"),
        (ModelConfig("dcp"), BadParameter, "nothing to train"),
        (ModelConfig("haze-unet", {"wide": 3}), BadParameter, "sizes do not make haze-unet"),
        (ModelConfig("haze-unet", weights=Path("no.pth")), MissingWeights, "no weights file"),
        (
            ModelConfig("haze-unet", SMALL, checkpointing=True),
            BadParameter,
            "checkpointing has no effect",
        ),
        (ModelConfig("haze-unet", SMALL, exact_below=9), BadParameter, "exact_below has no effect"),
        (ModelConfig(factory=Path("no.py:make")), BadModel, "no file no.py"),
    ],
)
def test_what_cannot_be_trained_is_refused(config: ModelConfig, error: type[Exception], told: str):
    with pytest.raises(error, match=told):
        set_up_staged(make_network(config, 0), config)


def test_weights_of_another_size_are_refused(tmp_path: Path):
    path = tmp_path / "w.pth"
    torch.save(make_network(ModelConfig("haze-unet", SMALL), 0).state_dict(), path)
    assert make_network(ModelConfig("haze-unet", weights=path), 0).stem.weight.shape[0] == 4
    with pytest.raises(BadModel, match=r"stem\.weight of 4 × 3 × 6 × 6 in place of 8 × 3 × 6 × 6"):
        make_network(ModelConfig("haze-unet", {"width": 8}, weights=path), 0)


def test_a_part_starts_with_the_weights_of_another_network(tmp_path: Path):
    path = tmp_path / "a.pth"
    sizes = {"width": 6, "looks": 1}
    torch.save(make_network(ModelConfig("atmosphere", sizes), 3).state_dict(), path)
    sizes = SMALL | {"context": 6, "looks": 1}
    model = make_network(ModelConfig("haze-unet", sizes, parts={"atmosphere": path}), 0)
    assert model.atmosphere.state_dict().keys() == torch.load(path).keys()
    for name, value in torch.load(path).items():
        assert torch.equal(model.atmosphere.state_dict()[name], value)
    with pytest.raises(BadParameter, match="no part 'sky'"):
        make_network(ModelConfig("haze-unet", sizes, parts={"sky": path}), 0)
    with pytest.raises(BadModel, match="lacks"):
        make_network(ModelConfig("haze-unet", sizes, parts={"stem": path}), 0)


def test_only_matrices_and_kernels_decay():
    model = make_network(ModelConfig("haze-unet", SMALL), 0)
    choose_parameters(model, ["middle", "head"])
    groups = make_optimiser(model, OptimiserConfig(weight_decay=0.5)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert all(p.ndim >= 2 for p in groups[0]["params"])
    assert len(groups[0]["params"]) == len(groups[1]["params"]) == 2


@pytest.mark.slow
def test_a_staged_network_learns_the_same_with_less_memory():
    plain = ModelConfig("inf-dehaze-small")
    spared = ModelConfig("inf-dehaze-small", checkpointing=True)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    gradients = []
    for config in (plain, spared):
        model = make_network(config, 0)
        set_up_staged(model, config)
        (model(x).square().mean() + 0.01 * model.auxiliary_loss()).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_places_of_tokens_are_random_and_follow_from_the_generator():
    config = ModelConfig("inf-dehaze-small", exact_below=2, random_origin=1000)
    model = make_network(config, 0)
    set_up_staged(model, config)
    grid = torch.zeros(2, 3, model.width)
    torch.manual_seed(0)
    one, other = model.place_tokens(grid), model.place_tokens(grid)
    torch.manual_seed(0)
    assert model.place_tokens(grid).equal(one)
    assert not one.equal(other)
    assert {p.exact_below for p in model.modules() if hasattr(p, "exact_below")} == {2}
