"""Attention as published networks write it: rows are the weights that hooks on the module see."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attention_forms as forms
import pytest
import torch
from torch import Tensor, nn

from napari_restore.errors import BadModel
from napari_restore.models import AttentionRow, cut_into_sweeps, load, run_steps
from napari_restore.models.published.astv2 import ASTv2
from napari_restore.models.published.dehazeformer import DehazeFormer
from napari_restore.models.published.restormer import Restormer
from napari_restore.models.published.retinexformer import Retinexformer
from napari_restore.models.published.swinir import SwinIR


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def rows_of(model: Any, x: Tensor, pixel: tuple[int, int]) -> dict[str, AttentionRow]:
    names = frozenset(site.name for site in model.attention_sites())
    with torch.inference_mode():
        found: dict[str, AttentionRow] = model.tile_attention_rows(x, {}, [pixel], names)[0]
    return found


@contextmanager
def hooked(modules: list[nn.Module]) -> Iterator[list[tuple[Any, Any]]]:
    """Collect what each module is given, and what it returns."""
    seen: list[tuple[Any, Any]] = []

    def note(module: nn.Module, given: Any, out: Any) -> None:
        seen.append((given, out))

    handles = [module.register_forward_hook(note) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def weights_in(model: Any, x: Tensor, last: str = "attn_drop") -> list[Tensor]:
    """What the modules of this name returned, in order."""
    parts = [m for name, m in model.network.named_modules() if name.rpartition(".")[2] == last]
    with torch.no_grad(), hooked(parts) as seen:
        model(x)
    return [out for _, out in seen]


def on_cells(row: AttentionRow, head: int, shape: tuple[int, int]) -> Tensor:
    there = row.cells[head, :, 0] >= 0
    assert not row.weights[head, ~there].any()
    values = torch.zeros(shape)
    values[tuple(row.cells[head, there].T)] = row.weights[head, there]
    return values


def kinds_of(model: Any) -> list[tuple[Any, ...]]:
    return [(s.kind, s.stride, s.window, s.shift, len(s.heads)) for s in model.attention_sites()]


# -- windows ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 96), pytest.param((72, 104), marks=pytest.mark.slow)])
@pytest.mark.slow
def test_windows_of_swin_lie_where_its_own_code_puts_them(size: tuple[int, int]) -> None:
    model = load(forms.Swin(), card={"bands": 3, "multiple_of": 8})
    assert kinds_of(model) == [
        ("window", 4, 4, 0, 2),
        ("window", 4, 4, 2, 2),
        ("window", 8, 4, 2, 4),
        ("window", 4, 4, 2, 2),
    ]
    assert model.attention_notes == ()
    net = model.network
    x = noise(1, 3, *size)
    matrices = weights_in(model, x)
    for pixel in ((0, 0), (33, 50), (size[0] - 1, size[1] - 1), (size[0] - 1, 7)):
        rows = rows_of(model, x, pixel)
        blocks = (*net.first, net.second, net.third)
        for block, matrix, row in zip(blocks, matrices, rows.values(), strict=True):
            stride = 8 if block is net.second else 4
            shape = size[0] // stride, size[1] // stride
            cells = torch.cartesian_prod(*map(torch.arange, shape)).view(1, *shape, 2).float()
            places = block.laid(cells, -1.0).long()
            cell = torch.tensor(pixel) // stride
            item, token = (places == cell).all(-1).nonzero()[0]
            there = places[item][:, 0] >= 0
            for head, weights in enumerate(matrix[item, :, token]):
                expected = torch.zeros(shape)
                expected[tuple(places[item][there].T)] = weights[there]
                found = on_cells(row, head, shape)
                torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
                beyond = weights[~there].sum()
                torch.testing.assert_close(row.numbers["beyond"][head], beyond, atol=1e-6, rtol=0)
            assert row.query == tuple(cell.tolist())
    # What the mask leaves out was never a candidate: the corner of a shifted window.
    row = rows_of(model, x, (0, 0))["attention.2"]
    assert (row.cells[:, :, 0] >= 0).sum(1).tolist() == [4, 4]


@pytest.mark.slow
def test_swinir_pads_inside_and_its_rows_are_those_of_its_windows() -> None:
    torch.manual_seed(0)
    net = SwinIR(width=12, depths=(2,), heads=(3,), hidden=12)
    net.layers[0].residual_group["blocks"][1].attn.relative_position_bias_table.data.normal_()
    model = load(net, card={"bands": 3, "padded_to": 1})
    assert kinds_of(model) == [("window", 1, 8, 0, 3), ("window", 1, 8, 4, 3)]
    net = model.network
    blocks = list(net.layers[0].residual_group["blocks"])
    x = noise(1, 3, 28, 35)
    with torch.no_grad(), hooked([block.attn for block in blocks]) as seen:
        model(x)
    for block, ((tokens, apart), _), name in zip(blocks, seen, ("1", "2"), strict=True):
        attn = block.attn
        q, k, _ = attn.qkv(tokens).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
        bias = attn.relative_position_bias_table[attn.relative_position_index].permute(2, 0, 1)
        scores = q @ k.mT / 2 + bias + (0 if apart is None else apart[:, None])
        matrix = scores.softmax(-1).view(4, 5, 3, 64, 64)
        for y, x_ in ((0, 0), (9, 30), (27, 34), (26, 3)):
            row = rows_of(model, x, (y, x_))[f"attention.{name}"]
            # It grows the image to 32 × 40 by reflection, then moves it up and left.
            at = (y - block.shift) % 32, (x_ - block.shift) % 40
            weights = matrix[at[0] // 8, at[1] // 8, :, at[0] % 8 * 8 + at[1] % 8]
            down, along = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
            down = (down + at[0] // 8 * 8 + block.shift) % 32
            along = (along + at[1] // 8 * 8 + block.shift) % 40
            for head in range(3):
                expected = torch.zeros(32, 40)
                expected[down, along] = weights[head].view(8, 8).detach()
                beyond = expected.sum() - expected[:28, :35].sum()
                found = on_cells(row, head, (28, 35))
                torch.testing.assert_close(found, expected[:28, :35], atol=1e-6, rtol=0)
                torch.testing.assert_close(row.numbers["beyond"][head], beyond, atol=1e-6, rtol=0)


# -- all cells, and other sets of them -------------------------------------------------------


def test_rows_of_a_vit_leave_its_class_token_out() -> None:
    model = load(forms.ViT(), card={"bands": 3, "multiple_of": 8})
    assert kinds_of(model) == [("full", 8, None, 0, 4)] * 2
    x = noise(1, 3, 48, 72)
    for pixel in ((0, 0), (25, 71)):
        token = pixel[0] // 8 * 9 + pixel[1] // 8
        rows = rows_of(model, x, pixel)
        for matrix, row in zip(weights_in(model, x), rows.values(), strict=True):
            for head, weights in enumerate(matrix[0, :, 1 + token]):
                found = on_cells(row, head, (6, 9)).flatten()
                torch.testing.assert_close(found, weights[1:], atol=1e-6, rtol=0)
                torch.testing.assert_close(
                    row.numbers["beyond"][head], weights[0], atol=1e-6, rtol=0
                )


@pytest.mark.parametrize("kind", ["einsum", "turned"])
@pytest.mark.ids("slow", "einsum")
def test_products_may_be_written_in_any_way(kind: str) -> None:
    model = load(forms.Form(kind), card={"bands": 3, "multiple_of": 4})
    x = noise(1, 3, 24, 32)
    (matrix,) = weights_in(model, x)
    matrix = matrix.view(-1, 48, 48)
    assert kinds_of(model) == [("full", 4, None, 0, len(matrix))]
    row = rows_of(model, x, (9, 30))["attention.1"]
    for head, weights in enumerate(matrix[:, 2 * 8 + 7]):
        found = on_cells(row, head, (6, 8)).flatten()
        torch.testing.assert_close(found, weights, atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_script_shows_the_rows_of_the_module_that_it_was_made_of() -> None:
    x = noise(1, 3, 24, 32)
    net = forms.Form("fused").eval()
    with torch.no_grad():
        script = torch.jit.trace(net, x)
    card = {"bands": 3, "multiple_of": 4}
    rows = [rows_of(load(each, card=card), x, (9, 30))["attention.1"] for each in (net, script)]
    torch.testing.assert_close(rows[0].weights, rows[1].weights, atol=1e-6, rtol=0)
    assert torch.equal(rows[0].cells, rows[1].cells)
    q, k, _ = net.parts(net.embed(x))
    q, k = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in (q, k))
    expected = (q @ k.mT / 8**0.5).softmax(-1)[0, :, 2 * 8 + 7]
    torch.testing.assert_close(rows[0].weights, expected.detach(), atol=1e-6, rtol=0)


def test_keys_may_be_larger_cells() -> None:
    model = load(forms.Form("pooled"), card={"bands": 3, "multiple_of": 8})
    (site,) = model.attention_sites()
    assert (site.kind, site.stride, site.key_stride) == ("full", 4, 8)
    x = noise(1, 3, 24, 32)
    (matrix,) = weights_in(model, x)
    row = rows_of(model, x, (9, 30))["attention.1"]
    found = on_cells(row, 0, (3, 4)).flatten()
    torch.testing.assert_close(found, matrix[0, 2 * 8 + 7], atol=1e-6, rtol=0)


def test_keys_may_be_those_of_larger_windows() -> None:
    model = load(forms.Form("overlapping"), card={"bands": 3, "multiple_of": 16})
    assert kinds_of(model) == [("window", 4, 4, 0, 1)]
    x = noise(1, 3, 32, 48)
    (matrix,) = weights_in(model, x)
    row = rows_of(model, x, (9, 30))["attention.1"]
    # Cell (2, 7) is token 2 * 4 + 3 of the second window, whose keys begin at (-1, 3).
    weights = matrix[1, 2 * 4 + 3].view(6, 6)
    expected = torch.zeros(8, 12)
    expected[:5, 3:9] = weights[1:]
    torch.testing.assert_close(on_cells(row, 0, (8, 12)), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(row.numbers["beyond"][0], weights[0].sum(), atol=1e-6, rtol=0)


def test_strewn_cells_are_no_windows() -> None:
    model = load(forms.Form("strewn"), card={"bands": 3, "multiple_of": 16})
    assert kinds_of(model) == [("sparse", 4, None, 0, 1)]
    x = noise(1, 3, 32, 48)
    (matrix,) = weights_in(model, x)
    row = rows_of(model, x, (9, 30))["attention.1"]
    # Cell (2, 7): the second of every two rows, the second of every three columns.
    cells = torch.cartesian_prod(torch.arange(0, 8, 2), torch.arange(1, 12, 3))
    assert torch.equal(row.cells[0], cells)
    torch.testing.assert_close(row.weights[0], matrix[1, 4 + 2], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("ordered", "come from sort, behind which .* move them by reshape, permute, roll"),
        ("by_hand", "several of its tokens lie at the same place.* use nn.PixelShuffle"),
        ("mixtures", "its tokens are no cells of the image"),
    ],
)
def test_where_places_are_not_known_the_message_says_what_to_change(kind: str, why: str) -> None:
    model = load(forms.Form(kind), card={"bands": 3, "multiple_of": 32, "min_size": 32})
    with pytest.raises(BadModel, match=why):
        model.attention_sites()


# -- between channels ------------------------------------------------------------------------


def randomised(net: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for name, weight in net.named_parameters():
        if name.endswith("temperature"):
            nn.init.constant_(weight, 3.0)
        elif weight.dim() > 1:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return net


def scores_of(attention: Any, qkv: Tensor) -> Tensor:
    """Cosines of queries and keys (heads, C, C), with the heads' temperature."""
    q, k, _ = qkv[0].unflatten(0, (3, len(attention.temperature), -1)).flatten(3)
    q, k = (part / part.norm(dim=-1, keepdim=True) for part in (q, k))
    scores: Tensor = torch.einsum("hip,hjp->hij", q, k) * attention.temperature
    return scores


