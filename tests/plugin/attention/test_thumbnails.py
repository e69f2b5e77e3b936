"""Thumbnails of heads, and layers that move without napari's usual work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QRectF
from qtpy.QtGui import QImage, QPainter

from napari_restore.explain.kinds import KINDS, OF_SITE
from napari_restore.plugin.attention.heads_view import DARK, SIDE, of_layer
from napari_restore.plugin.attention.layers import in_one_go

pytestmark = pytest.mark.binding


def heads_of(*values: Any, kind: str = "window", query: tuple[int, int] = (0, 0)) -> Any:
    """Maps of cells of 4 pixels, whose first cell is (2, 3)."""
    stacked = np.array(values, np.float32)
    names = tuple(str(number) for number in range(1, len(values) + 1))
    y, x = (4 * each for each in query)
    return SimpleNamespace(
        site=SimpleNamespace(kind=kind, heads=names),
        kind=KINDS[OF_SITE.get(kind, "attention")],
        stride=4,
        query=SimpleNamespace(y0=y, x0=x, y1=y + 4, x1=x + 4),
        region=SimpleNamespace(y0=2, x0=3),
        map=lambda head: SimpleNamespace(values=stacked[int(head) - 1]),
    )


def painted(pictures: Any, head: int, side: int = SIDE) -> np.ndarray:
    """(side, side, 3) colours."""
    image = QImage(side, side, QImage.Format.Format_RGB32)
    image.fill(0)
    painter = QPainter(image)
    pictures.paint(painter, QRectF(0, 0, side, side), head)
    painter.end()
    # Not its bytes, which PyQt and PySide give as different objects.
    packed = np.array([[image.pixel(x, y) for x in range(side)] for y in range(side)])
    return np.stack([packed >> shift & 255 for shift in (16, 8, 0)], axis=-1).astype(np.uint8)


def test_heads_are_painted_on_one_scale_with_the_query_in_place(qapp: Any) -> None:
    nan = np.nan
    maps = heads_of([[0, 1], [2, nan]], [[4, 0], [0, 0]], query=(3, 3))
    pictures = of_layer(maps, spread=False)
    first, second = (painted(pictures, head).astype(int) for head in (0, 1))
    # viridis: from violet to yellow, both heads from 0 to 4.
    np.testing.assert_allclose(first[3, 3], [68, 1, 84], atol=2)
    np.testing.assert_allclose(second[3, 3], [253, 231, 37], atol=2)
    np.testing.assert_allclose(first[30, 3], [33, 145, 140], atol=4)
    assert tuple(first[40, 40]) == (DARK.red(), DARK.green(), DARK.blue())
    # The middle of the second cell of the first column.
    red = (second[..., 0] > 200) & (second[..., 1] < 80)
    ys, xs = np.nonzero(red)
    np.testing.assert_allclose((ys.mean(), xs.mean()), (33, 11), atol=1.5)
    spread = painted(of_layer(maps, spread=True), 0)
    np.testing.assert_allclose(spread[3, 3], [68, 1, 84], atol=2)


def test_likeness_is_painted_around_zero(qapp: Any) -> None:
    nan = np.nan
    found = painted(
        of_layer(heads_of([[0.5, -0.25], [0, nan]], kind="channel", query=(9, 9)), spread=True), 0
    )
    corners = found[[10, 10, 33], [10, 33, 10]].tolist()
    # Purple as in figures, a paler orange, white.
    np.testing.assert_allclose(corners[0], [84, 39, 136], atol=2)
    assert corners[1][0] > corners[1][1] > corners[1][2] and min(corners[2]) >= 250
    large = np.zeros((90, 90), np.float32)
    large[50, 70] = -1
    large[51, 70] = 0.5
    kept = painted(of_layer(heads_of(large, kind="channel", query=(9, 9)), spread=False), 0).astype(
        int
    )
    # Of a block what is largest by its size: −1, orange.
    np.testing.assert_allclose(kept[24, 34], [179, 88, 6], atol=2)


def test_large_maps_keep_the_largest_of_each_block_and_shares_are_bars(qapp: Any) -> None:
    values = np.zeros((90, 90), np.float32)
    values[50, 70] = 1
    found = painted(of_layer(heads_of(values, query=(2, 3)), spread=False), 0)
    yellow = (found[..., 0] > 200) & (found[..., 1] > 180)
    ys, xs = np.nonzero(yellow)
    # Blocks of 3 cells: 30 a side.
    np.testing.assert_allclose((ys.mean(), xs.mean()), (16.5 * SIDE / 30, 23.5 * SIDE / 30), atol=1)
    bars = of_layer(heads_of([[0.25]], [[1.0]], kind="routing"), spread=False)
    low, full = (painted(bars, head)[:, SIDE // 2, 2] > 200 for head in (0, 1))
    assert full.all() and low.sum() == SIDE // 4 and low[-1]


def test_both_of_a_comparison_have_one_scale(qapp: Any) -> None:
    one, other = heads_of([[1.0, 0]], query=(9, 9)), heads_of([[2.0, 0]], query=(9, 9))
    alone = painted(of_layer(one, spread=False), 0)[SIDE // 2, 3].astype(int)
    beside = painted(of_layer(one, spread=False, beside=other), 0)[SIDE // 2, 3].astype(int)
    np.testing.assert_allclose(alone, [253, 231, 37], atol=2)
    np.testing.assert_allclose(beside, [33, 145, 140], atol=4)


@pytest.mark.parametrize("rests", [False, True])
def test_a_layer_that_moves_is_drawn_once(rests: bool) -> None:
    from napari.components import ViewerModel

    viewer = ViewerModel()
    viewer.add_image(np.zeros((50, 50), np.float32))
    layer = viewer.add_image(np.zeros((4, 4), np.float32), contrast_limits=(0, 1))
    drawn: list[str] = []
    layer.events.connect(lambda event: drawn.append(event.type))
    names = ["contrast_limits", *(["affine"] if rests else [])]
    with in_one_go(layer, names, rests=rests):
        layer.data = np.ones((5, 5), np.float32)
        layer.contrast_limits = (0, 0.5)
        layer.affine = np.array([[1, 0, 60], [0, 1, 3], [0, 0, 1]])
    assert drawn.count("set_data") == 1 and drawn.count("contrast_limits") == 1
    assert ("thumbnail" in drawn) == rests
    assert viewer.dims.range[0].stop == (64 if rests else 49)
    np.testing.assert_array_equal(layer._slice.image.raw, np.ones((5, 5)))
