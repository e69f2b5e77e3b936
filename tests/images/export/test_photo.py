"""Photos: pixels in 8 and 16 bit, and what the camera wrote beside them."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image as Pillow, ImageCms

from napari_restore.errors import BadOutput, Cancelled
from napari_restore.images import ExportOptions, Pixels, Profile, open_image, write_image
from napari_restore.images.export.exif import (
    add_to_tiff,
    iptc_records,
    jpeg_segments,
    photoshop_segment,
)

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a b="c=d"/></x:xmpmeta>'
IPTC = b"\x1c\x02\x05\x00\x05Title"
EXIF_IFD, GPS_IFD = 0x8769, 0x8825


@pytest.fixture(scope="module")
def icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def scene(height: int, width: int) -> np.ndarray:
    """A smooth picture, so that lossy formats stay near it."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path, icc: bytes) -> Path:
    """A JPEG lying on its side, with a thumbnail of before, GPS, ICC, XMP and IPTC."""
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010F], exif[0x0132] = 6, "Maker", "2026:01:02 03:04:05"
    exif.get_ifd(EXIF_IFD).update({33434: (1, 250), 34855: 400})
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (47.0, 1.0, 2.5)})
    buffer = io.BytesIO()
    Pillow.fromarray(scene(150, 100) // 2 + 60).save(
        buffer, "JPEG", quality=98, exif=exif.tobytes(), icc_profile=icc, xmp=XMP
    )
    content, iptc = buffer.getvalue(), photoshop_segment(IPTC)
    segment = struct.pack(">BBH", 0xFF, 0xED, len(iptc) + 2) + iptc
    path = tmp_path / "Foto ä.jpg"
    path.write_bytes(content[:2] + segment + content[2:])
    return path


def write(image: Any, path: Path, **more: Any) -> Path:
    box = (0, 0, image.height, image.width)
    return write_image(path, Pixels(box, image.read), like=image, **more)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_metadata_goes_along(photo: Path, tmp_path: Path, icc: bytes, suffix: str) -> None:
    image = open_image(photo)
    written = write(image, tmp_path / f"Kopie ö{suffix}")
    with Pillow.open(written) as found:
        exif = found.getexif()
        assert found.size == (150, 100)
        assert found.info["icc_profile"] == icc
        assert exif.get(0x0112, 1) == 1
        assert exif[0x010F] == "Maker"
        assert exif.get_ifd(EXIF_IFD)[34855] == 400
        assert exif.get_ifd(GPS_IFD)[2] == (47.0, 1.0, 2.5)
    again = open_image(written)
    assert again.profile.xmp == XMP
    assert again.profile.orientation == 1
    if suffix in (".jpg", ".tif"):
        assert iptc_records(again.profile.iptc) == IPTC
    box = (0, 0, 100, 150)
    difference = again.read(box).astype(int) - image.read(box)
    assert np.abs(difference).max() == 0 if suffix in (".png", ".tif") else 25
    # Nothing tells the old orientation in other words.
    with rasterio.open(written) as d:
        assert d.tags().get("EXIF_Orientation", "1") == "1"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([photo.name, written.name])


def test_thumbnail_of_before_is_dropped(photo: Path, tmp_path: Path) -> None:
    image = open_image(photo)
    written = write(image, tmp_path / "out.jpg")
    content = written.read_bytes()
    assert content.count(b"\xff\xd8\xff") == 1
    assert content.count(b"Exif\0\0") == 1
    assert content.count(b"ICC_PROFILE\0") == 1


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bands", [1, 3])
def test_16_bit_is_kept(tmp_path: Path, suffix: str, bands: int) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 1 << 16, (70, 600, bands)).astype(np.uint16)
    image = open_image(pixels)
    written = write(image, tmp_path / f"x{suffix}")
    with rasterio.open(written) as d:
        assert set(d.dtypes) == {"uint16"}
        np.testing.assert_array_equal(np.moveaxis(d.read(), 0, 2), pixels)


def test_png_keeps_alpha(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (70, 60, 4)).astype(np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "in.png")
    written = write(open_image(tmp_path / "in.png"), tmp_path / "out.png")
    with Pillow.open(written) as found:
        assert found.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(found), pixels)


