"""Tables of palettes: as wide as their colours need, whichever indices these have."""

from __future__ import annotations

import numpy as np
import pytest

from napari_restore.images.values.colour import palette_table

GREY, RED, CLEAR = (7, 7, 7, 255), (200, 0, 0, 255), (7, 7, 7, 0)


@pytest.mark.parametrize("index", [0, 1, 254, 255])
def test_one_colour_decides_at_any_index(index: int) -> None:
    greys = dict.fromkeys(range(256), GREY)
    table = palette_table(greys, 255)
    assert table.shape == (256, 1) and (table == 7).all()
    table = palette_table(greys | {index: RED}, 255)
    assert table.shape == (256, 3) and table[index].tolist() == [200, 0, 0]
    table = palette_table(greys | {index: CLEAR}, 255)
    assert table.shape == (256, 4) and np.flatnonzero(table[:, 3] == 0).tolist() == [index]


def test_indices_that_the_file_cannot_store_are_left_out() -> None:
    table = palette_table({-1: RED, 0: GREY, 15: GREY, 16: CLEAR}, 15)
    assert table.shape == (16, 1)
    assert np.flatnonzero(table[:, 0]).tolist() == [0, 15]
