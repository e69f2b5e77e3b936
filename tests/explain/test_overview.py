"""Shares of an overview in blocks that can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from napari_restore.explain import OverviewShares


@pytest.mark.parametrize("turned", [False, True])
def test_the_longer_side_has_at_most_96_blocks(turned: bool) -> None:
    values = np.random.default_rng(0).random((100, 481, 2), np.float32)
    values = values.swapaxes(0, 1) if turned else values
    sums, side = OverviewShares(values, 4, (0, 0)).blocks()
    # 481 in six: the last block of the longer side has one row, that of the other four.
    assert side == 6 * 4 and sums.shape == ((81, 17) if turned else (17, 81))
    assert sums[1, 2] == pytest.approx(values[6:12, 12:18].sum(), rel=1e-5)
    assert sums.sum() == pytest.approx(values.sum(dtype=float), rel=1e-5)


def test_few_pixels_are_shown_each() -> None:
    values = np.arange(96.0, dtype=np.float32).reshape(1, 96, 1)
    sums, side = OverviewShares(values, 4, (0, 0)).blocks()
    assert side == 4 and np.array_equal(sums, values[..., 0])