def plain(attention: Any, scores: Tensor) -> Tensor:
    return scores.softmax(-1)


def adapted(attention: Any, scores: Tensor) -> Tensor:
    """The weights of ASTv2, with its convolution as a product."""
    sparse = scores.clamp(min=0) ** 2
    sparse = nn.functional.gelu(sparse) * sparse
    made = torch.einsum("oc,hic->hio", attention.att_ca.weight[:, :, 0, 0], sparse)
    scale, shift = made.chunk(2, -1)
    return scores.softmax(-1) * (1 + scale) + shift


RESTORMER: dict[str, Any] = {
    "width": 8,
    "blocks": (1, 1, 1, 1),
    "refinement": 1,
    "hidden": (8, 16, 32, 64),
}
CHANNELS: dict[str, tuple[Callable[[], nn.Module], Any, list[tuple[int, int]]]] = {
    "restormer": (
        lambda: Restormer(**RESTORMER),
        plain,
        [(1, 1), (2, 2), (4, 4), (8, 8), (4, 4), (2, 2), (1, 1), (1, 1)],
    ),
    "astv2": (
        lambda: ASTv2(width=24, blocks=(1, 1, 1), refinement=1, hidden=(24, 48, 96)),
        adapted,
        [(4, 8), (2, 4), (1, 2), (1, 2)],
    ),
}


