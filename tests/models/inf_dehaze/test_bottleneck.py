"""Layers over the grid of a whole image: exact in pieces, bounded in memory, stoppable."""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from napari_restore.models import Routing
from napari_restore.models.inf_dehaze import ibssa
from napari_restore.models.inf_dehaze.bottleneck import Bottleneck, pieces
from napari_restore.models.inf_dehaze.config import LITE, RELEASED, SMALL, InfDehazeConfig

TINY = replace(
    SMALL,
    widths=(16,),
    layers=("ibssa", "full"),
    bottleneck_heads=2,
    qk_width=8,
    exact_below=300,
    block_size=32,
)


def make(config: InfDehazeConfig = TINY, piece: int | None = None) -> Bottleneck:
    torch.manual_seed(1)
    bottleneck = Bottleneck(config).eval()
    for layer in bottleneck.blocks:
        layer.piece = piece or layer.piece
    return bottleneck


def grid(height: int, width: int, channels: int = 16) -> Tensor:
    return torch.randn(height, width, channels, generator=torch.Generator().manual_seed(2))


def routing_of(bottleneck: Bottleneck, index: int, x: Tensor) -> dict[Hashable, Tensor]:
    """What a layer chooses for `x`."""
    routing = Routing()
    with torch.no_grad():
        bottleneck.layer(index, x.clone(), routing=routing)
    return routing.made


