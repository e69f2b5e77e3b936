"""The network's field, sizes and cost."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from napari_restore.models import (
    card_of,
    entry_of,
    load,
    one_shot_statistics,
    read_state,
    shipped_weights,
)
from napari_restore.models.haze_unet.network import STRIDE, HazeUNet, halo_of

SIDE = 25 * STRIDE
LOW = 12 * STRIDE
BLOCK = slice(LOW, LOW + STRIDE)


def reach(touched: Tensor) -> int:
    """How far the touched pixels (H, W) reach beyond the block."""
    places = touched.nonzero()
    return int(max(LOW - places.min(), places.max() - (LOW + STRIDE - 1)))


@pytest.mark.parametrize("blocks", [1, 2])
def test_halo_is_the_reach_of_a_nan(blocks: int) -> None:
    model = HazeUNet(card_of("haze-unet"), width=8, blocks=blocks)
    x = torch.rand(1, 3, SIDE, SIDE)
    x[..., BLOCK, BLOCK] = torch.nan
    measured = reach(torch.isnan(model(x)).any(1)[0])
    assert halo_of(blocks) - STRIDE < measured <= halo_of(blocks) == model.card.halo


def test_halo_is_the_reach_of_the_gradient() -> None:
    # Linear, with weights of one sign: nothing can cancel or be cut off on the way.
    model = HazeUNet(card_of("haze-unet"), width=4)
    for name, parameter in model.named_parameters():
        torch.nn.init.constant_(parameter, 1e-3 if name.endswith("weight") else 0.0)
    x = torch.rand(1, 3, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    model.double()(x)[..., BLOCK, BLOCK].sum().backward()
    assert x.grad is not None
    measured = reach((x.grad != 0).any(1)[0])
    assert model.card.halo - STRIDE < measured <= model.card.halo


def test_size() -> None:
    model = load("haze-unet", weights="random:0")
    assert sum(p.numel() for p in model.parameters()) == 143_267


def test_every_layer_is_called_once_so_that_it_can_be_attributed() -> None:
    model = load("haze-unet", weights="random:0")
    calls: Counter[str] = Counter()
    for name, layer in model.named_layers().items():
        layer.register_forward_hook(lambda *_, name=name: calls.update([name]))
    model(torch.rand(1, 3, 64, 64))
    assert calls == dict.fromkeys(model.named_layers(), 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3), (8, 8), (30, 17)], ids=str)
def test_any_size(size: tuple[int, int]) -> None:
    model = load("haze-unet", weights="random:0")
    x = torch.rand(2, 3, *size)
    y = model(x)
    assert y.shape == x.shape
    assert torch.isfinite(y).all()
    assert not torch.equal(y, x)


def test_odd_sizes_are_reflected() -> None:
    """The reference for sizes that are not multiples is the reflected image, cut."""
    model = load("haze-unet", weights="random:0")
    x = torch.rand(1, 3, 21, 30)
    padded = torch.nn.functional.pad(x, (0, 2, 0, 3), mode="reflect")
    assert torch.allclose(model(x), model(padded)[..., :21, :30], atol=1e-6)


def test_shift_by_a_stride_shifts_the_result() -> None:
    model = load("haze-unet", weights="random:0")
    x = torch.rand(1, 3, 160, 160)
    inner = slice(model.card.halo + STRIDE, 160 - model.card.halo - STRIDE)
    moved = model(x.roll(STRIDE, dims=3)).roll(-STRIDE, dims=3)
    assert torch.allclose(moved[..., inner, inner], model(x)[..., inner, inner], atol=1e-6)


# -- with the overview's context ---------------------------------------------------


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> HazeUNet:
    """A network that looks at the overview first, loaded from a file that tells its sizes."""
    from safetensors.torch import save_file

    from napari_restore.models import randomise

    made = HazeUNet(card_of("haze-unet"), width=8, blocks=1, context=6)
    randomise(made, 0)
    path = tmp_path_factory.mktemp("weights") / "seeing.safetensors"
    save_file(made.state_dict(), path)
    loaded = load("haze-unet", weights=path)
    assert isinstance(loaded, HazeUNet)
    return loaded


def test_context_comes_with_its_weights(seeing: HazeUNet) -> None:
    card = seeing.card
    assert card.placed and card.needs_context and card.maps == ("transmission", "airlight")
    plain = load("haze-unet", weights="random:0").card
    assert not (plain.placed or plain.needs_context or plain.maps)


def test_the_shipped_weights_work_behind_the_shipped_atmosphere() -> None:
    atmosphere = read_state(shipped_weights(entry_of("atmosphere")))
    made = load("haze-unet").state_dict()
    for name, value in atmosphere.items():
        assert torch.equal(made[f"atmosphere.{name}"], value.float())


def test_tiles_with_context_equal_the_whole(seeing: HazeUNet) -> None:
    x = torch.rand(1, 3, 96, 128)
    statistics = one_shot_statistics(seeing, x)
    whole = seeing(x, statistics)
    halo = seeing.card.halo
    assert halo == halo_of(1)
    # Core 48 … 56 × 64 … 80 and its halo.
    fed = x[..., 48 - halo : 56 + halo, 64 - halo : 80 + halo]
    tile = seeing(fed, {**statistics, "origin": torch.tensor([[48 - halo, 64 - halo]])})
    core = tile[..., halo : halo + 8, halo : halo + 16]
    assert torch.allclose(core, whole[..., 48:56, 64:80], atol=1e-6)


def test_context_matters(seeing: HazeUNet) -> None:
    x = torch.rand(1, 3, 96, 128)
    statistics = dict(one_shot_statistics(seeing, x))
    other = {**statistics, "maps": statistics["maps"] + 0.5}
    assert not torch.allclose(seeing(x, statistics), seeing(x, other))


def test_nothing_changes_where_the_context_sees_no_haze(seeing: HazeUNet) -> None:
    x = torch.rand(1, 3, 96, 128)
    statistics = dict(one_shot_statistics(seeing, x))
    assert torch.equal(seeing(x, {**statistics, "presence": torch.tensor(0.0)}), x)
    assert not torch.equal(seeing(x, {**statistics, "presence": torch.tensor(1.0)}), x)
