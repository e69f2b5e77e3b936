"""Row bands become tiles and levels; half a stream is never taken for a whole one."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_restore.errors import Cancelled, UnreadableImage
from napari_restore.images import Level, Source, cache_entries, chunk_grid, halve, open_image
from napari_restore.images.levels.making import StreamedSource


class Rows(Source):
    """An array that can only be read from the top, as a big PNG."""

    random_access = False

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels
        self.levels = (Level(*pixels.shape[:2], 1, pixels.shape[1]),)
        self.bands, self.dtype = pixels.shape[2], pixels.dtype
        self.bands_read: list[tuple[int, int]] = []

    def read_chunk(self, level: int, row: int, column: int) -> np.ndarray:
        raise AssertionError("random access")

    def read_valid_rows(self, y0: int, y1: int, pixels: Any) -> np.ndarray:
        assert self.bands_read[-1] == (y0, y1)
        np.testing.assert_array_equal(pixels, self.pixels[y0:y1])
        return (pixels != 0).any(axis=-1)

    def read_rows(self, y0: int, y1: int) -> np.ndarray:
        assert y0 == (self.bands_read[-1][1] if self.bands_read and y0 else 0)
        self.bands_read.append((y0, y1))
        return self.pixels[y0:y1].copy()


@pytest.fixture(autouse=True)
def small_bands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_levels: Callable[..., None]
) -> None:
    monkeypatch.setenv("NAPARI_RESTORE_CACHE", str(tmp_path))
    small_levels(smallest=100, chunk=64)


@pytest.fixture
def scene() -> np.ndarray:
    return np.random.default_rng(5).integers(1, 255, (701, 333, 3), dtype=np.uint8)


def read_level(source: Source, number: int) -> np.ndarray:
    level = source.levels[number]
    whole = np.empty((level.height, level.width, source.bands), source.dtype)
    for row, column in chunk_grid(level):
        chunk = source.read_chunk(number, row, column)
        y, x = row * level.chunk_height, column * level.chunk_width
        whole[y : y + chunk.shape[0], x : x + chunk.shape[1]] = chunk
    return whole


@pytest.mark.parametrize("height", [701, 640, 64, 1])
def test_all_levels_equal_repeated_halving(scene: np.ndarray, height: int) -> None:
    scene = scene[:height]
    base = Rows(scene)
    source = StreamedSource(base, "f")
    source.build()
    assert source.complete
    expected = scene
    for number in range(len(source.levels)):
        np.testing.assert_array_equal(read_level(source, number), expected)
        expected, _ = halve(expected)
    assert base.bands_read[-1][1] == height


def test_wide_files_are_read_in_lower_bands(
    scene: np.ndarray, small_levels: Callable[..., None]
) -> None:
    small_levels(band=16_000)
    base = Rows(scene)
    source = StreamedSource(base, "f")
    source.build()
    assert base.bands_read[0] == (0, 16)
    np.testing.assert_array_equal(read_level(source, 2), halve(halve(scene)[0])[0])


def test_validity_goes_through_all_levels(scene: np.ndarray) -> None:
    scene[100:333, :111] = 0
    base = Rows(scene)
    base.may_be_invalid = True
    source = StreamedSource(base, "f", nodata=0)
    source.build()
    expected, valid = halve(scene, (scene != 0).any(axis=-1), fill=0, nodata=0)
    np.testing.assert_array_equal(read_level(source, 1), expected)
    chunk = source.read_chunk(1, 1, 0)
    assert valid is not None
    flags = source.read_valid_chunk(1, 1, 0, chunk)
    rows = source.levels[1].chunk_height
    np.testing.assert_array_equal(flags, valid[rows : 2 * rows, :64])


def test_wide_files_with_holes_are_read_in_lower_bands_as_well(
    make_tiff: Callable[..., Path],
    streamed_above: Callable[[int], None],
    small_levels: Callable[..., None],
) -> None:
    streamed_above(50_000)
    small_levels(band=40_000)
    pixels = np.random.default_rng(1).random((200, 600, 1)).astype(np.float32)
    pixels[30:50, 100:300] = np.nan
    image = open_image(make_tiff(pixels))
    assert not image.source.random_access
    assert image.prepare().chunk == (16, 64)
    box = (0, 0, 200, 600)
    np.testing.assert_array_equal(image.read(box), pixels)
    np.testing.assert_array_equal(image.read_valid(box), np.isfinite(pixels[..., 0]))
    smaller, valid = halve(pixels, np.isfinite(pixels[..., 0]), fill=np.nan)
    np.testing.assert_array_equal(image.read((0, 0, 100, 300), 1), smaller)
    np.testing.assert_array_equal(image.read_valid((0, 0, 100, 300), 1), valid)


def test_bands_show_as_they_land(scene: np.ndarray) -> None:
    source = StreamedSource(Rows(scene), "f")
    assert not source.read_chunk(0, 0, 0).any()
    seen = []

    def look(box: tuple[int, int, int, int], done: int, total: int) -> None:
        assert source.is_built(0, box[0] // 64, 0)
        assert box[2] == done and box[3] == 333 and total == 701
        seen.append(source.read_chunk(0, box[0] // 64, 0))

    source.build(look)
    np.testing.assert_array_equal(np.concatenate(seen), scene[:, :64])


def test_every_band_lands_in_the_coarse_levels_too(scene: np.ndarray) -> None:
    source = StreamedSource(Rows(scene), "f")
    coarse: list[np.ndarray] = []
    source.build(lambda *event: coarse.append(read_level(source, 2)))
    rows = [int(pixels.any(axis=(1, 2)).sum()) for pixels in coarse]
    assert rows == [16 * number for number in range(1, 11)] + [176]


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float32"])
def test_the_cache_is_a_zarr_that_others_can_read(scene: np.ndarray, dtype: str) -> None:
    scene = scene.astype(dtype)
    source = StreamedSource(Rows(scene), "f")
    source.build()
    path = cache_entries()[0].path / "pixels"
    np.testing.assert_array_equal(zarr.open_array(path / "0", mode="r")[...], scene)
    np.testing.assert_array_equal(zarr.open_array(path / "1", mode="r")[...], halve(scene)[0])
    np.testing.assert_array_equal(read_level(source, 0), scene)


@pytest.mark.slow
def test_streamed_once(scene: np.ndarray) -> None:
    source = StreamedSource(Rows(scene), "f")
    source.build()
    del source
    gc.collect()
    base = Rows(scene)
    again = StreamedSource(base, "f")
    again.build()
    np.testing.assert_array_equal(read_level(again, 0), scene)
    assert base.bands_read == []


def test_cancelled_stream_is_not_whole(scene: np.ndarray) -> None:
    source = StreamedSource(Rows(scene), "f")
    done = []
    with pytest.raises(Cancelled):
        source.build(lambda *event: done.append(event), lambda: len(done) >= 3)
    assert not source.complete
    assert not source.is_built(0, 0, 0)
    assert not cache_entries()[0].complete
    source.build()
    np.testing.assert_array_equal(read_level(source, 1), halve(scene)[0])


def test_truncated_file_is_an_error_and_not_whole(scene: np.ndarray) -> None:
    base = Rows(scene)
    base.levels = (Level(800, 333, 1, 333),)
    source = StreamedSource(base, "f")
    with pytest.raises(UnreadableImage, match="row 701 of 800"):
        source.build()
    assert not source.complete


@pytest.mark.parametrize("damage", ["missing", "short", "altered"])
def test_damage_is_found_and_repaired(scene: np.ndarray, damage: str) -> None:
    source = StreamedSource(Rows(scene), "f")
    source.build()
    chunk = cache_entries()[0].path / "pixels" / "1" / "c.2.1.0"
    del source
    gc.collect()
    content = bytearray(chunk.read_bytes())
    if damage == "missing":
        chunk.unlink()
    elif damage == "short":
        chunk.write_bytes(content[:99])
    else:
        content[500] ^= 1
        chunk.write_bytes(content)
    again = StreamedSource(Rows(scene), "f")
    # A changed byte shows only when it is read; what lacks bytes shows at once.
    assert again.complete == (damage == "altered")
    again.build()
    np.testing.assert_array_equal(read_level(again, 1), halve(scene)[0])
    assert again.complete


def test_a_crash_midway_is_not_whole(scene: np.ndarray) -> None:
    class Crash(BaseException):
        pass

    base = Rows(scene)
    source = StreamedSource(base, "f")

    def crash(box: tuple[int, int, int, int], done: int, total: int) -> None:
        raise Crash

    with pytest.raises(Crash):
        source.build(crash)
    del source
    gc.collect()
    assert not StreamedSource(Rows(scene), "f").complete
