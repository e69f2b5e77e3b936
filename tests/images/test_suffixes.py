"""Which names are taken for images: by the window, and in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.drivers import raster_driver_extensions

import napari_restore as nr
from napari_restore.images import READ_SUFFIXES, is_image_in_folder
from napari_restore.images.files.handles import DRIVERS


def test_what_gdal_says_of_its_formats_is_known():
    known = {f".{suffix}" for suffix, name in raster_driver_extensions().items() if name in DRIVERS}
    # An archive is never opened.
    assert known - READ_SUFFIXES <= {".gpkg.zip"}
    assert len(known) > 25


@pytest.mark.parametrize(
    ("driver", "suffix"),
    [("JP2OpenJPEG", ".j2k"), ("NITF", ".ntf"), ("BMP", ".bmp"), ("PNM", ".ppm"), ("SGI", ".rgb")],
)
def test_a_folder_has_the_pictures_of_other_formats(tmp_path: Path, driver: str, suffix: str):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 40, 50), np.uint8)
    path = tmp_path / f"A{suffix.upper()}"
    options = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    with rasterio.Env() as environment:
        if driver not in environment.drivers():
            pytest.skip(f"this GDAL has no driver {driver}")
    with rasterio.open(tmp_path / "a.tif", "w", "GTiff", 50, 40, 3, dtype="uint8") as source:
        source.write(pixels)
    rasterio.shutil.copy(tmp_path / "a.tif", path, driver=driver, **options)
    assert is_image_in_folder(path)
    assert np.array_equal(nr.open_image(path).read((0, 0, 40, 50)), pixels.transpose(1, 2, 0))


def test_of_headers_those_of_radiance_are_images(tmp_path: Path):
    light, header = tmp_path / "light.hdr", tmp_path / "scene.HDR"
    light.write_bytes(b"#?RADIANCE\n")
    header.write_bytes(b"ENVI\nsamples = 2")
    assert is_image_in_folder(light)
    assert not is_image_in_folder(header)


def test_what_is_passed_over_in_a_folder(tmp_path: Path):
    for name in (".a.tif", "README.rst", "log.dat", "a.txt", "a.tif.aux.xml", "a"):
        (tmp_path / name).touch()
        assert not is_image_in_folder(tmp_path / name)
    (tmp_path / "a.zarr").mkdir()
    assert not is_image_in_folder(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / ".zgroup").touch()
    assert is_image_in_folder(tmp_path / "a.zarr")
    assert not is_image_in_folder(tmp_path / "missing.tif")
