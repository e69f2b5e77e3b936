"""Tiles cover the targets once, on one grid, nearest first."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from napari_restore.engine import CELL, Region
from napari_restore.engine._region import cut, cut_on_grid, joined
from napari_restore.engine.planning.tiles import (
    BAND,
    Grid,
    TileQueue,
    TileSizes,
    box_with_halo,
    cut_into_tiles,
    tile_sizes,
)
from napari_restore.engine.running.threads import quarters

SIZES = st.integers(1, 1500)
TILES = st.integers(1, 6).map(lambda n: n * CELL)


@st.composite
def images_with_targets(draw):
    height, width = draw(SIZES), draw(SIZES)
    targets = []
    for _ in range(draw(st.integers(1, 3))):
        y0, x0 = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        y1, x1 = draw(st.integers(y0 + 1, height)), draw(st.integers(x0 + 1, width))
        targets.append(Region(y0, x0, y1, x1))
    return (height, width), targets


@given(images_with_targets(), TILES)
def test_every_target_pixel_lies_in_a_tile_and_no_tile_crosses_the_grid(image, tile):
    size, targets = image
    cores = cut_into_tiles(targets, size, tile)
    covered = np.zeros(size, int)
    for core in cores:
        covered[core.slices] += 1
        assert core.y0 // tile == (core.y1 - 1) // tile
        assert core.x0 // tile == (core.x1 - 1) // tile
        assert core == core.intersect(Region(0, 0, *size))
    assert covered.max() <= 1
    for target in targets:
        assert (covered[target.slices] == 1).all()


def test_a_regions_tiles_are_parts_of_the_whole_images_tiles():
    whole = cut_into_tiles([Region(0, 0, 3000, 2000)], (3000, 2000), 512)
    part = cut_into_tiles([Region(700, 300, 1700, 901)], (3000, 2000), 512)
    for core in part:
        assert any(core.intersect(other) == core for other in whole)
    assert sum(core.pixels for core in part) < sum(core.pixels for core in whole)


def test_touches_rules_out_tiles():
    cores = cut_into_tiles([Region(0, 0, 512, 512)], (512, 512), 256, lambda core: core.y0 == 0)
    assert cores == [Region(0, 0, 256, 256), Region(0, 256, 256, 512)]


def test_parts_of_a_box_follow_its_corner_or_the_grid_and_join_to_the_whole():
    box = Region(3, 10, 8, 21)
    rows = [Region(3, 10, 7, 21), Region(7, 10, 8, 21)]
    assert list(cut(box, 4, 11)) == rows
    on_grid = list(cut_on_grid(box, 8))
    assert on_grid == [Region(3, 10, 8, 16), Region(3, 16, 8, 21)]
    image = torch.arange(30 * 30.0).view(1, 30, 30)
    for parts in (rows, on_grid):
        whole = joined(box, ((part, image[:, *part.slices]) for part in parts))
        assert torch.equal(whole, image[:, *box.slices])


def test_windows_of_tiles_meet_in_a_map_and_reach_into_its_margin():
    grid = Grid(Region(0, 0, 512, 700), 256, 1)
    assert grid.map_size(64) == (8, 12)
    assert grid.map_window(4, 64) == (slice(4, 8), slice(4, 8))
    assert grid.map_window(4, 64, 2) == (slice(4, 12), slice(4, 12))


def test_fed_box_is_grown_by_the_halo_and_cropped_to_the_image():
    assert box_with_halo(Region(0, 512, 512, 1000), 48, (2000, 1000)) == Region(0, 464, 560, 1000)


def test_schedule_starts_at_the_centre_and_can_move():
    tiles = cut_into_tiles([Region(0, 0, 1024, 1024)], (1024, 1024), 256)
    schedule = TileQueue(tiles, (512.0, 512.0))
    assert schedule.pop() in (
        Region(256, 256, 512, 512),
        Region(256, 512, 512, 768),
        Region(512, 256, 768, 512),
        Region(512, 512, 768, 768),
    )
    schedule.prioritise(Region(0, 768, 256, 1024))
    assert schedule.pop() == Region(0, 768, 256, 1024)
    rest = [schedule.pop() for _ in range(len(schedule))]
    assert len(set(rest)) == 14
    assert schedule.pop() is None


@pytest.mark.parametrize("core", [Region(0, 0, 512, 512), Region(256, 128, 640, 900)])
def test_quarters_cover_the_core_on_cell_borders(core):
    parts = quarters(core)
    assert len(parts) == 4
    assert sum(part.pixels for part in parts) == core.pixels
    for part in parts:
        assert part.intersect(core) == part
        assert (part.y0 % CELL, part.x0 % CELL) == (0, 0)


def test_one_cell_cannot_be_cut_further():
    assert quarters(Region(128, 0, 256, 100)) == [Region(128, 0, 256, 100)]


@given(SIZES, SIZES, TILES, st.integers(0, 100), st.data())
def test_tile_sizes_foretell_the_cut(height, width, tile, halo, data):
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    target = Region(y0, x0, data.draw(st.integers(y0 + 1, height)), width)
    cores = cut_into_tiles([target], (height, width), tile)
    fed = [box_with_halo(core, halo, (height, width)).pixels for core in cores]
    assert tile_sizes([target], (height, width), tile, halo) == TileSizes(
        len(cores), sum(core.pixels for core in cores), sum(fed), max(fed)
    )


def test_unwatched_tiles_follow_row_by_row_within_a_band():
    width = BAND + 1024
    tiles = cut_into_tiles([Region(0, 0, 2048, width)], (2048, width), 1024)
    schedule = TileQueue(reversed(tiles), None)
    order = [schedule.pop() for _ in tiles]
    first, last = order[: 2 * BAND // 1024], order[2 * BAND // 1024 :]
    assert first == sorted(first)
    assert all(tile.x1 <= BAND for tile in first)
    assert last == [Region(0, BAND, 1024, width), Region(1024, BAND, 2048, width)]


def test_a_core_of_a_part_belongs_to_the_tile_of_its_corner():
    grid = Grid(Region(10, 20, 210, 320), 64, 1)
    for number in range(grid.count):
        core = grid.core(number)
        inner = Region(core.y0 + 1, core.x0 + 1, core.y1, core.x1)
        assert grid.number(core) == grid.number(inner) == number
