"""Attention of plain modules: where its cells are is found from shapes and marks, or declared."""

from __future__ import annotations

from collections import deque
from typing import Any

import attending_networks as networks
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from napari_restore.errors import BadModel
from napari_restore.models import AttentionRow, OwnAttention, load

SHAPE = (1, 3, 96, 160)
CARD = {"bands": 3, "multiple_of": 4}


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def grids_of(model: Any) -> dict[str, tuple[str, int, int | None, int]]:
    return {s.name: (s.kind, s.stride, s.window, s.shift) for s in model.attention_sites()}


def rows_of(model: Any, x: Tensor, pixel: tuple[int, int]) -> dict[str, AttentionRow]:
    names = frozenset(site.name for site in model.attention_sites())
    with torch.inference_mode():
        found: dict[str, AttentionRow] = model.tile_attention_rows(x, {}, [pixel], names)[0]
    return found


def map_of(row: AttentionRow, head: int, shape: tuple[int, int]) -> Tensor:
    """The weights of a head on the cells of a tile."""
    there = row.cells[head, :, 0] >= 0
    assert not row.weights[head, ~there].any()
    values = torch.zeros(shape)
    values[tuple(row.cells[head, there].T)] = row.weights[head, there]
    return values


@pytest.mark.parametrize(
    "kind", ["fused", pytest.param("weights", marks=pytest.mark.slow), "layer"]
)
def test_rows_of_an_encoder_are_the_weights_of_its_module(kind: str) -> None:
    net = networks.Encoder(weights=kind == "weights", layer=kind == "layer")
    model = load(net, card={"bands": 3, "multiple_of": 8})
    net = model.module  # its copy
    assert grids_of(model) == {"attention.1": ("full", 8, None, 0)}
    x, given = noise(*SHAPE), []
    handle = net.attend.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    with torch.no_grad():  # the fused kernel of the layer passes no hook
        model(x)
        handle.remove()
        expected = net.attend(given[0], given[0], given[0], average_attn_weights=False)[1]
    for pixel in ((0, 0), (41, 93), (95, 159)):
        row = rows_of(model, x, pixel)["attention.1"]
        token = pixel[0] // 8 * 20 + pixel[1] // 8
        assert row.query == (pixel[0] // 8, pixel[1] // 8)
        torch.testing.assert_close(row.weights, expected[0, :, token], atol=1e-6, rtol=0)
        assert torch.equal(row.cells[0], torch.cartesian_prod(torch.arange(12), torch.arange(20)))


@pytest.mark.parametrize("size", [(96, 160), (104, 172)])
def test_rows_of_windows_are_those_of_the_matrix(size: tuple[int, int]) -> None:
    model = load(networks.Windows(), card=CARD)
    net = model.module
    assert grids_of(model) == {
        "attention.1": ("window", 4, 8, 0),
        "attention.2": ("window", 4, 8, 4),
        "attention.3": ("window", 4, 8, 0),
    }
    assert [site.title for site in model.attention_sites()][1] == "attention 2, shifted"
    x, shape = noise(1, 3, *size), (size[0] // 4, size[1] // 4)
    net.matrices = deque()  # a list would be left as it was
    with torch.no_grad():
        model(x)
    matrices, net.matrices = net.matrices, None
    cells = torch.cartesian_prod(*map(torch.arange, shape)).view(1, *shape, 2).float() + 1
    for pixel in ((0, 0), (50, 77), (size[0] - 1, size[1] - 1), (17, 3)):
        for number, (name, row) in enumerate(rows_of(model, x, pixel).items()):
            places = net.split(cells, 4 * (number % 2)).long() - 1  # −1 where the map was grown
            cell = torch.tensor([pixel[0] // 4, pixel[1] // 4])
            item, token = (places == cell).all(-1).nonzero()[0]
            for head in range(2):
                weights, at = matrices[number][item, head, token].clone(), places[item]
                beyond = weights[at[:, 0] < 0].sum()
                expected = torch.zeros(shape)
                expected[tuple(at[at[:, 0] >= 0].T)] = weights[at[:, 0] >= 0]
                found = map_of(row, head, shape)
                torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
                torch.testing.assert_close(row.numbers["beyond"][head], beyond, atol=1e-6, rtol=0)
            assert row.query == tuple(cell.tolist()), name
    # What a mask leaves out was never a candidate.
    row = rows_of(model, noise(1, 3, 96, 160), (0, 0))["attention.2"]
    assert (row.cells[:, :, 0] >= 0).sum(1).tolist() == [16, 16]


class Grown(nn.Module):
    """Windows of 8 pixels, moved by 4, of a map that is grown before or after it is moved, or above."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order
        torch.manual_seed(0)
        self.qkv = nn.Conv2d(3, 24, 1)

    def laid(self, x: Tensor, value: float = 0.0) -> Tensor:
        """Return (windows, 64, C)."""
        down, along = (-x.shape[2]) % 8, (-x.shape[3]) % 8
        edges = (along, 0, down, 0) if self.order == "above" else (0, along, 0, down)
        steps = [
            lambda x: nn.functional.pad(x, edges, value=value),
            lambda x: torch.roll(x, (-4, -4), (2, 3)),
        ]
        for step in steps if self.order != "after" else reversed(steps):
            x = step(x)
        blocks = x.unfold(2, 8, 8).unfold(3, 8, 8)
        return blocks.permute(0, 2, 3, 4, 5, 1).reshape(-1, 64, x.shape[1])

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (4 * part[:, None] for part in self.laid(self.qkv(x)).chunk(3, -1))
        return x + 0 * nn.functional.scaled_dot_product_attention(q, k, v).sum()


@pytest.mark.parametrize("order", ["before", "after", "above"])
def test_rows_of_a_map_that_the_network_grows(order: str) -> None:
    net = Grown(order)
    x, shape = noise(1, 3, 29, 42), (29, 42)
    numbers = torch.arange(29 * 42, dtype=torch.float64).view(1, 1, *shape)
    places = net.laid(numbers, -1.0)[..., 0].long()
    with torch.no_grad():
        q, k, _ = (4 * part for part in net.laid(net.qkv(x)).chunk(3, -1))
    model = load(net, card={"bands": 3})
    for pixel in ((14, 20), (1, 2), (28, 41), (3, 40)):
        row = rows_of(model, x, pixel)["attention.1"]
        item, token = (places == pixel[0] * 42 + pixel[1]).nonzero()[0]
        weights = torch.softmax(q[item, token] @ k[item].T / 8**0.5, 0)
        there = places[item] >= 0
        expected = torch.zeros(29 * 42)
        expected[places[item][there]] = weights[there]
        found = map_of(row, 0, shape)
        torch.testing.assert_close(found, expected.view(shape), atol=1e-6, rtol=0)
        assert int((row.cells[0, :, 0] >= 0).sum()) == int(there.sum())


@pytest.mark.parametrize("window", [3, 5])
def test_small_windows_are_found(window: int) -> None:
    found = grids_of(load(networks.Windows(window), card=CARD))
    assert [each[2:] for each in found.values()] == [(window, s) for s in (0, window // 2, 0)]


def test_blocks_of_a_module_are_windows() -> None:
    model = load(networks.Encoder(8), card={"bands": 3, "multiple_of": 64})
    assert grids_of(model) == {"attention.1": ("window", 8, 8, 0)}
    assert [site.heads for site in model.attention_sites()] == [("1", "2", "3", "4")]


def test_channels_strewn_cells_and_class_tokens_are_seen() -> None:
    found = {
        kind: grids_of(load(networks.Other(kind), card={"bands": 3, "multiple_of": 32}))
        for kind in ("channel", "grid", "token")
    }
    assert found == {
        "channel": {"attention.1": ("channel", 4, None, 0)},
        "grid": {"attention.1": ("sparse", 4, None, 0)},
        "token": {"attention.1": ("window", 4, 8, 0)},
    }


def test_what_cannot_be_placed_is_left_out() -> None:
    net = nn.Sequential(networks.Sorted(), networks.Windows())
    model = load(net, card={"bands": 3, "multiple_of": 32})
    assert list(grids_of(model)) == ["attention.2", "attention.3", "attention.4"]
    (note,) = model.attention_notes
    assert note.startswith("attention.1 is not shown: its tokens come from sort, behind which")
    model = load(networks.Sorted(), card={"bands": 3, "multiple_of": 32})
    with pytest.raises(BadModel, match=r"No layer of attention of Sorted can be placed.*from sort"):
        model.attention_sites()


def test_a_network_without_attention_has_no_sites() -> None:
    assert load(nn.Conv2d(3, 3, 3, padding=1), card={"bands": 3}).attention_sites() == ()


# -- what stays ------------------------------------------------------------------


def test_looking_changes_no_result_and_leaves_nothing() -> None:
    model = load(networks.Encoder(8, layer=True), card={"bands": 3, "multiple_of": 64})
    x = noise(1, 3, 128, 192)
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        before = model(x)
        rows_of(model, x, (3, 4))
        assert torch.equal(model(x), before)
    assert torch.equal(torch.random.get_rng_state(), state)
    broken = load(networks.Other("broken"), card={"bands": 3, "multiple_of": 32})
    with pytest.raises(BadModel, match="a bug of the user's"):
        broken.attention_sites()
    assert not _get_current_function_mode_stack()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_calls_that_change_with_the_size_are_refused() -> None:
    class Growing(networks.Windows):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(super().forward(x) if x.shape[2] == 96 else x)  # type: ignore[no-any-return, no-untyped-call]

    model = load(Growing(), card=CARD)
    with pytest.raises(BadModel, match="calls attention 6 times in a tile of 160 × 96"):
        rows_of(model, noise(*SHAPE), (0, 0))


def test_rows_of_a_tile_with_other_cells_are_refused() -> None:
    class Coarser(networks.Windows):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.shape[2] > 64 else self.coarse(x)  # type: ignore[no-any-return, no-untyped-call]

        def coarse(self, x: Tensor) -> Tensor:
            small = nn.functional.avg_pool2d(x, 2)
            return nn.functional.interpolate(super().forward(small), scale_factor=2)  # type: ignore[no-untyped-call]

    model = load(Coarser(), card={"bands": 3, "multiple_of": 8})
    with pytest.raises(BadModel, match=r"attention.1 of Coarser is another in a tile of 96 × 64"):
        rows_of(model, noise(1, 3, 64, 96), (0, 0))


def test_sites_are_found_once() -> None:
    model = load(networks.Windows(), card=CARD)
    model.attention_sites()
    found = model._found  # type: ignore[attr-defined]
    model.attention_sites()
    assert isinstance(found, OwnAttention)
    assert model._found is found  # type: ignore[attr-defined]
