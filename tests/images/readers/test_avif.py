"""AVIF and GIF: the pixels of Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps, features

from napari_restore.errors import UnreadableImage
from napari_restore.images import open_image

avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")


def scene(bands: int = 3) -> np.ndarray:
    y, x = np.mgrid[:40, :60]
    return np.stack([x * 4, y * 6, x + y, 255 - x], axis=2)[..., :bands].astype(np.uint8)


@avif
@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("orientation", [1, 6])
def test_avif_is_what_pillow_shows(tmp_path: Path, bands: int, orientation: int) -> None:
    path, exif = tmp_path / "a.avif", Pillow.Exif()
    exif[0x0112], exif[0x0110] = orientation, "One"
    Pillow.fromarray(scene(bands)).save(path, exif=exif, quality=80)
    image = open_image(path)
    with Pillow.open(path) as photo:
        shown = np.asarray(ImageOps.exif_transpose(photo))
    np.testing.assert_array_equal(image.read((0, 0, image.height, image.width)), shown)
    assert image.roles[:3] == ("red", "green", "blue") and image.bands == bands
    assert image.profile.exif is not None and b"One" in image.profile.exif


@avif
def test_an_avif_cut_off_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    Pillow.fromarray(scene()).save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnreadableImage, match=r"a\.avif cannot be read"):
        image = open_image(path)
        image.read((0, 0, image.height, image.width))


def test_a_gif_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    Pillow.fromarray(scene()).save(path, save_all=True, append_images=[Pillow.fromarray(scene())])
    image = open_image(path)
    with Pillow.open(path) as photo:
        shown = np.asarray(photo.convert("RGB"))
    np.testing.assert_array_equal(image.read((0, 0, 40, 60))[..., :3], shown)
    assert any("256 colours" in note for note in image.notes)
