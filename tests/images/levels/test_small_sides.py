"""Levels of images of all small sides: half of an odd side is rounded up, and its last pixel counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image as Picture

from napari_restore.images import halve, level_sizes, open_image
from napari_restore.images.levels import making, reduce

SIDES = range(1, 10)
Array = npt.NDArray[Any]


def halved(pixels: Array) -> Array:
    """Means of 2 × 2 pixels, those beyond the end left out; a half is rounded up."""
    height, width, _ = pixels.shape
    rows = [pixels[y : y + 2] for y in range(0, height, 2)]
    means = [[row[:, x : x + 2].mean(axis=(0, 1)) for x in range(0, width, 2)] for row in rows]
    return np.floor(np.array(means) + 0.5)


def picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(height * 10 + width).integers(0, 255, (height, width, 3), np.uint8)


@pytest.fixture
def to_the_last_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels down to one pixel, as a large image has them down to 512."""
    monkeypatch.setattr(reduce, "SMALLEST", 1)
    monkeypatch.setattr(making, "ENOUGH", 1)


@pytest.mark.parametrize("height", SIDES)
def test_halves_are_rounded_up(height: int, to_the_last_pixel: None) -> None:
    for width in SIDES:
        pixels = picture(height, width)
        assert np.array_equal(halve(pixels)[0], halved(pixels))
        sizes = level_sizes(height, width)
        assert sizes == [
            (math.ceil(height / 2**n), math.ceil(width / 2**n)) for n in range(len(sizes))
        ]
        assert sizes[-1] == (1, 1) and len(sizes) == 1 + math.ceil(math.log2(max(height, width)))


def no_file(_: Path, pixels: Array) -> Any:
    return pixels


def save_strips(path: Path, pixels: Array) -> Any:
    tifffile.imwrite(path.with_suffix(".tif"), pixels, rowsperstrip=2, photometric="rgb")
    return path.with_suffix(".tif")


def save_tiles(path: Path, pixels: Array) -> Any:
    tifffile.imwrite(path.with_suffix(".tif"), pixels, tile=(16, 16), photometric="rgb")
    return path.with_suffix(".tif")


def save_png(path: Path, pixels: Array) -> Any:
    Picture.fromarray(pixels).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


@pytest.mark.parametrize(
    "saved", [no_file, save_strips, save_tiles, save_png], ids=lambda save: save.__name__
)
def test_readers_make_all_pixels_of_all_levels(
    saved: Callable[[Path, Array], Any], tmp_path: Path, to_the_last_pixel: None
) -> None:
    for height in SIDES:
        width = height * 4 % 9 + 1
        expected: Array = picture(height, width)
        image = open_image(saved(tmp_path / f"{height}", expected.astype(np.uint8)))
        assert len(image.level_shapes) == len(level_sizes(height, width))
        for number, shape in enumerate(image.level_shapes):
            view = image.level_view(number) if number else image
            assert tuple(shape) == expected.shape[:2] == view.shape[:2]
            assert np.array_equal(view.read((0, 0, *shape)), expected)
            expected = halved(expected)
