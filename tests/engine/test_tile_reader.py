"""A tile is read with its validity; validity alone reads no more than it needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_restore.engine import Region
from napari_restore.engine.masks.mask_strength import RegionMask
from napari_restore.engine.running.tile_reader import TileReader

BOX = Region(0, 0, 4, 6)
LEFT = Region(0, 0, 4, 3)


class Source:
    """An image with nodata in its first row, dark pixels in its second."""

    may_be_invalid = True
    companions = None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def read(self, box: Region) -> Any:
        self.asked.append("pixels")
        return np.ones((*box.shape, 3), np.uint8)

    def read_valid(self, box: Region) -> Any:
        self.asked.append("valid")
        mask = np.ones(box.shape, bool)
        mask[0] = False
        return mask

    def read_representative(self, box: Region) -> Any:
        self.asked.append("representative")
        mask = np.ones(box.shape, bool)
        mask[:2] = False
        return mask


@pytest.mark.parametrize("name", ["valid", "representative"])
@pytest.mark.parametrize("excluded", [False, True])
def test_a_mask_is_read_by_itself(name: str, excluded: bool):
    source: Any = Source()
    reader = TileReader(source, RegionMask([LEFT]) if excluded else None, uses_validity=True)
    alone = getattr(reader, name)(BOX)
    assert source.asked == [name]
    tile = reader.read(BOX, BOX)
    np.testing.assert_array_equal(alone, getattr(tile, name))
    assert alone[-1, -1] and not alone[0].any()
    assert alone[-1, 0] != excluded


def test_a_model_that_takes_no_validity_reads_none_for_it():
    source: Any = Source()
    reader = TileReader(source, None, uses_validity=False)
    assert reader.representative(BOX) is None and reader.read(BOX, BOX).representative is None
    assert sorted(source.asked) == ["pixels", "valid"]


def test_where_all_count_there_is_no_mask():
    source: Any = Source()
    source.may_be_invalid = False
    assert TileReader(source, None, True).valid(BOX) is None
    np.testing.assert_array_equal(
        TileReader(source, RegionMask([LEFT]), True).valid(BOX), np.arange(6) >= np.full((4, 1), 3)
    )
