"""What writing takes is found by the writer itself, on a few blocks of the image."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import napari_restore as nr
from napari_restore.images import ExportOptions, sample_of, writing_cost
from napari_restore.images.export import _trial
from napari_restore.images.export._trial import SIDE
from napari_restore.images.files import RemotePath


def write(path: Path, shape: tuple[int, int, int] = (700, 800, 3), **profile: Any) -> Path:
    dtype = np.dtype(profile.pop("dtype", "uint8"))
    height, width, count = shape
    y, x = np.indices((height, width)) % PERIOD
    values = np.stack([y, x, *[(y * x) % PERIOD] * (count - 2)], axis=2).astype(dtype)
    size = {"height": height, "width": width, "count": count, "dtype": dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **size, **profile) as file:
        file.write(values.transpose(2, 0, 1))
    return path


PERIOD = 199
TILED = {"tiled": True, "blockxsize": 256, "blockysize": 256}


@pytest.mark.parametrize(
    "profile", [TILED, {**TILED, "dtype": "float32"}, {"blockysize": 16}, {"compress": "deflate"}]
)
def test_a_sample_has_pixels_of_the_image(tmp_path, profile):
    image = nr.open_image(write(tmp_path / "a.tif", **profile))
    sample = sample_of(image)
    assert sample.pixels is not None
    assert sample.pixels.shape == (SIDE, SIDE, 3) and sample.pixels.dtype == image.dtype
    assert sample.decode_seconds is not None
    # Neighbours are those that the file has.
    y, x, product = sample.pixels[:, :100].astype(int).transpose(2, 0, 1)
    assert (np.diff(x, axis=1) % PERIOD == 1).all() and (np.diff(y, axis=1) == 0).all()
    assert (product == y * x % PERIOD).all()
    assert sample_of(image) is sample


def test_nothing_is_fetched_from_a_server_or_decoded_as_a_whole(tmp_path, monkeypatch):
    image = nr.open_image(write(tmp_path / "a.tif", **TILED))
    monkeypatch.setattr(type(image.source), "read_chunk", lambda *_: pytest.fail("was read"))
    monkeypatch.setattr(image.reader, "files", lambda: (RemotePath.of("https://x.org/a.tif"),))
    assert sample_of(image).decode_seconds is None
    assert sample_of(image).pixels is None
    assert writing_cost(image, Path("o.tif"), ExportOptions()) is not None
    monkeypatch.undo()
    pixels = nr.open_image(np.ones((700, 800, 3), np.uint8))
    assert sample_of(pixels).decode_seconds is None
    large = nr.open_image(write(tmp_path / "b.tif", **TILED))
    monkeypatch.setattr(_trial, "MOST_CHUNK_BYTES", 1000)
    assert sample_of(large).decode_seconds is None


def test_a_file_that_cannot_be_read_is_left_to_the_run(tmp_path, monkeypatch):
    image = nr.open_image(write(tmp_path / "a.tif", **TILED))

    def broken(*_: object) -> None:
        raise OSError("no such block")

    monkeypatch.setattr(type(image.source), "read_chunk", broken)
    assert sample_of(image).decode_seconds is None


@pytest.mark.parametrize(
    ("suffix", "options", "profile"),
    [
        (".tif", {}, {}),
        (".tif", {"cog": True, "compress": "zstd"}, {"nodata": 7}),
        (".tif", {"compress": "none", "overviews": False}, {"dtype": "float32"}),
        (".tif", {"threads": 1}, {"dtype": "uint16", "nodata": 0}),
        (".png", {}, {}),
        (".jpg", {"quality": 80}, {}),
        (".webp", {}, {}),
    ],
)
def test_writers_of_all_formats_are_tried_and_nothing_stays(
    tmp_path, monkeypatch, suffix, options, profile
):
    image = nr.open_image(write(tmp_path / "a.tif", **TILED, **profile))
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    cost = writing_cost(image, Path(f"o{suffix}"), ExportOptions(**options))
    assert cost is not None and cost.total >= 0 and cost.serial >= 0
    assert not list(folder.iterdir())


def test_what_cannot_be_tried_has_no_cost(tmp_path, monkeypatch):
    image = nr.open_image(write(tmp_path / "a.tif", **TILED))
    assert writing_cost(image, Path("o.zarr"), ExportOptions()) is None
    # JPEG has no such values: the export says so.
    deep = nr.open_image(write(tmp_path / "b.tif", dtype="float32", **TILED))
    assert writing_cost(deep, Path("o.jpg"), ExportOptions()) is None
    flat = nr.open_image(write(tmp_path / "c.tif", (100, 800, 3)))
    assert writing_cost(flat, Path("o.tif"), ExportOptions()) is None
    many = nr.open_image(write(tmp_path / "d.tif", (700, 800, 24), **TILED))
    assert writing_cost(many, Path("o.tif"), ExportOptions()) is None
    assert sample_of(many).pixels is None and sample_of(many).decode_seconds is not None
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert writing_cost(image, Path("o.tif"), ExportOptions()) is None


def test_the_cost_is_of_the_rows_that_the_larger_file_has_more(tmp_path, monkeypatch):
    image = nr.open_image(write(tmp_path / "a.tif", (1024, 1024, 3), **TILED))
    clock = [0.0, 0.0]

    def slow(job: Any, path: Path) -> None:
        # A second for the file, and one for each 128 rows, half of it on this thread.
        clock[0] += 1 + job.height / 128
        clock[1] += 1 + job.height / 256

    monkeypatch.setattr(_trial._geotiff, "write", slow)
    monkeypatch.setattr(_trial.time, "process_time", lambda: clock[0])
    monkeypatch.setattr(_trial.time, "thread_time", lambda: clock[1])
    cost = writing_cost(image, Path("o.tif"), ExportOptions())
    assert cost is not None
    assert cost.total * 128 * 1024 == pytest.approx(1.0)
    assert cost.serial * 128 * 1024 == pytest.approx(0.5)
