"""Camera RAW: a real DNG, made here, developed to what was put into it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import napari_restore as nr
from napari_restore.errors import UnreadableImage
from napari_restore.images import open_image

pytest.importorskip("rawpy")

WriteDng = Callable[..., None]


@pytest.fixture
def linear() -> np.ndarray:
    """(240, 320, 3) linear sRGB that grows to the right and downwards."""
    y, x = np.mgrid[:240, :320]
    return np.dstack([0.2 + 0.5 * x / 320, np.full(x.shape, 0.4), 0.1 + 0.6 * y / 240])


def as_linear(pixels: np.ndarray) -> np.ndarray:
    """16-bit sRGB as linear light in 0 … 1 (IEC 61966-2-1)."""
    values = pixels / 65535
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


UPRIGHT = {1: 0, 3: 2, 6: 3, 8: 1}
"""EXIF orientation → quarter turns to the left that set the picture upright."""


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_raw_is_developed_to_the_light_it_measured(
    tmp_path: Path, write_dng: WriteDng, linear: np.ndarray, orientation: int
) -> None:
    path = tmp_path / "photo ü.dng"
    write_dng(path, linear, orientation)
    image = open_image(path)
    expected = np.rot90(linear, UPRIGHT[orientation])
    assert image.shape == expected.shape
    assert image.dtype == np.uint16
    assert image.roles == ("red", "green", "blue")
    assert image.profile.is_photo
    assert image.profile.tags["RAW"]["white_balance"] == "as shot 2 1 1.6 0"
    pixels = as_linear(image.read((0, 0, image.height, image.width)))
    # Away from the border, where demosaicking guesses.
    np.testing.assert_allclose(pixels[4:-4, 4:-4], expected[4:-4, 4:-4], atol=2e-3)


def test_a_raw_photo_is_restored_to_a_16_bit_file(
    tmp_path: Path, write_dng: WriteDng, linear: np.ndarray
) -> None:
    path, out = tmp_path / "photo.dng", tmp_path / "photo.tif"
    write_dng(path, linear)
    nr.restore(path, "identity").save(out)
    written = open_image(out)
    np.testing.assert_array_equal(
        written.read((0, 0, 240, 320)), open_image(path).read((0, 0, 240, 320))
    )
    assert written.dtype == np.uint16


def test_a_raw_photo_cut_off_is_one_sentence(
    tmp_path: Path, write_dng: WriteDng, linear: np.ndarray
) -> None:
    path = tmp_path / "photo.dng"
    write_dng(path, linear)
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(UnreadableImage, match="cannot be developed"):
        open_image(path).read((0, 0, 240, 320))


def test_what_is_no_raw_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photo.dng"
    path.write_bytes(b"II*\0" + bytes(5000))
    with pytest.raises(UnreadableImage, match="cannot be developed"):
        open_image(path)


def test_without_rawpy_the_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)
    path = tmp_path / "photo.arw"
    path.write_bytes(b"II*\0 raw")
    with pytest.raises(UnreadableImage, match="not installed"):
        open_image(path)
