"""Overviews built in one pass equal level by level halving, however they were built."""

from __future__ import annotations

import gc
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from points import patience

from napari_restore.errors import Cancelled
from napari_restore.images import (
    Level,
    Source,
    cache_dir,
    cache_entries,
    chunk_grid,
    halve,
    open_image,
)
from napari_restore.images.levels.making import PyramidSource


class Tiles(Source):
    """An array as a tiled file; zeros in all bands are nodata if `nodata`."""

    def __init__(self, pixels: np.ndarray, chunk: int = 256, nodata: bool = False) -> None:
        self.pixels = pixels
        self.levels = (Level(*pixels.shape[:2], chunk, chunk),)
        self.bands, self.dtype = pixels.shape[2], pixels.dtype
        self.may_be_invalid = nodata
        self.reads: list[tuple[int, int]] = []

    def read_chunk(self, level: int, row: int, column: int) -> np.ndarray:
        self.reads.append((row, column))
        side = self.levels[0].chunk_height
        return self.pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]

    def read_valid_chunk(self, level: int, row: int, column: int, pixels: Any) -> np.ndarray:
        return (pixels != 0).any(axis=-1)


@pytest.fixture(autouse=True)
def small_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_levels: Callable[..., None]
) -> None:
    monkeypatch.setenv("NAPARI_RESTORE_CACHE", str(tmp_path))
    small_levels(smallest=100, chunk=128, block=512)


@pytest.fixture
def scene() -> np.ndarray:
    return np.random.default_rng(5).integers(1, 255, (1301, 1100, 3), dtype=np.uint8)


def built_share(source: PyramidSource) -> float:
    """Share of the chunks of the first level built that are there."""
    chunks = chunk_grid(source.levels[source.first])
    return float(np.mean([source.is_built(source.first, *chunk) for chunk in chunks]))


def read_level(source: Source, number: int) -> np.ndarray:
    """A whole level, put together from its chunks."""
    level = source.levels[number]
    whole = np.empty((level.height, level.width, source.bands), source.dtype)
    for row, column in chunk_grid(level):
        chunk = source.read_chunk(number, row, column)
        y, x = row * level.chunk_height, column * level.chunk_width
        whole[y : y + chunk.shape[0], x : x + chunk.shape[1]] = chunk
    return whole


