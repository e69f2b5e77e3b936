"""JPEG: pixels equal those of Pillow and imagecodecs, which use libjpeg-turbo, to the bit."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image as Pillow

from napari_restore.errors import UnreadableImage
from napari_restore.images import halve, open_image
from napari_restore.images.files.jpeg import frame_of
from napari_restore.images.readers import _jpeg

Noise = Callable[..., np.ndarray]


def picture(height: int = 131, width: int = 213) -> np.ndarray:
    """Colours with edges, where ways to interpolate chroma differ."""
    y, x = np.mgrid[:height, :width]
    stripes = (x // 7 + y // 5) % 3
    return np.stack([x % 256, stripes * 127, (255 * (stripes == 1)) ^ (y % 64)], 2).astype(np.uint8)


def pixels_of(path: Path) -> np.ndarray:
    image = open_image(path)
    return image.read((0, 0, image.height, image.width))


def pillow(path: Path) -> np.ndarray:
    with Pillow.open(path) as photo:
        mode = "L" if photo.mode == "L" else "RGB"
        values = np.asarray(photo if photo.mode == mode else photo.convert(mode))
    return values.reshape(*values.shape[:2], -1)


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "4:4:4": ("RGB", {"subsampling": 0}),
    "4:2:2": ("RGB", {"subsampling": 1}),
    "4:2:0": ("RGB", {"subsampling": 2}),
    "progressive": ("RGB", {"progressive": True}),
    "restart markers": ("RGB", {"restart_marker_blocks": 3}),
    "RGB inside": ("RGB", {"keep_rgb": True, "subsampling": 0}),
    "grey": ("L", {}),
    "grey, progressive": ("L", {"progressive": True}),
    "CMYK": ("CMYK", {}),
    "MPO": ("RGB", {"format": "MPO", "save_all": True}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", [False, True])
def test_pixels_are_those_of_libjpeg_turbo(
    tmp_path: Path,
    kind: str,
    streamed: bool,
    monkeypatch: pytest.MonkeyPatch,
    streamed_above: Callable[[int], None],
) -> None:
    if streamed:
        streamed_above(5000)
        monkeypatch.setattr(_jpeg, "READ_BYTES", 700)
    mode, options = KINDS[kind]
    path = tmp_path / "photo.jpg"
    Pillow.fromarray(picture()).convert(mode).save(path, **{"format": "JPEG", **options})
    assert open_image(path).source.random_access is not streamed
    np.testing.assert_array_equal(pixels_of(path), pillow(path))


@pytest.mark.parametrize("sampling", ["411", "440", "422", "420"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 17), (16, 8), (200, 3)])
def test_pixels_of_every_sampling_and_size(
    tmp_path: Path, sampling: str, size: tuple[int, int]
) -> None:
    path = tmp_path / "photo.jpg"
    coded = imagecodecs.jpeg8_encode(picture(*size), level=80, subsampling=sampling)
    path.write_bytes(coded)
    np.testing.assert_array_equal(pixels_of(path), imagecodecs.jpeg8_decode(coded))


@pytest.mark.parametrize("stored", ["CMYK", "YCCK"])
@pytest.mark.parametrize("sampling", ["444", "420"])
def test_inks_are_converted_as_pillow_does(tmp_path: Path, stored: str, sampling: str) -> None:
    path = tmp_path / "photo.jpg"
    inks = np.asarray(Pillow.fromarray(picture()).convert("CMYK"))
    options = {"colorspace": "CMYK", "outcolorspace": stored, "subsampling": sampling}
    path.write_bytes(imagecodecs.jpeg8_encode(255 - inks, level=90, **options))
    np.testing.assert_array_equal(pixels_of(path), pillow(path))
    assert "CMYK was converted to RGB." in open_image(path).notes


@pytest.mark.parametrize("layout", [{"tile": (64, 48)}, {"rowsperstrip": 16}, {}])
def test_jpeg_in_tiff_is_that_of_libjpeg_turbo(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = tmp_path / "photo.tif"
    coding = {"photometric": "ycbcr", "subsampling": (2, 2), "compression": "jpeg"}
    tifffile.imwrite(path, picture(), metadata=None, **coding, **layout)
    image = open_image(path)
    np.testing.assert_array_equal(pixels_of(path), pillow(path))
    np.testing.assert_array_equal(image.read((10, 20, 90, 130)), pillow(path)[10:90, 20:130])


@pytest.mark.parametrize("name", ["scene.tif", "scene.jpg"])
def test_maps_keep_the_values_of_gdal(tmp_path: Path, name: str) -> None:
    path, pixels = tmp_path / name, picture().transpose(2, 0, 1)
    grid = {"height": 131, "width": 213, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 4e5, 0, -10, 5e6)}
    if name.endswith("tif"):
        coding = {"compress": "jpeg", "photometric": "ycbcr"}
        with rasterio.open(path, "w", driver="GTiff", **grid, **place, **coding) as new:
            new.write(pixels)
    else:
        Pillow.fromarray(picture()).save(path)
        path.with_suffix(".jgw").write_text("10\n0\n0\n-10\n400005\n4999995\n")
    with rasterio.open(path) as dataset:
        expected = dataset.read().transpose(1, 2, 0)
    np.testing.assert_array_equal(pixels_of(path), expected)
    assert open_image(path).georeference is not None


def test_pixels_decoded_by_gdal_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    values = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Pillow.fromarray(values).save(path, progressive=True)
    assert _jpeg.BY_GDAL not in open_image(path).notes
    monkeypatch.setattr(_jpeg, "LARGEST_WHOLE", 1000)
    assert _jpeg.BY_GDAL in open_image(path).notes
    Pillow.fromarray(values[..., 0]).save(path, progressive=True)
    assert _jpeg.BY_GDAL not in open_image(path).notes


def test_coarse_levels_are_means_of_the_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Pillow.fromarray(picture(900, 1200)).save(path)
    image, expected = open_image(path), pillow(path)
    for number, (height, width) in enumerate(image.level_shapes):
        found = image.read((0, 0, height, width), number)
        np.testing.assert_array_equal(found, expected)
        expected, _ = halve(expected)
    assert image.level_shapes == ((900, 1200), (450, 600), (225, 300))


def test_threads_read_a_photo_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Pillow.fromarray(picture(1500, 1400)).save(path)
    image, expected = open_image(path), pillow(path)
    found: dict[int, np.ndarray] = {}

    def read(top: int) -> None:
        found[top] = image.read((top, 0, top + 100, 1400))

    threads = [threading.Thread(target=read, args=(top,)) for top in (1400, 0, 700, 200, 1300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for top, rows in found.items():
        np.testing.assert_array_equal(rows, expected[top : top + 100])


def test_rows_of_a_large_photo_take_no_memory_once_read(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Pillow.fromarray(picture(2000, 1000)).save(path)
    frame = frame_of(path)
    assert frame is not None
    rows = _jpeg._CodedRows(path, frame)
    given_back: list[int] = []
    rows._give_back = lambda part: given_back.append(part.stop - part.start)  # type: ignore[method-assign]
    ahead = []
    for end in range(100, 2001, 100):
        rows.read(end)
        ahead.append(rows._decoded - end)
    rows.close()
    assert sum(given_back) == 2000
    assert max(ahead) < 500


@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_pixels_are_one_sentence(tmp_path: Path, progressive: bool) -> None:
    path = tmp_path / "photo.jpg"
    Pillow.fromarray(picture()).save(path, progressive=progressive)
    content = path.read_bytes()
    # The end is there, most of what comes before is not.
    path.write_bytes(content[: len(content) // 3] + b"\xff\xd9")
    try:
        pixels_of(path)
    except UnreadableImage as error:
        assert "photo.jpg cannot be read" in error.message


def test_headers_say_how_pixels_are_coded(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    # A restart interval stands before the frame in files of cameras.
    Pillow.fromarray(picture()).save(path, restart_marker_blocks=2)
    content = path.read_bytes()
    start = content.index(b"\xff\xdd")
    interval = content[start : start + 6]
    moved = content[:2] + interval + content[2:start] + content[start + 6 :]
    path.write_bytes(moved)
    frame = frame_of(path)
    assert frame is not None and frame[1:] == (8, 131, 213, 3, True)
    Pillow.fromarray(picture()).save(path, progressive=True)
    frame = frame_of(path)
    assert frame is not None and not frame.in_rows
    path.write_bytes(struct.pack(">HHH", 0xFFD8, 0xFFE0, 2))
    assert frame_of(path) is None
