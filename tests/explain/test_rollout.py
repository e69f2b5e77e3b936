"""A rollout is the product of the blocks' weights, for one query."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tests.explain._attention import HEADS, SITE, LooksRight, looked, maps_of
from tests.support import attending_networks as networks
from torch import Tensor, nn
from torch.nn import functional

import napari_restore as nr
from napari_restore.engine import Region
from napari_restore.engine.rows import AttentionSource, PlacedRow
from napari_restore.errors import BadParameter, Cancelled
from napari_restore.explain.attention.head_maps import HeadMaps, head_maps
from napari_restore.explain.attention.rollout import HEAD, rolled_out, stage_of
from napari_restore.models import AttentionKind, AttentionSite, load

SIDE = 4
"""Cells along a side of the map of these tests."""
CELLS = [[y, x] for y in range(SIDE) for x in range(SIDE)]
Rows = Callable[[Sequence[tuple[int, int]], AttentionSite], list[HeadMaps]]


def site(name: str, kind: AttentionKind = "window", stride: int = 4) -> AttentionSite:
    return AttentionSite(name, name, kind, "step", stride, ("1", "2"), 2)


STAGE = (site("a.1"), site("a.2"), site("a.3"))


def rows_of(matrices: dict[str, Any]) -> Rows:
    """Rows of matrices (heads, cells, cells), where −1 is no candidate."""

    def row(pixel: tuple[int, int], asked: AttentionSite) -> HeadMaps:
        y, x = (at // 4 for at in pixel)
        row = matrices[asked.name][:, SIDE * y + x]
        cells = [
            [cell if w >= 0 else [-1, -1] for cell, w in zip(CELLS, head, strict=True)]
            for head in row
        ]
        return maps_of(np.maximum(row, 0), cells, (y, x), (16, 16))

    return lambda pixels, asked: [row(pixel, asked) for pixel in pixels]


def random_rows(seed: int) -> Any:
    """Two heads, each with some cells that are no candidates."""
    rng = np.random.default_rng(seed)
    weights = rng.random((2, 16, 16))
    there = rng.random((2, 16, 16)) < 0.4
    there |= np.eye(16, dtype=bool)
    weights = np.where(there, weights, 0)
    return np.where(there, weights / weights.sum(axis=2, keepdims=True), -1)


def dense(found: HeadMaps) -> Any:
    values = np.zeros(16)
    values[SIDE * found.cells[0, :, 0] + found.cells[0, :, 1]] = found.weights[0]
    return values


@pytest.mark.parametrize("weight", [0, 0.3, 0.5])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_it_is_the_dense_product(depth: int, weight: float) -> None:
    matrices = {each.name: random_rows(number) for number, each in enumerate(STAGE)}
    found = rolled_out(rows_of(matrices), (9, 6), STAGE[:depth], weight)
    expected = np.eye(16)[SIDE * 2 + 1]
    for each in reversed(STAGE[:depth]):
        mean = np.maximum(matrices[each.name], 0).mean(axis=0)
        expected = expected @ ((1 - weight) * mean + weight * np.eye(16))
    np.testing.assert_allclose(dense(found), expected, atol=1e-6)
    assert found.weights.sum() == pytest.approx(1, abs=1e-6)
    assert found.site.heads == (HEAD,) and found.site.window is None
    assert found.query == Region(8, 4, 12, 8)


def test_of_identity_it_is_the_query() -> None:
    identity = np.where(np.eye(16, dtype=bool), 1.0, -1)[None].repeat(2, axis=0)
    expected = np.eye(16)[SIDE * 2 + 1]
    for matrix, weight in ((identity, 0), (identity, 0.5), (random_rows(0), 1)):
        rows = rows_of(dict.fromkeys(("a.1", "a.2", "a.3"), matrix))
        np.testing.assert_allclose(
            dense(rolled_out(rows, (8, 4), STAGE, weight)), expected, atol=1e-7
        )


def test_a_stage_is_windows_of_the_same_cells_in_a_row() -> None:
    sites = [
        *(site("a.1"), site("a.2"), site("a.bands", "band"), site("a.3")),
        *(site("b.1", stride=8), site("b.2", stride=8), site("c.1", "channel"), site("d", "full")),
    ]
    expected = {"a.1": ["a.1"], "a.2": ["a.1", "a.2"], "a.3": ["a.3"], "b.2": ["b.1", "b.2"]}
    for name, names in expected.items():
        assert [each.name for each in stage_of(sites, name)] == names
    for name, reason in (("c.1", "channels, not places"), ("d", "full"), ("a.bands", "band")):
        with pytest.raises(BadParameter, match=f"{name} has no rollout: .*{reason}") as caught:
            stage_of(sites, name)
        assert "a.1, a.2, a.3, b.1, b.2" in caught.value.hint
    assert [each.name for each in stage_of(sites, "d", "gradient")] == ["d"]
    pooled = replace(STAGE[1], key_stride=8)
    assert stage_of((STAGE[0], pooled, STAGE[2]), "a.3") == STAGE[2:]
    with pytest.raises(BadParameter, match="keys are cells of another size"):
        stage_of((STAGE[0], pooled), "a.2")


def scene(height: int, width: int) -> Any:
    return np.random.default_rng(0).random((height, width, 3), np.float32)


def test_one_block_is_its_mean_and_the_query() -> None:
    image = scene(64, 64)
    plain = looked(image, (30, 30)).maps()
    found = looked(image, (30, 30), rollout=True, residual_weight=0.25)
    values, region, _ = found.map(SITE.name, HEAD)
    expected = 0.75 * np.nan_to_num(plain.map("mean").values)
    y, x = 30 // 4 - region.y0, 30 // 4 - region.x0
    expected[y, x] += 0.25
    np.testing.assert_allclose(values, expected, atol=1e-6)
    assert found.record["attention"]["rollout"] == {
        "residual_weight": 0.25,
        "blocks": {SITE.name: [SITE.name]},
    }
    (numbers,) = found.queries[0].measures[SITE.name]
    assert numbers["head"] == HEAD and numbers["window_share"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ablate": True}, "Leave out ablate="),
        ({"attended_by": True}, "attended_by|not known"),
        ({"residual_weight": 1.5}, "residual_weight= takes no 1.5"),
        ({"residual_weight": float("nan")}, "residual_weight= takes no nan"),
    ],
)
def test_rollouts_that_are_refused(options: Any, message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        looked(scene(32, 32), (1, 1), rollout=True, **options)


def test_it_is_cancelled_between_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, plain, read = threading.Event(), AttentionSource.rows_in_tile, []

    def rows(source: AttentionSource, *arguments: Any) -> Iterator[Any]:
        for row in plain(source, *arguments):
            read.append(row)
            yield row
            stop.set()

    monkeypatch.setattr(AttentionSource, "rows_in_tile", rows)
    with pytest.raises(Cancelled):
        looked(scene(64, 64), (30, 30), rollout=True, stop=stop)
    assert len(read) == 2


@pytest.mark.slow
def test_of_a_network_it_is_the_product_of_its_matrices() -> None:
    net = networks.Windows()
    card = {"bands": 3, "halo": 32, "multiple_of": 32}
    image = scene(64, 96)
    found = nr.attend(image, load(net, card=card), [(30, 41)], rollout=True, progress=False)
    net.matrices = []
    with torch.no_grad():
        net(torch.from_numpy(image).permute(2, 0, 1)[None])
    size, at = (16, 24), 24 * (30 // 4) + 41 // 4
    numbers = torch.arange(16 * 24.0).view(1, *size, 1)
    products = [np.eye(16 * 24)[at]] * 3
    for block in (2, 1, 0):
        mean = np.zeros((16 * 24, 16 * 24))
        places = net.split(numbers, 4 * (block % 2))[..., 0].long().numpy()
        for window, cells in enumerate(places):
            mean[np.ix_(cells, cells)] = net.matrices[block][window].mean(dim=0).numpy()
        for number in range(block, 3):
            products[number] = products[number] @ (0.5 * mean + 0.5 * np.eye(16 * 24))
    for number, expected in enumerate(products):
        maps = found.maps(f"attention.{number + 1}")
        values = np.zeros(size)
        values[maps.cells[0, :, 0], maps.cells[0, :, 1]] = maps.weights[0]
        np.testing.assert_allclose(values.ravel(), expected, atol=1e-6)


@pytest.mark.nightly
def test_it_stays_in_the_tile() -> None:
    found = nr.attend(
        scene(300, 320), "inf-dehaze-small", [(200, 200), (254, 254), (299, 319)], layers=["encoder.2.2", "encoder.1.2"],
        rollout=True, device="cpu", progress=False,
    )  # fmt: skip
    for layer, cells in (("encoder.1.2", 64), ("encoder.2.2", 32)):
        within, edge, beyond = (found.maps(layer, query).region for query in range(3))
        # A shifted window meets four of those before it, and one where it is cut.
        assert within.shape == (16, 16) and edge == Region(cells - 8, cells - 8, cells, cells)
        assert beyond.y0 >= cells and beyond.x0 >= cells
        for query in range(3):
            assert found.maps(layer, query).weights.sum() == pytest.approx(1, abs=1e-5)


class LooksAtItself(LooksRight):
    """Both heads look at the query's own cell."""

    def attention_rows(self, *arguments: Any) -> Any:
        rows = super().attention_rows(*arguments)
        row = rows[SITE.name]
        row.weights[:], row.cells[:] = 0, -1
        row.weights[:, 0], row.cells[:, 0] = 1, torch.tensor(row.query)
        return rows