@pytest.mark.parametrize("chunk", [256, 240, 1024])
def test_levels_equal_repeated_halving(scene: np.ndarray, chunk: int) -> None:
    source = PyramidSource(Tiles(scene, chunk), "f")
    source.build()
    assert source.complete
    assert [level[:2] for level in source.levels] == [
        (1301, 1100), (651, 550), (326, 275), (163, 138), (82, 69),
    ]  # fmt: skip
    expected = scene
    for number in range(1, len(source.levels)):
        expected, _ = halve(expected)
        np.testing.assert_array_equal(read_level(source, number), expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_invalid_pixels_do_not_bleed(scene: np.ndarray, dtype: Any) -> None:
    pixels = scene.astype(dtype)
    pixels[:700, :301] = 0
    source = PyramidSource(Tiles(pixels, nodata=True), "f", nodata=0)
    source.build()
    expected, valid = pixels, (pixels != 0).any(axis=-1)
    for number in range(1, len(source.levels)):
        expected, found = halve(expected, valid, fill=0, nodata=0)
        assert found is not None
        valid = found
        np.testing.assert_array_equal(read_level(source, number), expected)
    level = len(source.levels) - 1
    for row, column in chunk_grid(source.levels[level]):
        chunk = source.read_chunk(level, row, column)
        side = source.levels[level].chunk_height
        np.testing.assert_array_equal(
            source.read_valid_chunk(level, row, column, chunk),
            valid[row * side : (row + 1) * side, column * side : (column + 1) * side],
        )


def test_unbuilt_reads_as_invalid_zeros_and_blocks_land_from_the_centre(
    scene: np.ndarray,
) -> None:
    scene[0] = 0
    source = PyramidSource(Tiles(scene, nodata=True), "f")
    assert not source.is_built(1, 0, 0) and source.is_built(0, 0, 0)
    unbuilt = source.read_chunk(4, 0, 0)
    assert unbuilt.shape == (32, 32, 3) and not unbuilt.any()
    assert not source.read_valid_chunk(4, 0, 0, unbuilt).any()

    landed = []
    source.build(lambda *event: landed.append(event), centre=(1200, 100), workers=1)
    assert landed[0][0] == (1024, 0, 1301, 512)
    assert landed[-1][0] == (0, 1024, 512, 1100)
    assert [done for _, done, _ in landed] == list(range(1, 10))
    assert {total for *_, total in landed} == {9}


def test_a_block_shows_before_the_rest(scene: np.ndarray) -> None:
    source = PyramidSource(Tiles(scene), "f")
    seen = []

    def look(box: tuple[int, int, int, int], done: int, total: int) -> None:
        if done == 1:
            seen.append(source.read_chunk(1, 2, 2))

    source.build(look, centre=(700, 700), workers=1)
    np.testing.assert_array_equal(seen[0], halve(scene)[0][256:384, 256:384])


def test_cancelled_work_is_taken_up_again(scene: np.ndarray) -> None:
    first = PyramidSource(Tiles(scene), "f")
    done = []
    with pytest.raises(Cancelled):
        first.build(lambda *event: done.append(event), cancelled=lambda: len(done) >= 4, workers=1)
    assert not first.complete and 0 < built_share(first) < 1
    del first
    gc.collect()

    base = Tiles(scene, 512)
    second = PyramidSource(base, "f")
    # Another chunk grid of level 0 is another pyramid; the same file is not.
    assert built_share(second) == 0
    base = Tiles(scene)
    third = PyramidSource(base, "f")
    assert built_share(third) >= 4 / 9
    third.build()
    assert len(base.reads) < 30
    np.testing.assert_array_equal(read_level(third, 1), halve(scene)[0])


def test_a_block_of_many_chunks_stops_between_two(scene: np.ndarray) -> None:
    begun, asked = threading.Event(), threading.Event()

    def cancelled() -> bool:
        if begun.is_set():
            asked.set()
        return asked.is_set()

    class Waiting(Tiles):
        def read_chunk(self, level: int, row: int, column: int) -> np.ndarray:
            begun.set()
            # However fast the processor is, most chunks are still to be read.
            asked.wait(patience())
            return super().read_chunk(level, row, column)

    base = Waiting(scene[:512, :512], 2)
    source = PyramidSource(base, "f")
    with pytest.raises(Cancelled):
        # One block of 65 536 chunks.
        source.build(cancelled=cancelled, workers=1)
    assert len(base.reads) < 65_536
    assert built_share(source) == 0


def test_built_once_and_found_again(scene: np.ndarray) -> None:
    source = PyramidSource(Tiles(scene), "f")
    source.build()
    del source
    gc.collect()
    base = Tiles(scene)
    again = PyramidSource(base, "f")
    assert again.complete
    again.build()
    np.testing.assert_array_equal(read_level(again, 1), halve(scene)[0])
    assert base.reads == []
    assert built_share(PyramidSource(Tiles(scene), "another file")) == 0


@pytest.mark.parametrize("damage", ["missing", "short", "altered", "no metadata", "no map"])
def test_damage_is_found_and_repaired(scene: np.ndarray, damage: str) -> None:
    # Each has an entry of its own: folders of earlier tests come again, whose sources may be alive.
    source = PyramidSource(Tiles(scene), damage)
    source.build()
    path = cache_entries()[0].path
    del source
    gc.collect()
    chunk = path / "pixels" / "2" / "c.0.1.0"
    content = bytearray(chunk.read_bytes())
    if damage == "missing":
        chunk.unlink()
    elif damage == "short":
        chunk.write_bytes(content[:99])
    elif damage == "altered":
        content[500] ^= 1
        chunk.write_bytes(content)
    elif damage == "no metadata":
        (path / "pixels" / "2" / "zarr.json").write_text("{}")
    else:
        (path / "built.bin").write_bytes(b"\x07")
    again = PyramidSource(Tiles(scene), damage)
    again.build()
    np.testing.assert_array_equal(read_level(again, 2), halve(halve(scene)[0])[0])


def test_cache_removed_while_open_is_rebuilt_on_read(scene: np.ndarray) -> None:
    source = PyramidSource(Tiles(scene), "f")
    source.build()
    shutil.rmtree(cache_dir() / "pyramids")
    np.testing.assert_array_equal(source.read_chunk(2, 0, 0), halve(halve(scene)[0])[0][:128, :128])


def test_two_views_of_one_file_share_one_pyramid(scene: np.ndarray) -> None:
    one, two = PyramidSource(Tiles(scene), "f"), PyramidSource(Tiles(scene), "f")
    one.build()
    assert two.complete


def test_small_files_need_none() -> None:
    image = open_image(np.ones((90, 80, 1), np.uint8))
    image.build_pyramid()
    assert image.is_built(0) and image.pyramid is None and len(image.planned_levels) == 1
    assert cache_entries() == []


def test_levels_continue_those_of_the_file(scene: np.ndarray) -> None:
    base = Tiles(scene)
    smaller = Tiles(halve(scene)[0])
    base.levels = (*base.levels, *smaller.levels)
    own = base.read_chunk
    base.read_chunk = (  # type: ignore[method-assign]
        lambda level, row, column: (
            smaller.read_chunk(0, row, column) if level else own(level, row, column)
        )
    )
    source = PyramidSource(base, "f")
    source.build()
    assert base.reads == []
    np.testing.assert_array_equal(read_level(source, 2), halve(halve(scene)[0])[0])
    assert source.box_of((0, 1)) == (0, 1024, 1023, 1100)
