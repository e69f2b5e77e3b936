"""AVIF and GIF: the pixels of Pillow."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
from PIL import Image as Pillow, ImageOps, features

from napari_restore.errors import UnreadableImage
from napari_restore.images import open_image
from napari_restore.images.values.working_space import named_profile

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


deep = pytest.mark.skipif(not imagecodecs.AVIF.available, reason="this imagecodecs has no AVIF")


def encoded(values: np.ndarray, **options: int) -> bytes:
    """Encode with code points, which older imagecodecs cannot."""
    try:
        return bytes(imagecodecs.avif_encode(values, **options))
    except TypeError:
        pytest.skip("this imagecodecs writes no code points")


@avif
@deep
@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_10_and_12_bits_are_read(tmp_path: Path, bits: int, bands: int) -> None:
    top, path = 2**bits - 1, tmp_path / "a.avif"
    values = scene(4)[..., :bands].astype(np.uint16) * (top // 255) + 1
    content = imagecodecs.avif_encode(np.squeeze(values), level=100, bitspersample=bits)
    path.write_bytes(content)
    image = open_image(path)
    pixels = image.read((0, 0, image.height, image.width))
    stored = imagecodecs.avif_decode(content).reshape(40, 60, -1)
    if bands == 2:
        stored = stored[..., [0, 0, 0, 1]]
    elif bands == 1 and image.bands == 3:
        # As older Pillow shows grey.
        stored = stored.repeat(3, axis=2)
    assert image.dtype == np.uint16 and image.bands == stored.shape[2]
    np.testing.assert_array_equal(pixels, np.rint(stored * (65535 / top)))
    # Finer than the 256 steps of 8 bits.
    assert len(np.unique(pixels % 257)) > 1
    assert not any("bits" in note for note in image.notes)


@avif
@deep
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_bits_are_those_of_the_codec_where_no_property_says_them(tmp_path: Path, bits: int) -> None:
    values = scene().astype(np.uint16 if bits > 8 else np.uint8)
    content = imagecodecs.avif_encode(values, level=100, bitspersample=bits)
    assert b"pixi" in content
    (tmp_path / "a.avif").write_bytes(content.replace(b"pixi", b"free"))
    image = open_image(tmp_path / "a.avif")
    assert image.dtype == values.dtype
    assert not any("bits" in note for note in image.notes)


@avif
@deep
def test_bits_that_are_not_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, values = tmp_path / "a.avif", scene().astype(np.uint16) * 4
    path.write_bytes(imagecodecs.avif_encode(values, level=100, bitspersample=10))
    monkeypatch.setattr(imagecodecs, "AVIF", SimpleNamespace(available=False))
    image = open_image(path)
    assert image.dtype == np.uint8
    assert any("10 bits a value, of which 8 are read" in note for note in image.notes)


@avif
@deep
def test_an_avif_for_an_hdr_screen_says_so(tmp_path: Path) -> None:
    path, values = tmp_path / "a.avif", scene().astype(np.uint16) * 4
    options = {"level": 100, "bitspersample": 10, "primaries": 9}
    for transfer, is_hdr in ((16, True), (18, True), (13, False)):
        path.write_bytes(encoded(values, transfer=transfer, **options))
        assert any("HDR" in note for note in open_image(path).notes) == is_hdr


@avif
def test_grey_is_one_band(tmp_path: Path) -> None:
    Pillow.fromarray(scene()[..., 0]).save(tmp_path / "a.avif", quality=90)
    image = open_image(tmp_path / "a.avif")
    with Pillow.open(tmp_path / "a.avif") as photo:
        shown = np.asarray(photo)
    assert image.bands == (1 if shown.ndim == 2 else 3)
    np.testing.assert_array_equal(np.squeeze(image.read((0, 0, 40, 60))), shown)


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


@avif
@deep
def test_primaries_of_an_avif_without_a_profile_become_one(tmp_path: Path) -> None:
    """ITU-T H.273: primaries 12 and curve 13 are those of Display P3."""
    path, values = tmp_path / "a.avif", np.full((32, 32, 3), 128, np.uint8)
    path.write_bytes(encoded(values, primaries=12, transfer=13))
    assert open_image(path).profile.icc == named_profile("display-p3")
    path.write_bytes(encoded(values, primaries=1, transfer=13))
    assert open_image(path).profile.icc is None
