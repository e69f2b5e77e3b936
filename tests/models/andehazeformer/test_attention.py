"""Rows of attention: each is what the network itself used for the token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.models.andehazeformer._small import TINY, network, pictures
from tests.models.andehazeformer.test_sweeps import Tiled, hole
from torch import Tensor, nn

from napari_restore.models import AttentionRow, AttentionSite
from napari_restore.models.andehazeformer.blocks import window_at, windows_of
from napari_restore.models.andehazeformer.model import AnDehazeFormer
from napari_restore.models.andehazeformer.sphere import unit

SIZE = (150, 190)
SIDE = 48
CORE = (48, 96)
"""A tile that begins within a window of 32 pixels, both ways."""
PIXELS = [(50, 99), (90, 130), (77, 111)]
"""Of that tile, in pixels of the image."""


def run(model: AnDehazeFormer, valid: Tensor | None = None) -> Tiled:
    tiled = Tiled(model, pictures(1, *SIZE), valid, SIDE)
    tiled.run()
    return tiled


def rows_at(
    tiled: Tiled, pixel: tuple[int, int]
) -> dict[str, tuple[AttentionSite, AttentionRow, Any, Tensor]]:
    """By site: what it is, its row, and what its module was given and returned for the tile."""
    model, found = tiled.model, {}
    names = frozenset(site.name for site in model.attention_sites())
    for step in model.steps():
        sites = {site.name: site for site in model.attention_sites() if site.step == step.name}
        given = tiled.given(step, [CORE])
        box = tiled.box(CORE, step.halo)
        inside = pixel[0] - box[0].start, pixel[1] - box[1].start
        rows = model.attention_rows(step.name, given, inside, names)
        assert set(rows) == set(sites)
        seen = watched(model, lambda step=step, given=given: step.run(given))
        put_out = model.attention_outputs(step.name, given, names)
        assert set(put_out) == set(sites)
        for name, row in rows.items():
            joined = sum(put_out[name].parts())
            torch.testing.assert_close(
                joined, seen[module_of(model, name).attention][1][0], rtol=0, atol=1e-5
            )
            found[name] = (sites[name], row, *seen[module_of(model, name).attention])
    return found


def watched(model: nn.Module, call: Callable[[], Any]) -> dict[nn.Module, tuple[Any, Tensor]]:
    """Inputs and first output of every module that `call` runs."""
    seen: dict[nn.Module, tuple[Any, Tensor]] = {}

    def keep(module: nn.Module, inputs: Any, out: Any) -> None:
        seen.setdefault(module, (inputs, out))

    handles = [module.register_forward_hook(keep) for module in model.modules()]
    call()
    for handle in handles:
        handle.remove()
    return seen


def module_of(model: AnDehazeFormer, name: str) -> Any:
    part, layer = name.split(".")
    return getattr(model, part)[int(layer) - 1]


@pytest.mark.parametrize("with_hole", [False, True])
@pytest.mark.ids("slow", "False")
def test_every_row_explains_the_output_of_its_token(with_hole: bool) -> None:
    model = network()
    tiled = run(model, hole(*SIZE) if with_hole else None)
    for pixel in PIXELS[1:2] if with_hole else PIXELS:
        for name, (site, row, given, out) in rows_at(tiled, pixel).items():
            attention = module_of(model, name).attention
            assert row.weights.dtype == torch.float32
            assert row.cells.shape == (*row.weights.shape, 2)
            torch.testing.assert_close(row.weights.sum(1), torch.ones(TINY.heads))
            query = row.query
            if site.kind == "cached":
                values = given[1][0].value
                assert query == (pixel[0] // 8, pixel[1] // 8)
                halo = tiled.box(CORE, 0 if site.step == "attend2" else model.window_halo)
                query = (query[0] - halo[0].start // 8, query[1] - halo[1].start // 8)
                values = values[:, None].expand(-1, TINY.heads, -1)
                split = torch.stack([part[:, h] for h, part in enumerate(in_heads(values))])
            else:
                first = tiled.box(CORE, model.window_halo)
                assert query == tuple(
                    (at - s.start) // 8 for at, s in zip(pixel, first, strict=True)
                )
                values = attention.keys_and_values(given[0])[1][0]
                at = row.cells[0].clamp(min=0)
                split = torch.stack(in_heads(values[at[:, 0], at[:, 1]]))
            joined = torch.cat([w @ v for w, v in zip(row.weights.double(), split, strict=True)])
            found = attention.out(joined)
            torch.testing.assert_close(found, out[0][query], rtol=0, atol=1e-5)
            # Another token has another output.
            beside = out[0][query[0], query[1] - 1]
            assert float((found - beside).abs().max()) > 1e-4


def in_heads(values: Tensor) -> list[Tensor]:
    """(…, d) for each head, of (…, C)."""
    return list(values.chunk(TINY.heads, -1))


def test_windows_lie_where_they_are_in_the_image() -> None:
    model = network()
    tiled = run(model, hole(*SIZE))
    pixel = (94, 100)
    site, row, (_, origin, known), _ = rows_at(tiled, pixel)["windows.2"]
    assert (site.window, site.shift, site.stride, site.title) == (4, 2, 8, "windows 2, shifted")
    used = row.cells[0][row.cells[0, :, 0] >= 0] + torch.tensor(origin)
    # Windows of 32 pixels, moved by 16, around the token (12, 12).
    assert set(used[:, 0].tolist()) <= set(range(10, 14))
    assert set(used[:, 1].tolist()) <= set(range(10, 14))
    inside = known[0][10 - origin[0] : 14 - origin[0], 10 - origin[1] : 14 - origin[1]]
    assert 0 < len(used) == int(inside.sum())
    assert (row.weights[row.cells[..., 0] < 0] == 0).all()


def test_a_token_without_a_valid_pixel_attends_to_no_window() -> None:
    model = network()
    rows = rows_at(run(model, hole(*SIZE)), (60, 104))
    for name in ("windows.1", "windows.2"):
        row = rows[name][1]
        assert (row.weights == 0).all() and (row.cells == -1).all()


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("origin", [(0, 0), (6, 10)])
def test_the_window_of_a_token_is_the_one_that_is_cut(shift: int, origin: tuple[int, int]) -> None:
    shape = (7, 9)
    windows = windows_of(shape, origin, 4, shift)
    numbers = torch.arange(1, 64).reshape(1, *shape, 1)
    cut = windows.cut(numbers)[..., 0]
    for query in [(0, 0), (3, 5), (6, 8)]:
        own = int(numbers[0, *query, 0])
        cells, number = window_at(query, shape, origin, 4, shift)
        expected = cut[(cut == own).any(1)][0]
        found = numbers[0, cells[:, 0].clamp(min=0), cells[:, 1].clamp(min=0), 0]
        assert found.where(cells[:, 0] >= 0, 0).tolist() == expected.tolist()
        assert int(expected[number]) == own


@pytest.mark.slow
def test_a_cache_that_keeps_all_is_attention_to_all() -> None:
    model = network(rho=1.0)
    tiled = run(model)
    guide = model.guide(tiled.statistics)
    for layer in range(TINY.pairs):
        # Of the whole image at once, without a cache.
        block = model.global_block(layer)
        h = tiled.maps[f"tokens{layer}"].permute(0, 2, 3, 1)
        pooled = h_pooled(block.norm1(h, guide)[0])
        keys, _ = block.attention.keys_and_values(pooled.flatten(0, 1))
        keys = torch.stack(in_heads(block.attention.scaled(keys)))
        for pixel in PIXELS:
            site, row, *_ = rows_at(tiled, pixel)[f"globals.{layer + 1}"]
            assert site.placed and site.key_stride == 16
            read = block.norm1(h, guide)[0][row.query]
            queries = block.attention.queries(read[None, None])[0, :, 0]
            logits = block.attention.logit_scale * torch.einsum("hc,hkc->hk", queries, keys)
            expected = logits.softmax(-1).reshape(TINY.heads, *pooled.shape[:2])
            found = torch.zeros_like(expected)
            for head, (weights, cells) in enumerate(zip(row.weights, row.cells, strict=True)):
                found[head, cells[:, 0], cells[:, 1]] = weights.double()
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
            assert row.numbers["weight"].tolist() == [1.0] * expected[0].numel()
            assert row.numbers["merged"].abs().max() == 0


def h_pooled(read: Tensor) -> Tensor:
    """Means of 2 × 2 tokens of (h, w, C), of unit length."""
    height, width, channels = read.shape
    return unit(read.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3)))


def test_numbers_tell_what_was_merged() -> None:
    model = network(cache_tokens=20)
    tiled = run(model, hole(*SIZE))
    row = rows_at(tiled, PIXELS[0])["globals.1"][1]
    cells, numbers = row.cells[0], row.numbers
    assert len(cells.unique(dim=0)) == 20
    ranks = tiled.maps["ranks"][0]
    shares = ranks[2].double()
    # Kept, merged, and no token at all.
    own = shares[cells[:, 0], cells[:, 1]]
    torch.testing.assert_close(numbers["weight"] - numbers["merged"], own)
    torch.testing.assert_close(numbers["weight"].sum(), shares.sum())
    assert (numbers["merged"] > 0.5).any()
    # The clearest eighth is clearer than the haziest.
    transmission = ranks[0][cells[:, 0], cells[:, 1]]
    eighth = numbers["eighth"]
    assert transmission[eighth == 0].max() <= transmission[eighth == eighth.max()].min()


def test_sites_are_named_in_the_order_of_computation() -> None:
    model = network()
    assert [(site.name, site.kind, site.step) for site in model.attention_sites()] == [
        ("windows.1", "window", "embed"),
        ("globals.1", "cached", "attend1"),
        ("windows.2", "window", "attend1"),
        ("globals.2", "cached", "attend2"),
    ]
    without = network(cache_tokens=0).attention_sites()
    assert [site.name for site in without] == ["windows.1", "windows.2"]


def test_only_named_sites_are_computed() -> None:
    model = network()
    tiled = run(model)
    given = tiled.given(model.steps()[3], [CORE])
    assert model.steps()[3].name == "attend1"
    rows = model.attention_rows("attend1", given, (40, 40), frozenset(["globals.1", "windows.1"]))
    assert set(rows) == {"globals.1"}
    assert model.attention_rows("restore", given, (40, 40), frozenset(["globals.1"])) == {}