def test_photo_of_16_bit_becomes_8_bit_where_it_must(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64, 1)
    image = open_image(values)
    expected = np.rint(values.astype(float) / 257).astype(np.uint8)
    png = write(image, tmp_path / "x.png", options=ExportOptions(bit_depth=8))
    np.testing.assert_array_equal(np.asarray(Pillow.open(png))[..., None], expected)
    jpeg = np.asarray(Pillow.open(write(image, tmp_path / "x.jpg")))[..., None]
    assert np.abs(jpeg.astype(int) - expected).max() <= 3
    back = write(open_image(expected), tmp_path / "y.png", options=ExportOptions(bit_depth=16))
    with rasterio.open(back) as d:
        np.testing.assert_array_equal(d.read(1)[..., None], expected * np.uint16(257))


def test_quality_is_heard(tmp_path: Path) -> None:
    image = open_image(np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8))
    for suffix in (".jpg", ".webp"):
        sizes = [
            write(image, tmp_path / f"{q}{suffix}", options=ExportOptions(quality=q)).stat().st_size
            for q in (70, 98)
        ]
        assert sizes[1] > 1.5 * sizes[0]
    with pytest.raises(BadOutput, match="quality"):
        ExportOptions(quality=0)


def test_place_goes_into_a_sidecar(tmp_path: Path, data_dir: Path) -> None:
    image = open_image(data_dir / "geotiff" / "cog_rgb.tif")
    written = write(image, tmp_path / "x.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.png", "x.png.aux.xml"]
    with rasterio.open(written) as d, rasterio.open(image.path) as source:
        assert d.crs == source.crs and d.transform == source.transform


def test_cancel_leaves_nothing(photo: Path, tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".webp"):
        asked = iter([False, True, True])
        with pytest.raises(Cancelled):
            write(open_image(photo), tmp_path / f"x{suffix}", cancelled=asked.__next__)
    assert list(tmp_path.iterdir()) == [photo]


def test_long_profile_is_cut_into_segments(tmp_path: Path) -> None:
    long = bytes(range(256)) * 600
    segments = jpeg_segments(Profile(icc=long))
    assert [content[12:14] for _, content in segments] == [b"\1\3", b"\2\3", b"\3\3"]
    assert b"".join(content[14:] for _, content in segments) == long


@pytest.mark.parametrize("big", [False, True])
def test_exif_joins_a_tiff_without_touching_pixels(tmp_path: Path, big: bool) -> None:
    path = tmp_path / "x.tif"
    pixels = np.arange(300 * 400 * 3, dtype=np.uint16).reshape(300, 400, 3)
    tifffile.imwrite(path, pixels, bigtiff=big, tile=(128, 128), photometric="rgb")
    exif = Pillow.Exif()
    exif[0x0110] = "Model"
    exif.get_ifd(EXIF_IFD).update({33434: (1, 250)})
    exif.get_ifd(GPS_IFD).update({1: "N"})
    add_to_tiff(path, exif.tobytes(), photoshop_segment(IPTC))
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[0].tags
        np.testing.assert_array_equal(tiff.asarray(), pixels)
        assert tags["Model"].value == "Model"
        assert tags["ExifTag"].value["ExposureTime"] == (1, 250)
        assert tags["GPSTag"].value["GPSLatitudeRef"] == "N"
        assert tags[33723].value == IPTC


def test_iptc_is_found_in_every_wrapping() -> None:
    wrapped = photoshop_segment(IPTC)
    other = struct.pack(">4sHHI", b"8BIM", 0x03ED, 0, 3) + b"abc\0"
    assert iptc_records(IPTC) == IPTC
    assert iptc_records(wrapped) == IPTC
    assert iptc_records(wrapped.replace(b"8BIM", other + b"8BIM", 1)) == IPTC
    assert iptc_records(b"Photoshop 3.0\0" + other) is None
    assert iptc_records(None) is None


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_gdal_has_nothing_to_warn_of(
    photo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    with caplog.at_level("WARNING"):
        write(open_image(photo), tmp_path / f"out{suffix}")
    assert caplog.messages == []
