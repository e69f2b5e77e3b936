"""Photos: upright, with what the camera wrote; Radiance."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

import napari_restore as nr
from napari_restore import api
from napari_restore.errors import UnreadableImage
from napari_restore.images import open_image, upright_exif
from napari_restore.images.files.exif import orientation_of

Noise = Callable[..., np.ndarray]


def exif_block(orientation: int) -> bytes:
    from PIL.Image import Exif

    exif = Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    exif.get_ifd(0x8825)[1] = "N"
    return bytes(exif.tobytes())


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Pillow's own turning."""
    from PIL import Image as Pillow, ImageOps

    buffer = io.BytesIO()
    Pillow.fromarray(stored).save(buffer, "PNG", exif=exif_block(orientation))
    return np.asarray(ImageOps.exif_transpose(Pillow.open(buffer)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, noise: Noise, orientation: int) -> None:
    from PIL import Image as Pillow

    stored = noise(30, 50, 3, np.uint8)
    path = tmp_path / "photo.png"
    Pillow.fromarray(stored).save(path, exif=exif_block(orientation))
    image = open_image(path)
    expected = upright(stored, orientation)
    assert image.shape == expected.shape
    assert image.profile.orientation == orientation
    np.testing.assert_array_equal(image.read((0, 0, *expected.shape[:2])), expected)
    np.testing.assert_array_equal(image.read((3, 4, 17, 29)), expected[3:17, 4:29])


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_big_turned_photos_are_streamed_upright(
    tmp_path: Path, noise: Noise, orientation: int, streamed_above: Callable[[int], None]
) -> None:
    from PIL import Image as Pillow

    streamed_above(50_000)
    stored = noise(520, 300, 4, np.uint8)
    path = tmp_path / "photo.png"
    Pillow.fromarray(stored).save(path, exif=exif_block(orientation))
    image = open_image(path)
    assert not image.source.random_access
    expected = upright(stored, orientation)
    box = (0, 0, *expected.shape[:2])
    np.testing.assert_array_equal(image.read(box), expected)
    np.testing.assert_array_equal(image.read_valid(box), expected[..., 3] != 0)


def test_tiff_orientation_is_applied_unless_the_file_has_a_place(
    tmp_path: Path, noise: Noise
) -> None:
    import tifffile

    stored = noise(20, 30, 3, np.uint8)
    path = tmp_path / "a.tif"
    tag = (274, "H", 1, 6, True)
    tifffile.imwrite(path, stored, photometric="rgb", extratags=[tag])
    image = open_image(path)
    assert image.shape == (30, 20, 3)
    np.testing.assert_array_equal(image.read((0, 0, 30, 20)), upright(stored, 6))
    path.with_suffix(".tfw").write_text("10\n0\n0\n-10\n400000\n5000000\n")
    placed = open_image(path)
    assert placed.shape == (20, 30, 3)
    assert any("orientation" in note for note in placed.notes)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_profile_and_exif_are_carried(tmp_path: Path, noise: Noise, suffix: str) -> None:
    from PIL import Image as Pillow, ImageCms

    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / f"photo.{suffix}"
    Pillow.fromarray(noise(20, 20, 3, np.uint8)).save(path, exif=exif_block(1), icc_profile=icc)
    profile = open_image(path).profile
    assert profile.icc == icc
    assert profile.is_display
    assert profile.exif is not None
    parsed = Pillow.Exif()
    parsed.load(profile.exif)
    assert parsed[0x010F] == "Maker"
    assert parsed.get_ifd(0x8825)[1] == "N"


def test_xmp_is_carried(tmp_path: Path, noise: Noise) -> None:
    from PIL import Image as Pillow

    packet = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>hello</x:xmpmeta>"
    path = tmp_path / "photo.jpg"
    Pillow.fromarray(noise(20, 20, 3, np.uint8)).save(path, xmp=packet)
    assert open_image(path).profile.xmp == packet


def test_upright_copy_keeps_the_place_and_resets_the_orientation() -> None:
    from PIL.Image import Exif

    turned = upright_exif(exif_block(6))
    assert orientation_of(turned) == 1
    parsed = Exif()
    parsed.load(turned)
    assert parsed[0x010F] == "Maker"
    assert parsed.get_ifd(0x8825)[1] == "N"
    assert upright_exif(None) is None
    assert orientation_of(b"Exif\0\0garbage") == 1


def test_a_large_radiance_picture_is_decoded_once(
    tmp_path: Path, streamed_above: Callable[[int], None]
) -> None:
    values = np.random.default_rng(1).uniform(0.5, 8, (700, 600, 3)).astype(np.float32)
    head = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 700 +X 600\n"
    path = tmp_path / "large.hdr"
    path.write_bytes(head + imagecodecs.rgbe_encode(values, header=False, rle=False))
    small = open_image(path)
    expected = small.read((0, 0, 700, 600))
    np.testing.assert_allclose(expected, values, rtol=0.02, atol=0.07)
    streamed_above(1 << 20)
    image = open_image(path)
    assert not image.reader.random_access and image.block_bytes == values.nbytes
    assert np.array_equal(image.read((0, 0, 700, 600)), expected)
    path.unlink()
    assert np.array_equal(image.read((500, 20, 690, 600)), expected[500:690, 20:])
    assert image.block_bytes == 0


def test_radiance(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "brackets" / "hdr_maps" / "Bottles_Small.hdr"
    image = open_image(path)
    assert image.dtype == np.float32
    assert image.roles == ("red", "green", "blue")
    assert image.read((0, 0, image.height, image.width)).max() > 1
    cut = tmp_path / "cut.hdr"
    cut.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UnreadableImage):
        open_image(cut)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_that_lacks_its_last_marker_alone_is_whole(tmp_path: Path, options: Any) -> None:
    path, whole = tmp_path / "a.jpg", tmp_path / "whole.jpg"
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(whole, quality=95, **options)
    content = whole.read_bytes()
    assert content.endswith(b"\xff\xd9")
    path.write_bytes(content[:-2])
    image = nr.open_image(path)
    assert "Its last marker is missing; all of its pixels are there." in image.notes
    box = (0, 0, 70, 90)
    assert np.array_equal(image.read(box), nr.open_image(whole).read(box))
    # One byte of a pixel less, and it is truncated.
    path.write_bytes(content[:-4])
    with pytest.raises(UnreadableImage, match="truncated"):
        nr.open_image(path)


@pytest.mark.parametrize("scale", ["-1.0", "1", "-2.5"])
@pytest.mark.parametrize("bands", [1, 3])
def test_portable_float_maps(tmp_path: Path, scale: str, bands: int) -> None:
    light = np.random.default_rng(0).normal(0, 3, (7, 9, bands)).astype(np.float32)
    stored = light[::-1].astype("<f4" if scale.startswith("-") else ">f4").tobytes()
    path = tmp_path / "a.pfm"
    path.write_bytes(f"P{'F' if bands == 3 else 'f'}\n9 7\n{scale}\n".encode() + stored)
    image = nr.open_image(path)
    assert np.array_equal(image.read((0, 0, 7, 9)), light)
    assert image.roles == (("red", "green", "blue") if bands == 3 else ("gray",))
    assert any("scale of 2.5" in note for note in image.notes) == ("2.5" in scale)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnreadableImage, match="truncated"):
        nr.open_image(path)


def test_hdf4_is_called_so_and_has_a_line_that_works(tmp_path: Path) -> None:
    path = tmp_path / "MOD09GA.A2008296.h14v17.hdf"
    path.write_bytes(b"\x0e\x03\x13\x01\0\x10\0\0" + bytes(100))
    with pytest.raises(UnreadableImage, match=r"is HDF4.*gdal_translate HDF4_EOS:EOS_GRID:MOD09GA"):
        nr.open_image(path)


def test_grey_is_written_as_webp_in_three_equal_bands(tmp_path: Path) -> None:
    path, out = tmp_path / "a.png", tmp_path / "o.webp"
    grey = (
        np.random.default_rng(0).integers(0, 255, (9, 8)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    )
    Image.fromarray(grey).save(path)
    nr.restore(path, "identity").save(out, quality=100)
    found = np.asarray(Image.open(out)).astype(int)
    assert found.shape == (72, 64, 3) and np.ptp(found, axis=2).max() <= 4
    assert np.abs(found[..., 0] - grey).mean() <= 2
    assert any("WebP has no grey" in n for n in api.notes_on_output(out, nr.open_image(path)))
