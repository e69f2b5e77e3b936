"""Camera RAW: a real DNG, made here, developed to what was put into it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import napari_restore as nr
from napari_restore.errors import UnreadableImage
from napari_restore.images import open_image

pytest.importorskip("rawpy")

WHITE = 16383
NEUTRAL = np.array([0.5, 1.0, 0.625])
"""What the camera measures of a grey: white balance 2, 1, 1.6."""
TO_CAMERA = np.array(
    [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
)
"""XYZ to linear sRGB (IEC 61966-2-1): the camera sees as a screen shows."""


def write_dng(path: Path, linear: np.ndarray, orientation: int = 1) -> None:
    """A Bayer DNG (RGGB, 14 bits) of linear sRGB (H, W, 3) in 0 … 1."""
    import tifffile

    seen = np.rint(linear * NEUTRAL * WHITE).astype(np.uint16)
    mosaic = seen[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = seen[0::2, 0::2, 0], seen[1::2, 1::2, 2]

    def fractions(values: np.ndarray) -> tuple[int, ...]:
        return tuple(int(n) for v in values.ravel() for n in (round(v * 10_000), 10_000))

    tags = [
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),  # DNGVersion
        (33421, "H", 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),  # CFAPattern
        (50714, "I", 1, 0, True),  # BlackLevel
        (50717, "I", 1, WHITE, True),  # WhiteLevel
        (50721, "2i", 9, fractions(TO_CAMERA * NEUTRAL[:, None]), True),  # ColorMatrix1
        (50728, "2I", 3, fractions(NEUTRAL), True),  # AsShotNeutral
        (50778, "H", 1, 21, True),  # CalibrationIlluminant1: D65
        (274, "H", 1, orientation, True),
    ]
    tifffile.imwrite(path, mosaic, photometric=32803, extratags=tags, metadata=None, software=False)


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
    tmp_path: Path, linear: np.ndarray, orientation: int
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


def test_a_raw_photo_is_restored_to_a_16_bit_file(tmp_path: Path, linear: np.ndarray) -> None:
    path, out = tmp_path / "photo.dng", tmp_path / "photo.tif"
    write_dng(path, linear)
    nr.restore(path, "identity").save(out)
    written = open_image(out)
    np.testing.assert_array_equal(
        written.read((0, 0, 240, 320)), open_image(path).read((0, 0, 240, 320))
    )
    assert written.dtype == np.uint16


def test_a_raw_photo_cut_off_is_one_sentence(tmp_path: Path, linear: np.ndarray) -> None:
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
