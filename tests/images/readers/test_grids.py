"""Files of several grids: netCDF and GeoPackage, and HDF, which is not read but named rightly."""

from __future__ import annotations

import pickle
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from scipy.io import netcdf_file

import napari_restore as nr
from napari_restore.errors import UnreadableImage

VALUES = np.random.default_rng(0).integers(1, 1000, (2, 6, 8), np.int16)
"""From the top; a netCDF file has its first row below."""


NAMES = ["two.nc", "sea level.nc"] + ["from 12:00 on.nc"] * (sys.platform != "win32")


@pytest.fixture(params=NAMES[:1])
def netcdf(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A classic netCDF file of two variables, written by scipy."""
    path = tmp_path / request.param
    with netcdf_file(path, "w") as file:
        file.createDimension("y", 6)
        file.createDimension("x", 8)
        for name, values in zip(("red", "nir"), VALUES, strict=True):
            file.createVariable(name, "i2", ("y", "x"))[:] = values[::-1]
    return path


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    """A netCDF-4 file of one variable, Band1, written by GDAL."""
    grid = tmp_path / "grid.tif"
    with rasterio.open(grid, "w", width=8, height=6, count=1, dtype="int16") as new:
        new.write(VALUES[0], 1)
    path = tmp_path / "four.nc"
    rasterio.shutil.copy(grid, path, driver="netCDF", FORMAT="NC4")
    return path


@pytest.mark.parametrize("netcdf", NAMES, indirect=True)
def test_the_message_names_the_grids_as_they_are_opened(netcdf: Path) -> None:
    with pytest.raises(UnreadableImage, match="contains no single image but 2 parts") as caught:
        nr.open_image(netcdf)
    _, _, named = caught.value.hint.rstrip(".").rpartition("Python: ")
    names = shlex.split(named.replace(",", " "))
    assert len(names) == 2
    images = [nr.open_image(name) for name in names]
    for name, image, values in zip(names, images, VALUES, strict=True):
        assert np.array_equal(image.read((0, 0, 6, 8))[..., 0], values)
        with rasterio.open(name) as opened:
            assert np.array_equal(opened.read(1), values)
        again = pickle.loads(pickle.dumps(image))
        assert np.array_equal(again.read((0, 0, 6, 8))[..., 0], values)
        assert image.reader.files() == (netcdf,)
    assert images[0].fingerprint != images[1].fingerprint
    assert images[0].name == f"{netcdf.stem} red"


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_grid_is_named_from_where_one_is(
    netcdf: Path, monkeypatch: pytest.MonkeyPatch, quote: str
) -> None:
    monkeypatch.chdir(netcdf.parent)
    image = nr.open_image(f"NETCDF:{quote}{netcdf.name}{quote}:nir")
    monkeypatch.chdir("/")
    assert np.array_equal(nr.open_image(image.spec["source"]).read((0, 0, 6, 8))[..., 0], VALUES[1])


def test_a_file_whose_name_is_that_of_a_grid_is_the_file(netcdf: Path) -> None:
    path = netcdf.with_name("NETCDF:two.tif:red")
    with rasterio.open(path, "w", driver="GTiff", width=8, height=6, count=1, dtype="int16") as new:
        new.write(VALUES[0], 1)
    assert nr.open_image(path).profile.driver == "GTiff"


def test_grids_of_a_geopackage(tmp_path: Path) -> None:
    path = tmp_path / "two.gpkg"
    for number, table in enumerate(("first", "second")):
        with rasterio.open(
            path, "w", driver="GPKG", width=8, height=6, count=1, dtype="uint8", crs="EPSG:32654",
            transform=rasterio.transform.from_origin(0, 0, 1, 1), RASTER_TABLE=table,
            TILE_FORMAT="PNG", APPEND_SUBDATASET="YES" if number else "NO",
        ) as new:  # fmt: skip
            new.write(np.full((1, 6, 8), number + 7, np.uint8))
    with pytest.raises(UnreadableImage, match=rf"GPKG:{path}:first, GPKG:{path}:second"):
        nr.open_image(path)
    assert nr.open_image(f"GPKG:{path}:second").read((0, 0, 6, 8))[..., 0].max() == 8


@pytest.mark.parametrize("name", ["NETCDF:two.nc:blue", "GPKG:two.nc:red", "HDF5:two.nc://red"])
def test_a_grid_that_is_not_there(netcdf: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(netcdf.parent)
    with pytest.raises(UnreadableImage, match=r"has no grid .* that can be read as"):
        nr.open_image(name)


@pytest.mark.parametrize("name", ["NETCDF:no.nc:red", 'NETCDF:"no.nc":red'])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableImage, match=r"There is no file .*no\.nc"):
        nr.open_image(name)


@pytest.mark.parametrize("name", ["NETCDF:FILE:Band1", 'NETCDF:"FILE":Band1', "HDF5:FILE://Band1"])
def test_hdf5_is_converted_by_the_name_that_was_given(
    hdf5: Path, tmp_path: Path, name: str
) -> None:
    name = name.replace("FILE", str(hdf5))
    for allow_outside in (False, True):
        with pytest.raises(UnreadableImage, match="is HDF5 or netCDF-4") as caught:
            nr.open_image(name, allow_outside=allow_outside)
    words = shlex.split(caught.value.hint.partition(": ")[2].rstrip("."))
    assert words == ["gdal_translate", name, "COPY.tif"]
    # As the command does.
    rasterio.shutil.copy(words[1], tmp_path / words[2])
    with rasterio.open(tmp_path / words[2]) as opened:
        # The driver HDF5 takes the first row for the upper one.
        assert np.array_equal(opened.read(1)[:: -1 if "HDF5" in name else 1], VALUES[0])


def test_hdf5_itself_names_the_line_with_the_file(hdf5: Path) -> None:
    spaced = hdf5.rename(hdf5.with_name("sea level.nc"))
    with pytest.raises(UnreadableImage, match=r"that gdalinfo 'sea level.nc' lists") as caught:
        nr.open_image(spaced)
    line = caught.value.hint.rpartition(": ")[2].rstrip(".")
    assert shlex.split(line) == ["gdal_translate", "NETCDF:sea level.nc:VARIABLE", "COPY.tif"]


@pytest.mark.parametrize(
    "name",
    ['HDF4_EOS:EOS_GRID:"FILE":MODIS_Grid_500m_2D:sur_refl_b01_1', "HDF4_SDS:UNKNOWN:FILE:0"],
)
def test_hdf4_is_converted_by_the_name_that_was_given(tmp_path: Path, name: str) -> None:
    path = tmp_path / "MOD09GA.A2008296.h14v17.hdf"
    path.write_bytes(b"\x0e\x03\x13\x01\0\x10\0\0" + bytes(100))
    name = name.replace("FILE", str(path))
    with pytest.raises(UnreadableImage, match="is HDF4") as caught:
        nr.open_image(name)
    words = shlex.split(caught.value.hint.partition(": ")[2].rstrip("."))
    assert words == ["gdal_translate", name, "COPY.tif"]


def test_a_grid_of_a_file_of_another_format(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 6)).save(path)
    with pytest.raises(UnreadableImage, match="has no grid red"):
        nr.open_image(f"NETCDF:{path}:red")