@pytest.mark.parametrize("name", ["restormer", pytest.param("astv2", marks=pytest.mark.slow)])
@pytest.mark.slow
def test_weights_between_channels_are_those_of_the_module(name: str) -> None:
    make, weights, sizes = CHANNELS[name]
    model = load(randomised(make()), card={"bands": 3, "multiple_of": 8})
    assert kinds_of(model) == [("channel", stride, None, 0, heads) for stride, heads in sizes]
    x, pixel = noise(1, 3, 32, 40), (21, 9)
    blocks = [m for m in model.network.modules() if hasattr(m, "temperature")]
    parts = [part for block in blocks for part in (block.qkv_dwconv, block.project_out)]
    with torch.no_grad(), hooked(parts) as seen:
        model(x)
    order = [id(block) for block in blocks]
    rows = list(rows_of(model, x, pixel).values())
    assert len(rows) == len(order)
    # Modules are listed as they were made; they are called by stride down and up again.
    for number, row in enumerate(rows):
        qkv, ((mixed,), _) = seen[2 * number][1], seen[2 * number + 1]
        block = next(
            b for b in blocks if b.qkv_dwconv.out_channels == qkv.shape[1] and id(b) in order
        )
        order.remove(id(block))
        heads = len(block.temperature)
        outputs = mixed[0].unflatten(0, (heads, -1)).flatten(2)
        y, x_ = (at // (32 // mixed.shape[2]) for at in pixel)
        assert row.query == (y, x_)
        for head in range(heads):
            own = outputs[head] / outputs[head].norm(dim=0)
            expected = own[:, y * mixed.shape[3] + x_] @ own
            torch.testing.assert_close(row.weights[head], expected, atol=1e-6, rtol=0)
        expected = weights(block, scores_of(block, qkv)).detach()
        found = torch.stack([row.numbers[f"matrix.{head}"] for head in range(1, heads + 1)])
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
        diagonals = expected.diagonal(dim1=1, dim2=2).mean(1)
        torch.testing.assert_close(row.numbers["diagonal"], diagonals, atol=1e-6, rtol=0)
        # Those of ASTv2 are no shares.
        assert ("entropy" in row.numbers) == (weights is plain)
        if weights is plain:
            entropy = -(expected * expected.log()).sum(-1).mean(-1) / math.log(expected.shape[-1])
            torch.testing.assert_close(row.numbers["entropy"], entropy, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_other_published_networks_are_seen_as_they_are() -> None:
    model = load(
        randomised(Retinexformer(width=16, blocks=(1, 1, 1))), card={"bands": 3, "multiple_of": 8}
    )
    assert [each[:2] for each in kinds_of(model)] == [("channel", n) for n in (1, 2, 4, 2, 1)]
    net = DehazeFormer(heads=((0, 2), (4, 4), (6,), (0,), (0,)))
    model = load(randomised(net), card={"bands": 3, "multiple_of": 4})
    assert kinds_of(model) == [
        ("window", 1, 8, 4, 2),
        ("window", 2, 8, 0, 4),
        ("window", 2, 8, 4, 4),
        ("window", 4, 8, 0, 6),
    ]


@pytest.mark.nightly
def test_rows_of_sweeps_are_those_of_the_module() -> None:
    model = load(randomised(Restormer(**RESTORMER)), card={"bands": 3, "multiple_of": 8})
    cut = cut_into_sweeps(model)
    assert cut.attention_sites() == model.attention_sites()
    # Else the rounding of layers before grows to 1e-4.
    cut.double()
    x, pixel = noise(1, 3, 96, 64).double(), (50, 9)
    expected = rows_of(model, x, pixel)
    with torch.inference_mode():
        at = {
            "origin": torch.zeros(1, 2, dtype=torch.int64),
            "scale": torch.ones((), dtype=torch.float64),
            "image_size": torch.tensor([96, 64]),
        }
        counted = run_steps(cut.steps(), x, at)[1]
        (rows,) = cut.tile_attention_rows(x, counted, [pixel], frozenset(expected))
    for name, row in rows.items():
        assert torch.equal(row.cells, expected[name].cells)
        torch.testing.assert_close(row.weights, expected[name].weights, atol=1e-6, rtol=0)
        for head in expected[name].numbers:
            torch.testing.assert_close(
                row.numbers[head], expected[name].numbers[head], atol=1e-6, rtol=0
            )
