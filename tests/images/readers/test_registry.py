"""Bad files end in one sentence with a next step, never in grey pixels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_restore.errors import BadParameter, UnreadableImage
from napari_restore.images import open_image

MakeTiff = Callable[..., Path]
Noise = Callable[..., np.ndarray]


def refusal(source: object, **options: object) -> UnreadableImage:
    """The error of opening `source` and reading all of it."""
    with pytest.raises(UnreadableImage) as caught:
        image = open_image(source, **options)  # type: ignore[arg-type]
        image.read((0, 0, image.height, image.width))
    error = caught.value
    assert error.exit_code == 2
    assert error.hint
    assert "\n" not in error.message
    assert error.message.endswith(".")
    return error


def test_missing_file_offers_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "scene.tif").write_bytes(b"x")
    error = refusal(tmp_path / "scne.tif")
    assert "no file" in error.message
    assert "scene.tif" in error.hint


def test_missing_folder(tmp_path: Path) -> None:
    assert "no folder" in refusal(tmp_path / "nowhere" / "a.tif").hint


def test_folder_that_is_no_zarr(tmp_path: Path) -> None:
    assert "no OME-Zarr" in refusal(tmp_path).message


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.tif"
    path.touch()
    assert "is empty" in refusal(path).message


@pytest.mark.parametrize("text", [b"hello, this is no image\n", "Straße ".encode() * 900])
def test_text_renamed_tif(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "notes.tif"
    path.write_bytes(text)
    assert "is text, not an image" in refusal(path).message


@pytest.mark.parametrize("suffix", [".shp", ".kml", ".fgb", ".tab", ".geojson"])
def test_vector_files_are_no_images(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"areas{suffix}"
    path.write_bytes(b"<kml>\n" if suffix == ".kml" else bytes(range(100)))
    error = refusal(path)
    assert "is a vector file, not an image" in error.message
    assert "mask=" in error.hint
    assert "exclude=" in error.hint


def test_noise_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "noise.tif"
    path.write_bytes(np.random.default_rng(0).bytes(9000))
    assert "no image of a known format" in refusal(path).message


@pytest.mark.parametrize("tiled", [True, False])
@pytest.mark.parametrize("compress", ["deflate", None])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.98])
def test_truncated_tiff(
    make_tiff: MakeTiff, tiled: bool, compress: str | None, kept: float, noise: Noise
) -> None:
    options = {"tiled": True, "blockxsize": 64, "blockysize": 64} if tiled else {}
    path = make_tiff(noise(300, 300, 3, np.uint8), compress=compress, **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    refusal(path)


def test_truncated_cog_and_bigtiff(make_tiff: MakeTiff, noise: Noise) -> None:
    pixels = noise(600, 600, 3, np.uint8)
    for name, options in (("c.tif", {"driver": "COG"}), ("b.tif", {"BIGTIFF": "YES"})):
        path = make_tiff(pixels, name, **options)
        open_image(path)
        path.write_bytes(path.read_bytes()[:-2000])
        assert "truncated" in refusal(path).message


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.995])
def test_truncated_photo(tmp_path: Path, suffix: str, kept: float, noise: Noise) -> None:
    from PIL import Image as Pillow

    path = tmp_path / f"photo{suffix}"
    Pillow.fromarray(noise(200, 200, 3, np.uint8)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    assert "truncated" in refusal(path).message


@pytest.mark.parametrize(
    ("driver", "suffix"), [("ENVI", "dat"), ("JP2OpenJPEG", "jp2"), ("BMP", "bmp")]
)
def test_other_truncated_files(
    make_tiff: MakeTiff, noise: Noise, tmp_path: Path, driver: str, suffix: str
) -> None:
    from rasterio.shutil import copy

    path = tmp_path / f"cut.{suffix}"
    copy(make_tiff(noise(300, 300, 3, np.uint8)), path, driver=driver)
    path.write_bytes(path.read_bytes()[:-90_000])
    refusal(path)


def test_a_thumbnail_does_not_hide_that_the_photo_is_cut(tmp_path: Path, noise: Noise) -> None:
    import io

    from PIL import Image as Pillow

    small, large = io.BytesIO(), io.BytesIO()
    pixels = noise(200, 200, 3, np.uint8)
    Pillow.fromarray(pixels[:20, :20]).save(small, "JPEG")
    Pillow.fromarray(pixels).save(large, "JPEG", exif=b"Exif\0\0" + small.getvalue())
    path = tmp_path / "photo.jpg"
    path.write_bytes(large.getvalue()[:-3000])
    assert "truncated" in refusal(path).message


def test_photo_with_bytes_after_its_end_is_fine(tmp_path: Path, noise: Noise) -> None:
    from PIL import Image as Pillow

    path = tmp_path / "photo.jpg"
    Pillow.fromarray(noise(20, 20, 3, np.uint8)).save(path)
    path.write_bytes(path.read_bytes() + b"\0" * 500)
    assert open_image(path).read((0, 0, 20, 20)).shape == (20, 20, 3)


def test_damaged_tile_is_told_when_it_is_read(make_tiff: MakeTiff, noise: Noise) -> None:
    path = make_tiff(noise(300, 300, 3, np.uint8), compress="deflate", tiled=True)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 5000] = b"\xff" * 5000
    path.write_bytes(bytes(data))
    assert "cannot be read" in refusal(path).message


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.tif"
    path.write_bytes(b"II*\0")

    opened = os.open

    def forbidden(name: str, *arguments: int, **options: int) -> int:
        if str(name) == str(path):
            raise PermissionError(13, os.strerror(13))
        return opened(name, *arguments, **options)

    # A test run as root may read everything.
    monkeypatch.setattr(os, "open", forbidden)
    assert "may not be read" in refusal(path).message


def test_address_that_is_not_read() -> None:
    """Those that are read: `test_remote`."""
    assert "Download" in refusal("ftp://example.org/a.tif").hint


def test_container_of_several_images(make_tiff: MakeTiff) -> None:
    path = make_tiff(np.ones((8, 8, 1), np.uint8), "tables.gpkg", driver="GPKG", RASTER_TABLE="a")
    import rasterio

    with rasterio.open(
        path, "w", driver="GPKG", height=8, width=8, count=1, dtype="uint8",
        crs="EPSG:32633", transform=rasterio.Affine(10, 0, 0, 0, -10, 0),
        RASTER_TABLE="b", APPEND_SUBDATASET="YES",
    ) as new:  # fmt: skip
        new.write(np.ones((1, 8, 8), np.uint8))
    assert "parts" in refusal(path).message


def test_things_that_are_no_image() -> None:
    assert "int" in refusal(5).message
    assert "shape" in refusal(np.zeros(7, np.uint8)).message
    assert "(C, H, W)" in refusal(np.zeros((3, 40, 50), np.uint8)).message
    assert "complex" in refusal(np.zeros((4, 4), complex)).message


def test_unknown_sensor_and_bands(make_tiff: MakeTiff) -> None:
    path = make_tiff(np.ones((8, 8, 3), np.uint8))
    with pytest.raises(BadParameter, match="sensor"):
        open_image(path, sensor="hubble")
    with pytest.raises(BadParameter, match="Band 4"):
        open_image(path, bands="red=4")
    with pytest.raises(BadParameter, match="role"):
        open_image(path, bands="rot=1")


def test_one_pixel_image(make_tiff: MakeTiff) -> None:
    image = open_image(make_tiff(np.full((1, 1, 1), 9, np.uint8)))
    assert image.read((0, 0, 1, 1)).item() == 9
    assert image.levels[0].compute().item() == 9
