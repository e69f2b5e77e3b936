"""Rows of attention: each is what the network itself used for the cell."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kept_layers import TokensInMemory
from torch import Tensor, nn

from napari_restore.errors import BadParameter
from napari_restore.models import AttentionRow, Routing, SweepInput, WholeStep, card_of, randomise
from napari_restore.models.inf_dehaze.blocks import WindowAttention
from napari_restore.models.inf_dehaze.config import InfDehazeConfig
from napari_restore.models.inf_dehaze.ibssa import IBSSA, FullAttention, HeadwiseAttention
from napari_restore.models.inf_dehaze.network import InfDehaze
from napari_restore.models.inf_dehaze.rows import column_of, kept_of, output_of, outputs_of, row_of
from napari_restore.models.inf_dehaze.sfca import SpatialFrequencyAttention

CONFIG = InfDehazeConfig(
    patch=2,
    widths=(16, 24, 32),
    depths=(2, 2, 1),
    heads=(2, 2, 4),
    layers=("ibssa", "full"),
    tile=64,
    bottleneck_heads=4,
    qk_width=16,
    exact_below=0,
    block_size=16,
    lsh_bits=4,
    experts=(3, 3, 5),
    expert_ratio=1,
    head="haze",
)
LENGTH = 150  # the last block is not full


def attention_of(kind: type[HeadwiseAttention] = IBSSA, **changes: object) -> HeadwiseAttention:
    torch.manual_seed(1)
    made = kind(replace(CONFIG, **changes))  # type: ignore[arg-type, call-arg]
    for parameter in made.parameters():
        parameter.data *= 3  # else all weights of a row are nearly equal
    return made.eval()


def kept(attention: HeadwiseAttention, x: Tensor) -> TokensInMemory:
    routing = Routing(records=True)
    with torch.no_grad():
        attention(x, None, None, routing)
    return TokensInMemory(x[None], kept_of(attention, routing))


VARIANTS = [
    attention_of(FullAttention),
    attention_of(exact_below=1000),
    attention_of(neighbours=False),
    attention_of(),
    attention_of(samples=20),
]
NAMES = ["full", "exact", "blocks", "neighbours", "samples"]


@torch.no_grad()
@pytest.mark.parametrize("attention", VARIANTS, ids=NAMES)
def test_weights_times_values_are_the_output(attention: HeadwiseAttention) -> None:
    x = torch.randn(LENGTH, 32)
    out, layer = attention(x), kept(attention, x)
    for query in (0, 71, LENGTH - 1):
        row = row_of(attention, layer, query, nn.Identity())
        assert row[1].dtype == torch.int64
        torch.testing.assert_close(row[0].sum(1), torch.ones(attention.heads))
        assert (row[0][row[1] < 0] == 0).all()
        found = output_of(attention, layer, row, nn.Identity())
        torch.testing.assert_close(found, out[query], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("attention", VARIANTS, ids=NAMES)
def test_what_heads_put_out_is_the_output_of_any_tokens(attention: HeadwiseAttention) -> None:
    x = torch.randn(LENGTH, 32)
    out, layer = attention(x), kept(attention, x)
    cells = torch.tensor([3, 71, 0, LENGTH - 1])
    found = outputs_of(attention, layer, cells, nn.Identity())
    assert [each.shape for each in found.values] == [(4, 8)] * 4
    torch.testing.assert_close(sum(found.parts()), out[cells], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("attention", VARIANTS[:4], ids=NAMES[:4])
def test_columns_are_the_transpose_of_rows(attention: HeadwiseAttention) -> None:
    layer = kept(attention, torch.randn(LENGTH, 32))
    formed = torch.zeros(attention.heads, LENGTH, LENGTH)
    for query in range(LENGTH):
        weights, keys = row_of(attention, layer, query, nn.Identity())
        formed[:, query] = dense(weights, keys)
    for key in (0, 71, LENGTH - 1):
        weights, queries = column_of(attention, layer, key, nn.Identity())
        torch.testing.assert_close(dense(weights, queries), formed[:, :, key])


def dense(weights: Tensor, numbers: Tensor) -> Tensor:
    """(heads, LENGTH) of weights for numbered tokens."""
    found = torch.zeros(len(weights), LENGTH)
    return found.scatter_add_(1, numbers.clamp(min=0), weights.where(numbers >= 0, 0))


@torch.no_grad()
def test_a_sparse_row_reads_the_blocks_it_sees_only() -> None:
    attention = attention_of()
    layer = kept(attention, torch.randn(LENGTH, 32))
    row_of(attention, layer, 71, nn.Identity())
    assert layer.read <= 1 + attention.heads * 32


@torch.no_grad()
def test_the_column_of_a_sampled_key_is_refused() -> None:
    attention = attention_of(samples=20)
    layer = kept(attention, torch.randn(LENGTH, 32))
    with pytest.raises(BadParameter, match="cell beside"):
        column_of(attention, layer, int(layer.kept(("drawn", 0))[0, 0]), nn.Identity())


# -- the whole network ---------------------------------------------------------------


def network(config: InfDehazeConfig = CONFIG) -> InfDehaze:
    made = InfDehaze(card_of("inf-dehaze-small"), config)
    randomise(made, 0)
    return made.eval().requires_grad_(False)


class Outputs:
    """Outputs of all attention modules of windows in a run, by module."""

    def __init__(self, model: InfDehaze) -> None:
        self.found: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        for module in model.modules():
            if isinstance(module, WindowAttention | SpatialFrequencyAttention):
                module.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, given: tuple[Tensor], out: Tensor) -> None:
        self.found[module] = given[0].clone(), out.clone()


PIXEL = (37, 58)


@torch.no_grad()
def test_every_site_of_a_tile_explains_the_output_of_its_cell() -> None:
    model, x = network(), torch.rand(1, 3, 64, 64)
    outputs = Outputs(model)
    encode, whole, decode = model.steps()
    assert isinstance(whole, WholeStep)
    maps = dict(encode.run(SweepInput(x, {}, {})))  # type: ignore[union-attr]
    related = whole(maps["encoded"][0].permute(1, 2, 0).clone()).permute(2, 0, 1)
    maps["related"] = whole.with_margin(related)[None]
    decode.run(SweepInput(x, maps, {}))  # type: ignore[union-attr]
    names = frozenset(site.name for site in model.attention_sites())
    rows = model.attention_rows("encode", SweepInput(x, {}, {}), PIXEL, names)
    rows |= model.attention_rows("decode", SweepInput(x, maps, {}), PIXEL, names)
    sites = model._window_sites
    assert set(rows) == {site.name for site in sites.values()}
    assert [site.kind for site in sites.values()].count("band") == 2
    for module, site in sites.items():
        row = rows[site.name]
        assert row.query == (PIXEL[0] // site.stride, PIXEL[1] // site.stride)
        torch.testing.assert_close(row.weights.sum(1), torch.ones(len(site.heads)))
        given, out = outputs.found[getattr(module, "attention", module)]
        found = (
            of_bands(module, given, row) if site.kind == "band" else of_window(module, given, row)
        )
        torch.testing.assert_close(found, out[0][row.query], atol=1e-5, rtol=1e-5)
    # What all heads put out, joined, is the output of every cell.
    put_out = model.attention_outputs("encode", SweepInput(x, {}, {}), names)
    put_out |= model.attention_outputs("decode", SweepInput(x, maps, {}), names)
    assert set(put_out) == set(rows)
    for module, site in sites.items():
        given, out = outputs.found[getattr(module, "attention", module)]
        parts = list(put_out[site.name].parts())
        assert len(parts) == len(site.heads)
        base = (
            given[0] + module.restore.bias
            if site.kind == "band"
            else module.attention.projection.bias
        )
        torch.testing.assert_close(sum(parts) + base, out[0], atol=1e-5, rtol=1e-5)


def of_window(block: nn.Module, given: Tensor, row: AttentionRow) -> Tensor:
    """The attention's output of a cell: its weights times the values."""
    attention = block.attention
    width = given.shape[-1]
    values = (attention.qkv(given)[..., 2 * width :])[0].unflatten(-1, (len(row.weights), -1))
    joined = [
        row.weights[head] @ values[at[:, 0], at[:, 1], head]
        for head, at in enumerate(row.cells.clamp(min=0))
    ]
    return attention.projection(torch.cat(joined))