def test_a_network_that_looks_at_itself_has_one_cell() -> None:
    found = nr.attend(
        nr.open_image(scene(64, 64), bands="red=1,green=2,blue=3"),
        LooksAtItself(),
        [(30, 30)],
        rollout=True,
        device="cpu",
        progress=False,
    )
    assert len(HEADS) == 2 and found.maps().cells.tolist() == [[[7, 7]]]
    np.testing.assert_allclose(found.maps().weights, 1)


class Tokens(nn.Module):
    """Three blocks in which all patches of 8 pixels attend to each other, as a vision transformer does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Conv2d(3, 16, 8, 8), nn.ConvTranspose2d(16, 3, 8, 8)
        self.qkv = nn.ModuleList(nn.Linear(16, 48) for _ in range(3))
        self.mlp = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.near = nn.Conv2d(16, 16, 3, padding=1)
        self.drops = nn.ModuleList(nn.Identity() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        t = self.embed(3 * x)
        height, width = t.shape[2:]
        t = (t + self.near(t)).flatten(2).mT
        for qkv, mlp, drop in zip(self.qkv, self.mlp, self.drops, strict=True):
            q, k, v = qkv(t).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
            weights = drop((q @ k.mT).softmax(-1))
            t = t + (weights @ v).transpose(1, 2).flatten(2)
            t = t + functional.gelu(mlp(t))
        y: Tensor = x + self.head(t.mT.unflatten(2, (height, width)))
        return y


def relevance_of(
    matrices: Sequence[Tensor], result: Tensor, places: Sequence[Any], count: int
) -> tuple[list[Any], list[Any]]:
    """R ← R + Ā R from the first block on, with Ā the mean over heads of (∂result/∂A ⊙ A)⁺; from the paper.

    `places` are the numbers of the tokens of each window of each block. Also Σ ∂result/∂A ⊙ A by head.
    """
    gradients = torch.autograd.grad(result, list(matrices))
    relevance, found, importance = np.eye(count), [], []
    for matrix, gradient, windows in zip(matrices, gradients, places, strict=True):
        product = (matrix * gradient).detach()
        mean = np.zeros((count, count))
        for window, cells in enumerate(windows):
            mean[np.ix_(cells, cells)] = product[window].clamp(min=0).mean(dim=0).numpy()
        relevance = relevance + mean @ relevance
        found.append(relevance)
        importance.append(product.sum((0, 2, 3)).numpy())
    return found, importance


def of_model(model: Any, x: Tensor, pixel: tuple[int, int], number: int) -> HeadMaps:
    """The rollout of a pixel from a block back, in a tile `x` that is the whole image."""
    sites = model.attention_sites()[: number + 1]
    names = frozenset(site.name for site in sites)
    given = model.tile_attention_times_gradient(x.detach(), None, pixel, names)

    def rows(pixels: Sequence[tuple[int, int]], asked: AttentionSite) -> list[HeadMaps]:
        found = [given[asked.name](at) for at in pixels]
        shape = x.shape[2] // asked.stride, x.shape[3] // asked.stride
        placed = [PlacedRow(asked, row, (0, 0), shape) for row in found]
        return [head_maps(each, (x.shape[2], x.shape[3])) for each in placed]

    return rolled_out(rows, pixel, stage_of(sites, sites[-1].name, "gradient"), None)


@pytest.mark.parametrize("kind", ["window", "full"])
def test_weights_times_gradient_are_the_rule_of_their_authors(kind: str) -> None:
    image, pixel = scene(64, 96), (30, 41)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].requires_grad_()
    net: Any = networks.Windows() if kind == "window" else Tokens()
    side = 4 if kind == "window" else 8
    model = load(net, card={"bands": 3, "halo": 32, "multiple_of": 32})
    if kind == "window":
        found = nr.attend(
            image, model, [pixel], rollout=True, residual_weight="gradient",
            progress=False, device="cpu",
        )  # fmt: skip
    size = 64 // side, 96 // side
    count, at = size[0] * size[1], size[1] * (pixel[0] // side) + pixel[1] // side
    if kind == "window":
        net.matrices = matrices = []
        numbers = torch.arange(float(count)).view(1, *size, 1)
        places = [net.split(numbers, 4 * (block % 2))[..., 0].long().numpy() for block in range(3)]
    else:
        matrices, places = [], [np.arange(count)[None]] * 3
        for drop in net.drops:
            drop.register_forward_hook(lambda module, given, made: matrices.append(made))
    net.eval().requires_grad_(False)
    result = net(x)[0, :, pixel[0], pixel[1]].mean()
    expected, importance = relevance_of(matrices, result, places, count)
    for number, relevance in enumerate(expected):
        name = f"attention.{number + 1}"
        maps = found.maps(name) if kind == "window" else of_model(model, x, pixel, number)
        values = np.zeros(size)
        values[maps.cells[0, :, 0], maps.cells[0, :, 1]] = maps.weights[0]
        assert np.abs(relevance[at]).max() > 0
        np.testing.assert_allclose(values.ravel(), relevance[at], atol=1e-5 * relevance[at].max())
        if kind == "full":
            continue
        told = [
            each["importance"] for each in found.queries[0].measures[name] if "importance" in each
        ]
        assert len(told) == (number + 1) * len(importance[0])
        np.testing.assert_allclose(
            told, np.concatenate(importance[: number + 1]), rtol=1e-4, atol=1e-8
        )
    if kind == "full":
        return
    rolled = found.record["attention"]["rollout"]
    assert rolled["residual_weight"] == "gradient" and len(rolled["blocks"]["attention.3"]) == 3
