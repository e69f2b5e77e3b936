"""Windows, their attention and masks, against formulas over whole maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from napari_restore.models import from_windows, relative_index, to_windows
from napari_restore.models.inf_dehaze.blocks import (
    ConvNeXtBlock,
    SwinBlock,
    WindowAttention,
    blocks_of,
)
from napari_restore.models.inf_dehaze.config import SMALL
from napari_restore.models.inf_dehaze.stages import PatchEmbed, PatchExpand, PatchMerging

SIDE, WINDOW, WIDTH, HEADS = 16, 4, 12, 3


def attention(shift: int) -> WindowAttention:
    torch.manual_seed(1)
    made = WindowAttention(WIDTH, HEADS, WINDOW, SIDE, shift)
    torch.nn.init.normal_(made.bias_table)
    return made.requires_grad_(False)


def weights_over_the_map(made: WindowAttention, x: Tensor) -> Tensor:
    """Softmax weights (heads, cells, cells) of one map, by geometry alone.

    Cells belong together when they lie in the same square of a grid that starts `shift`
    cells in; what is left over at the edges is cut off squares.
    """
    y, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    y, column = y.flatten(), column.flatten()
    square = (y - made.shift).div(WINDOW, rounding_mode="floor") * 100 + (column - made.shift).div(
        WINDOW, rounding_mode="floor"
    )
    down, across = y[:, None] - y, column[:, None] - column
    reach = WINDOW - 1
    entry = (down.clamp(-reach, reach) + reach) * (2 * WINDOW - 1)
    entry = entry + across.clamp(-reach, reach) + reach
    q, k, _ = made.qkv(x.flatten(0, 1)).reshape(-1, 3, HEADS, WIDTH // HEADS).permute(1, 2, 0, 3)
    scores = q @ k.transpose(1, 2) / (WIDTH // HEADS) ** 0.5
    scores = scores + made.bias_table[entry].permute(2, 0, 1)
    return scores.masked_fill(square[:, None] != square, -torch.inf).softmax(-1)


def test_windows_and_back() -> None:
    x = torch.arange(2 * 8 * 12 * 3.0).reshape(2, 8, 12, 3)
    windows = to_windows(x, 4)
    assert windows.shape == (12, 16, 3)
    assert torch.equal(windows[4].reshape(4, 4, 3), x[0, 4:8, 4:8])
    assert torch.equal(from_windows(windows, 4, 8, 12), x)


def test_entries_of_the_bias_table() -> None:
    index = relative_index(8)
    # Token 9 is (1, 1), token 63 is (7, 7).
    assert index[9, 9] == 7 * 15 + 7
    assert index[63, 9] == (6 + 7) * 15 + (6 + 7)
    assert index[1, 8] == (-1 + 7) * 15 + (1 + 7)
    assert index.unique().tolist() == list(range(225))


@pytest.mark.parametrize("shift", [0, 2])
def test_attention_equals_the_formula_on_the_whole_map(shift: int) -> None:
    made, x = attention(shift), torch.randn(2, SIDE, SIDE, WIDTH)
    for one, seen in zip(x, made(x), strict=True):
        values = made.qkv(one.flatten(0, 1))[:, 2 * WIDTH :].reshape(-1, HEADS, WIDTH // HEADS)
        joined = weights_over_the_map(made, one) @ values.transpose(0, 1)
        expected = made.projection(joined.transpose(0, 1).flatten(1)).reshape(one.shape)
        assert torch.allclose(seen, expected, atol=1e-5)


@pytest.mark.parametrize("shift", [0, 2])
def test_a_row_is_the_row_of_the_whole(shift: int) -> None:
    made, x = attention(shift), torch.randn(SIDE, SIDE, WIDTH)
    whole = weights_over_the_map(made, x)
    for query in [(0, 0), (5, 9), (15, 1), (1, 14), (15, 15)]:
        weights, cells = made.row(x, query)
        placed = torch.zeros(HEADS, SIDE, SIDE)
        seen = cells[:, 0] >= 0
        assert float(weights[:, ~seen].sum()) == 0
        placed[:, cells[seen, 0], cells[seen, 1]] = weights[:, seen]
        row = whole[:, query[0] * SIDE + query[1]].reshape(HEADS, SIDE, SIDE)
        assert torch.allclose(placed, row, atol=1e-6)


def test_a_row_needs_its_window_only() -> None:
    made = attention(0)
    x = torch.full((SIDE, SIDE, WIDTH), torch.nan)
    x[4:8, 8:12] = torch.randn(4, 4, WIDTH)
    weights, cells = made.row(x, (6, 8))
    assert torch.allclose(weights.sum(1), torch.ones(HEADS))
    assert cells[0].tolist() == [4, 8]
    assert cells[-1].tolist() == [7, 11]


def test_shifted_windows_do_not_look_across_the_edge() -> None:
    made, x = attention(2), torch.randn(SIDE, SIDE, WIDTH)
    divided = 0
    for query in [(0, 0), (0, 8), (8, 15), (15, 15), (14, 1), (7, 7)]:
        weights, cells = made.row(x, query)
        apart = cells[:, 0] < 0
        assert float(weights[:, apart].sum()) == 0
        assert bool((weights[:, ~apart] > 0).all())
        assert int((cells[~apart] - torch.tensor(query)).abs().max()) < WINDOW
        divided += int(apart.any())
    assert divided == 5


def test_a_single_window_is_not_shifted() -> None:
    def shifts(side: int) -> list[int]:
        blocks = blocks_of(3, 32, 2, side, SMALL)
        return [b.attention.shift for b in blocks if isinstance(b, SwinBlock)]

    assert shifts(16) == [0, 4, 0]
    assert shifts(8) == [0, 0, 0]
    assert blocks_of(1, 32, 2, 4, SMALL)[0](torch.randn(1, 4, 4, 32)).shape == (1, 4, 4, 32)


def test_swin_block_adds_twice() -> None:
    block = SwinBlock(WIDTH, HEADS, SIDE, True, SMALL)
    x = torch.randn(1, SIDE, SIDE, WIDTH)
    between = x + block.attention(block.norm1(x))
    assert torch.allclose(block(x), between + block.mlp(block.norm2(between)), atol=1e-6)
    kept = x.clone()
    with torch.no_grad():
        assert torch.equal(block(x), block(x))
    assert torch.equal(x, kept)


def test_convnext_block_equals_its_formula() -> None:
    block = ConvNeXtBlock(8, SMALL).requires_grad_(False)
    x = torch.randn(2, 10, 12, 8)
    assert 0 < float((block(x) - x).abs().max()) < 1e-4
    block.scale.weight.fill_(0.5)
    planes = block.depthwise(x.permute(0, 3, 1, 2).contiguous())
    normed = functional.layer_norm(
        planes.permute(0, 2, 3, 1), (8,), block.norm.weight, block.norm.bias, 1e-6
    )
    hidden = functional.gelu(normed @ block.mlp.fc1.weight.T + block.mlp.fc1.bias)
    expected = x + 0.5 * (hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias)
    assert torch.allclose(block(x), expected, atol=1e-5)


def test_merging_joins_neighbours_column_by_column() -> None:
    merge = PatchMerging(1, 4).requires_grad_(False)
    merge.norm = torch.nn.Identity()  # type: ignore[assignment]
    merge.reduction.weight.copy_(torch.eye(4))
    x = torch.arange(16.0).reshape(1, 4, 4, 1)
    assert merge(x)[0, 0, 0].tolist() == [0, 4, 1, 5]
    assert merge(x)[0, 1, 0].tolist() == [8, 12, 9, 13]


def test_embedding_and_expansion_are_convolutions() -> None:
    embed, expand = PatchEmbed(4, 6), PatchExpand(6, 5)
    x = torch.rand(2, 3, 16, 24)
    maps = embed(x)
    assert maps.shape == (2, 4, 6, 6)
    expected = functional.conv2d(x, embed.weight, embed.bias, stride=4)
    assert torch.allclose(maps.permute(0, 3, 1, 2), expected, atol=1e-6)
    grown = functional.conv_transpose2d(expected, expand.weight, expand.bias, stride=2)
    assert torch.allclose(expand(maps).permute(0, 3, 1, 2), grown, atol=1e-6)