def direct(bottleneck: Bottleneck, index: int, x: Tensor) -> Tensor:
    """A layer by its formula."""
    layer = bottleneck.blocks[index]
    norms = [x_norm.weight for x_norm in (layer.norm1, layer.norm2)]

    def normalised(x: Tensor, weight: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(x, x.shape[-1:], weight, 1e-5)

    x = x + layer.attention(normalised(x, norms[0]).flatten(0, 1)).view_as(x)
    n = normalised(x, norms[1])
    local = layer.experts(x, x.double().mean((0, 1)).float())
    mlp = torch.nn.functional.gelu(n @ layer.mlp.gate.weight.T) * (n @ layer.mlp.up.weight.T)
    return x + mlp @ layer.mlp.down.weight.T + layer.local_weight * local


@torch.no_grad()
@pytest.mark.parametrize("shape", [(6, 10), (24, 31), (1, 400)], ids=str)
@pytest.mark.parametrize("index", [0, 1])
def test_layer_in_pieces_equals_the_formula(
    shape: tuple[int, int], index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ibssa, "_CHUNK_VALUES", 16 * 50)
    bottleneck, x = make(piece=7), grid(*shape)
    expected = direct(bottleneck, index, x)
    torch.testing.assert_close(bottleneck.layer(index, x), expected, atol=1e-5, rtol=1e-5)


def test_layer_in_pieces_equals_one_piece_with_gradients() -> None:
    bottleneck, x = make(piece=7), grid(24, 31)
    whole = bottleneck.layer(0, x.clone().requires_grad_())
    assert whole.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(bottleneck.layer(0, x), whole, atol=1e-5, rtol=1e-5)


def test_gradients_leave_the_grid_alone() -> None:
    bottleneck, x = make(), grid(6, 10)
    before = x.clone()
    bottleneck.layer(0, bottleneck.place(x)).sum().backward()
    assert torch.equal(x, before)
    assert all(p.grad is not None for p in bottleneck.blocks[0].attention.parameters())


def test_checkpointing_gives_the_same_gradients() -> None:
    bottleneck, x = make().train(), grid(24, 31)

    def gradients(again: bool) -> list[Tensor]:
        bottleneck.zero_grad()
        y = x.clone().requires_grad_()
        for index in range(2):
            layer = bottleneck.blocks[index]
            y = checkpoint(layer, y, use_reentrant=False) if again else layer(y)
        (y.square().mean() + bottleneck.auxiliary_loss()).backward()
        return [p.grad.clone() for p in bottleneck.parameters() if p.grad is not None]

    plain = gradients(again=False)
    for _ in range(2):
        for found, expected in zip(gradients(again=True), plain, strict=True):
            torch.testing.assert_close(found, expected)


def test_reentrant_checkpointing_finds_its_input_as_it_was() -> None:
    bottleneck, x = make().train(), grid(24, 31)

    def gradient(reentrant: bool) -> Tensor:
        y = x.clone().requires_grad_()
        given = y * 1
        if reentrant:
            out = checkpoint(bottleneck.layer, 0, given, use_reentrant=True)
        else:
            out = bottleneck.layer(0, given)
        out.square().sum().backward()
        assert y.grad is not None
        return y.grad

    torch.testing.assert_close(gradient(True), gradient(False))


def test_frozen_it_takes_the_way_in_pieces_with_gradients_switched_on() -> None:
    bottleneck, x = make(piece=7).requires_grad_(False), grid(24, 31)
    expected = bottleneck.layer(0, x.clone())
    given = x.clone()
    assert torch.equal(bottleneck.layer(0, given), expected)
    assert not torch.equal(given, x)
    # One part that learns is enough to keep the input.
    for part in (bottleneck.blocks[0].norm1, bottleneck.blocks[0].mlp.up):
        part.requires_grad_(True)
        given = x.clone()
        bottleneck.layer(0, given).sum().backward()
        assert torch.equal(given, x)
        assert part.weight.grad is not None and float(part.weight.grad.abs().max()) > 0
        part.requires_grad_(False)


@torch.no_grad()
def test_places_go_on_from_the_origin() -> None:
    zeros = torch.zeros(9, 12, 16)
    whole = make().place(zeros.clone())
    part = make().place(zeros[:4, :5].clone(), origin=(3, 7))
    assert torch.equal(part, whole[3:7, 7:12])


@torch.no_grad()
def test_every_expert_gets_a_share_of_tokens_that_are_alike() -> None:
    """As a network's tokens are: what they have in common is ten times what sets them apart."""
    shares = []
    for centred in (True, False):
        bottleneck = make(replace(SMALL, layers=("ibssa",), centred_gate=centred))
        x = torch.randn(128) + 0.1 * grid(30, 30, 128)
        experts = routing_of(bottleneck, 0, x)["experts"].long()
        shares.append(experts.flatten().bincount(minlength=6) / experts.numel())
    assert float(shares[0].min()) > 0.05
    assert float(shares[1].min()) == 0


@torch.no_grad()
def test_place_adds_sines_and_cosines_of_column_and_row() -> None:
    x = grid(3, 5)
    placed = make().place(x.clone()) - x
    for y in range(3):
        for column in range(5):
            frequencies = torch.tensor([1.0, 0.1, 0.01, 0.001])
            expected = torch.cat(
                [
                    (column * frequencies).sin(),
                    (column * frequencies).cos(),
                    (y * frequencies).sin(),
                    (y * frequencies).cos(),
                ]
            )
            torch.testing.assert_close(placed[y, column], expected, atol=1e-6, rtol=1e-6)


def test_place_is_in_place_only_without_gradients() -> None:
    x = grid(3, 5)
    with torch.no_grad():
        kept = x.clone()
        assert make().place(kept) is kept
    assert torch.equal(make().place(x), kept)
    assert not torch.equal(x, kept)


class TensorBytes(TorchDispatchMode):
    """The most bytes of tensors alive at once, but for those that were there before."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.seen = {tensor.untyped_storage()._cdata for tensor in known}
        self.alive = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata in self.seen:
                continue
            self.seen.add(storage._cdata)
            self.alive += storage.nbytes()
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self.free, storage._cdata, storage.nbytes())
        return result

    def free(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.alive -= size


def measured_bytes(bottleneck: Bottleneck, index: int, height: int, width: int) -> int:
    channels = bottleneck.blocks[index].mlp.gate.in_features
    x = torch.zeros(height, width, channels)
    x += torch.randn(channels)
    with TensorBytes(x, *bottleneck.parameters(), *bottleneck.buffers()) as tensors:
        bottleneck.layer(index, x)
    return tensors.peak + x.untyped_storage().nbytes()


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("piece", [8, None])
@pytest.mark.parametrize("shape", [(16, 24), (40, 60), (4, 1200)], ids=str)
@pytest.mark.parametrize(
    "config",
    [
        replace(SMALL, layers=("ibssa",)),
        replace(SMALL, layers=("ibssa",), exact_below=0, samples=64),
        replace(LITE, layers=("ibssa",), widths=(96,), expert_ratio=4, exact_below=0),
        replace(SMALL, layers=("ibssa",), widths=(32,), exact_below=0),
        replace(RELEASED, layers=("full",), widths=(96,)),
    ],
    ids=["small", "small-sampled", "wide-experts", "wide-keys", "full"],
)
@pytest.mark.ids(
    "nightly",
    "full-(4, 1200)-8",
    "small-(40, 60)-8",
    "full-(40, 60)-8",
    "small-(4, 1200)-8",
    "small-sampled-(4, 1200)-8",
    "small-sampled-(40, 60)-8",
    "full-(4, 1200)-None",
)
def test_peak_bytes_are_known_beforehand(
    config: InfDehazeConfig, shape: tuple[int, int], piece: int | None
) -> None:
    bottleneck = make(config, piece)
    for dtype in (torch.float32, torch.bfloat16) if shape == (40, 60) else (torch.float32,):
        measured = measured_bytes(bottleneck.to(dtype), 0, *shape)
        assert 0.97 * measured <= bottleneck.peak_bytes(*shape) <= 1.10 * measured


@pytest.mark.nightly
@torch.no_grad()
def test_memory_grows_with_the_tokens_not_their_square() -> None:
    bottleneck = make(replace(TINY, layers=("ibssa",)), piece=8)
    once, twice = (measured_bytes(bottleneck, 0, rows, 200) for rows in (40, 80))
    assert 1.8 < twice / once < 2.1


class Stop(Exception):
    pass


@torch.no_grad()
def test_a_stopped_layer_leaves_no_damage() -> None:
    bottleneck, x = make(piece=7), grid(24, 31)
    state = {name: tensor.clone() for name, tensor in bottleneck.state_dict().items()}
    expected = bottleneck.layer(0, x.clone())
    shares: list[float] = []
    bottleneck.layer(0, x.clone(), shares.append)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    for stop in (0, len(shares) // 2, len(shares) - 1):
        left = stop

        def tick(share: float) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Stop

        with pytest.raises(Stop):
            bottleneck.layer(0, x.clone(), tick)
        assert torch.equal(bottleneck.layer(0, x.clone()), expected)
    assert all(torch.equal(state[name], t) for name, t in bottleneck.state_dict().items())


@torch.no_grad()
def test_routing_is_of_experts_and_buckets() -> None:
    bottleneck, x = make(piece=7), grid(24, 31)
    before = x.clone()
    found = routing_of(bottleneck, 0, x)
    layer = bottleneck.blocks[0]
    x = layer.attend(x)
    logits = layer.experts.gate((x - x.mean((0, 1))).permute(2, 0, 1)[None])[0]
    best = logits.topk(2, dim=0).indices.permute(1, 2, 0).sort(-1).values
    assert torch.equal(found["experts"].long(), best)
    for head in range(2):
        assert found["buckets", head].shape == (24 * 31, 2)
        assert len(found["buckets", head].unique()) > 8
    assert set(routing_of(bottleneck, 1, before)) == {"experts"}
    taken = sum(made.nbytes for made in found.values())
    assert taken == bottleneck.routing_bytes * 24 * 31


def test_fixed_routing_makes_a_layer_smooth() -> None:
    """The way back agrees with small steps where the layer would have changed its mind."""
    bottleneck, x = make(replace(TINY, layers=("ibssa",))), grid(24, 31)
    step = 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    made = Routing()
    with torch.no_grad():
        anew = bottleneck.layer(0, x.clone(), routing=made)
        held = bottleneck.layer(0, x.clone(), routing=made)
    assert torch.equal(anew, held)
    moved = x + step
    other = routing_of(bottleneck, 0, moved)
    assert (other["experts"] != made.made["experts"]).float().mean() > 0.05
    assert (other["buckets", 0] != made.made["buckets", 0]).float().mean() > 0.05

    leaf = moved.clone().requires_grad_(True)
    whole = bottleneck.layer(0, leaf, routing=made)
    with torch.no_grad():
        in_pieces = bottleneck.layer(0, moved.clone(), routing=made)
    torch.testing.assert_close(whole.detach(), in_pieces, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(whole.detach(), bottleneck.layer(0, moved.clone()), atol=1e-2)
    by_output = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    (gradient,) = torch.autograd.grad(whole, leaf, by_output)
    slope = float((gradient * step).sum())
    bottleneck = bottleneck.double()

    def value(along: float) -> float:
        with torch.no_grad():
            y = bottleneck.layer(0, (moved + along * step).double(), routing=made)
        return float((y * by_output).sum())

    assert (value(0.01) - value(-0.01)) / 0.02 == pytest.approx(slope, rel=2e-3)


def test_auxiliary_loss_is_the_mean_over_layers() -> None:
    bottleneck = make().train()
    for layer in bottleneck.blocks:
        torch.nn.init.zeros_(layer.experts.gate.weight)
        torch.nn.init.zeros_(layer.experts.gate.bias)
    x = grid(6, 10)
    for index in range(2):
        x = bottleneck.layer(index, x)
    assert bottleneck.auxiliary_loss().item() == pytest.approx(0.01)
    assert bottleneck.auxiliary_loss().item() == 0


@torch.no_grad()
@pytest.mark.parametrize(
    ("samples", "index", "dtype"),
    [(0, 1, torch.bfloat16), (0, 0, torch.float16), (64, 0, torch.float16)],
    ids=["full", "hashed", "sampled"],
)
def test_half_precision_keeps_the_grid_in_float32(
    samples: int, index: int, dtype: torch.dtype
) -> None:
    bottleneck, x = make(replace(TINY, samples=samples), piece=7), grid(24, 31)
    expected = bottleneck.layer(index, x.clone())
    found = bottleneck.to(dtype).layer(index, x.clone())
    assert found.dtype == torch.float32
    change = expected - x
    assert float((found - expected).abs().mean()) < 0.03 * float(change.abs().mean())


def test_pieces_cover_the_map_once() -> None:
    times = torch.zeros(31, 20)
    for core, around, inner in pieces(31, 20, 7, 2):
        times[core] += 1
        marked = torch.zeros(31, 20)
        marked[around][inner] = 1
        assert marked.sum() == marked[core].sum() == times[core].numel()
    assert (times == 1).all()
