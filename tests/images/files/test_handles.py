"""A dataset that stays open never shows a file that is no longer there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import rasterio

from napari_restore.images import open_image
from napari_restore.images.files.handles import DatasetKey, handles

SIZE = (96, 128)
BOX = (0, 0, *SIZE)


def write(path: Path, value: int, seconds: int) -> np.ndarray:
    """A tiled file of noise around `value`, last changed `seconds` after 1970-01-02."""
    noise = np.random.default_rng(value).integers(0, 9, (3, *SIZE), dtype=np.uint8)
    settings = {"driver": "GTiff", "tiled": True, "blockxsize": 32, "blockysize": 32}
    with rasterio.open(
        path, "w", count=3, height=SIZE[0], width=SIZE[1], dtype="uint8", **settings
    ) as dataset:
        dataset.write(noise + np.uint8(value))
    # File systems tell times only so finely; tests are faster.
    os.utime(path, (86400 + seconds, 86400 + seconds))
    return np.moveaxis(noise + np.uint8(value), 0, 2)


def test_a_file_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "größe.tif"
    first = write(path, 10, 1)
    old = open_image(path)
    assert np.array_equal(old.read(BOX), first)
    second = write(path, 100, 2)
    # The old image still lives: neither its dataset nor its chunks may serve the new one.
    assert np.array_equal(open_image(path).read(BOX), second)
    assert np.array_equal(old.read(BOX), first)


def test_a_file_put_in_the_place_of_another_is_read_anew(tmp_path: Path) -> None:
    path, other = tmp_path / "a.tif", tmp_path / "b.tif"
    write(path, 10, 1)
    assert open_image(path).read(BOX).max() < 20
    second = write(other, 100, 1)
    assert other.stat().st_size == path.stat().st_size
    os.replace(other, path)
    assert np.array_equal(open_image(path).read(BOX), second)


def test_a_part_of_a_vrt_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    part = tmp_path / "part.tif"
    write(part, 10, 1)
    vrt = tmp_path / "all.vrt"
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">part.tif</SourceFilename>'
        f"<SourceBand>{n}</SourceBand></SimpleSource></VRTRasterBand>"
        for n in (1, 2, 3)
    )
    vrt.write_text(
        f'<VRTDataset rasterXSize="{SIZE[1]}" rasterYSize="{SIZE[0]}">{bands}</VRTDataset>'
    )
    assert open_image(vrt).read(BOX).max() < 20
    second = write(part, 100, 2)
    assert np.array_equal(open_image(vrt).read(BOX), second)


def test_an_unchanged_file_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write(path, 10, 1)
    with handles.lend(DatasetKey(str(path))) as dataset:
        first = dataset
    with handles.lend(DatasetKey(str(path))) as dataset:
        assert dataset is first
    handles.close(path)
    assert first.closed
