"""Which pixels of a source a coarser level of a result is made from, and at what price."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import napari_restore as nr
from napari_restore.engine import compute_context
from napari_restore.engine.results.source_levels import (
    AFFORDABLE,
    AT_ONCE,
    is_affordable,
    read_source,
)

LAST = 4


def smooth(height: int, width: int) -> np.ndarray:
    """(h, w, 1) uint16 that rises by the same from one corner to the other, at any size."""
    y = (np.arange(height) + 0.5)[:, None] / height
    x = (np.arange(width) + 0.5)[None] / width
    return np.rint(20_000 * (y + x)).astype(np.uint16)[..., None]


@pytest.fixture
def other_sizes() -> Any:
    """Levels as many programs make them: the odd pixel at the end left out."""
    sizes = [(4095 >> step, 2303 >> step) for step in range(4)]
    return nr.open_image([smooth(*size) for size in sizes])


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pixels were read at a time."""
    found: list[int] = []
    before = nr.images.Image.read

    def counting(image: Any, box: Any, level: int = 0) -> Any:
        pixels = before(image, box, level)
        found.append(pixels.shape[0] * pixels.shape[1])
        return pixels

    monkeypatch.setattr(nr.images.Image, "read", counting)
    return found


def size_at(image: Any, level: int) -> tuple[int, int]:
    return -(-image.height >> level), -(-image.width >> level)


@pytest.mark.parametrize("level", range(LAST + 1))
def test_overviews_of_other_sizes_spare_reading_all(other_sizes: Any, read: list[int], level: int):
    size = size_at(other_sizes, level)
    assert other_sizes.level_shapes[2] != size_at(other_sizes, 2)
    assert is_affordable(other_sizes, level)
    pixels, valid = read_source(other_sizes, nr.Region(0, 0, *size), level)
    assert valid is None
    assert sum(read) <= max(AT_ONCE, AFFORDABLE * size[0] * size[1])
    assert pixels.shape == (*size, 1)
    # A pixel of the level, or of the overview it was picked from.
    step = 2 * 20_000 / min(other_sizes.level_shapes[-1])
    assert np.abs(pixels.astype(float) - smooth(*size)).max() <= step


def test_a_box_of_picked_pixels_is_cut_from_the_whole(other_sizes: Any):
    level = 3
    size = size_at(other_sizes, level)
    whole = read_source(other_sizes, nr.Region(0, 0, *size), level)[0]
    for box in (nr.Region(100, 33, 301, 200), nr.Region(*(s - 1 for s in size), *size)):
        cut = read_source(other_sizes, box, level)[0]
        np.testing.assert_array_equal(cut, whole[box.slices])


def test_a_draft_of_overviews_of_other_sizes_looks_at_a_part(other_sizes: Any, read: list[int]):
    assert all(other_sizes.level_scale(number) is None for number in (1, 2, 3))
    plan = nr.plan(other_sizes, "identity", extent="draft", white=40_000)
    assert plan.reading.extent == "sample"
    # Also where another process had such levels.
    statistics = compute_context(other_sizes, extent="overview")
    assert (statistics.height, statistics.width) == (4095, 2303)
    assert sum(read) < 4095 * 2303 / 2


def test_levels_that_are_missing_are_told_until_they_are_built():
    image = nr.open_image(smooth(2300, 2500))
    assert [is_affordable(image, level) for level in range(LAST)] == [1, 1, 1, 0]
    image.build_pyramid()
    assert all(is_affordable(image, level) for level in range(LAST))


@pytest.mark.parametrize("nodata", [None, -5.0])
def test_where_nothing_is_valid_stands_what_built_levels_have(tmp_path: Any, nodata: float | None):
    import rasterio

    pixels = smooth(2300, 2500)[..., 0].astype(np.float32) + 1
    pixels[512:800, 100:900] = np.nan if nodata is None else nodata
    path = tmp_path / "holes.tif"
    place = rasterio.transform.from_origin(3e5, 5e6, 10, 10)
    made = {"height": 2300, "width": 2500, "count": 1, "dtype": "float32", "nodata": nodata}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with rasterio.open(path, "w", driver="GTiff", transform=place, **made, **tiles) as file:
        file.write(pixels, 1)
    image = nr.open_image(path)
    box = nr.Region(100, 3, 400, 600)
    on_the_fly, valid = read_source(image, box, 2)
    assert valid is not None and not valid.all()
    image.build_pyramid()
    np.testing.assert_array_equal(on_the_fly, image.read(box, 2))