def of_bands(sfca: nn.Module, given: Tensor, row: AttentionRow) -> Tensor:
    bands = sfca.bands(given)
    omega = row.numbers["band_weights"]
    torch.testing.assert_close(omega.sum(), torch.tensor(1.0))
    mixed = torch.zeros(32)
    for band in range(3):
        values = sfca.key_value[band](bands[band])[0, ..., 32:].unflatten(-1, (2, 16))
        heads = [
            row.weights[2 * band + head] @ values[row.cells[0, :, 0], row.cells[0, :, 1], head]
            for head in range(2)
        ]
        mixed += omega[band] * torch.cat(heads)
    return given[0][row.query] + sfca.restore(mixed)


@torch.no_grad()
@pytest.mark.parametrize("index", [0, 1])
def test_rows_of_a_layer(index: int) -> None:
    model = network()
    layer = model.bottleneck.layers_in_order()[index]
    grid = torch.randn(24, 31, 32)
    routing = Routing(records=True)
    expected = model.bottleneck_layer(index, grid.clone())
    assert torch.equal(model.bottleneck_layer(index, grid.clone(), None, routing), expected)
    layer_kept = TokensInMemory(grid, model.kept_of_layer(index, routing))
    name = f"bottleneck.{index + 1}"
    rows = model.layer_rows(index, layer_kept, (5, 17), frozenset([name, f"{name}.experts"]))
    attended = layer.attend(grid.clone())
    weights, cells = rows[name].weights, rows[name].cells
    numbers = (cells[..., 0] * 31 + cells[..., 1]).masked_fill(cells[..., 0] < 0, -1)
    out = output_of(layer.attention, layer_kept, (weights, numbers), layer.norm1)
    torch.testing.assert_close(out, (attended - grid)[5, 17], atol=1e-5, rtol=1e-5)

    experts = rows[f"{name}.experts"]
    chosen = layer.experts.routing(attended, layer.centre(attended))[5, 17]
    assert (experts.weights[:, 0] > 0).nonzero()[:, 0].tolist() == chosen.tolist()
    torch.testing.assert_close(experts.weights.sum(), torch.tensor(1.0))
    assert experts.cells.unique(dim=1).tolist() == [[[5, 17]]] * len(experts.weights)


def test_sites_are_named_in_the_order_of_computation() -> None:
    sites = network().attention_sites()
    assert [site.name for site in sites] == [
        "encoder.1.1",
        "encoder.1.2",
        "encoder.1.bands",
        "encoder.2.1",
        "encoder.2.2",
        "encoder.2.bands",
        "encoder.3.1",
        "bottleneck.1",
        "bottleneck.1.experts",
        "bottleneck.2",
        "bottleneck.2.experts",
        "decoder.1.1",
        "decoder.2.1",
        "decoder.2.2",
        "decoder.3.1",
        "decoder.3.2",
    ]
    assert [site.stride for site in sites] == [2, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8, 4, 4, 2, 2]
    assert [site.shift for site in sites if site.kind == "window"] == [0, 4, 0, 4, 0, 0, 0, 4, 0, 4]
    assert [site.kind for site in sites if site.layer is not None] == [
        "sparse",
        "routing",
        "full",
        "routing",
    ]


def test_a_network_without_windows_has_the_bottleneck_only() -> None:
    sites = network(replace(CONFIG, block="convnext", sfca=False)).attention_sites()
    assert {site.step for site in sites} == {"bottleneck"}
