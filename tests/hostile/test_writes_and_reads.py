"""Opening and reading changes no file, and reads none but those of the image."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_restore.errors import RestoreError
from napari_restore.images import Image, open_image

from .conftest import read_all, snapshot, vrt

Tiff = Callable[..., Path]

SECRET = b"the secret that lies outside\n" * 200


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside of the folder of the image, `tmp_path / "images"`."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    (tmp_path / "images").mkdir()
    return path


# -- writing -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scene.mrf", "scene.tif"])
@pytest.mark.parametrize("cached", ["CachedSource", "IndexFile"])
def test_mrf_writes_into_no_file_it_names(
    name: str, cached: str, tmp_path: Path, tiff: Tiff
) -> None:
    tiff("source.tif")
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(64))
    path = tmp_path / name
    source = "<CachedSource><Source>source.tif</Source></CachedSource>"
    path.write_text(
        f'<MRF_META>{source if cached == "CachedSource" else ""}<Raster><Size x="64" y="64" c="1"/>'
        f'<PageSize x="64" y="64" c="1"/><Compression>NONE</Compression>'
        f"<DataFile>{victim}</DataFile><IndexFile>{victim}</IndexFile></Raster></MRF_META>"
    )
    before = snapshot(tmp_path)
    assert isinstance(read_all(path), RestoreError)
    assert snapshot(tmp_path) == before


SUFFIXES = {
    "GTiff": "tif", "PNG": "png", "JPEG": "jpg", "JP2OpenJPEG": "jp2", "ENVI": "img", "HFA": "img",
    "EHdr": "bil", "BMP": "bmp", "GIF": "gif", "PNM": "pgm", "NITF": "ntf", "PCIDSK": "pix",
    "SAGA": "sdat", "RST": "rst", "netCDF": "nc", "RRASTER": "grd", "XYZ": "xyz", "AAIGrid": "asc",
    "ISCE": "slc", "GPKG": "gpkg", "GSBG": "grd", "KRO": "kro", "VRT": "vrt",
}  # fmt: skip
OPTIONS = {
    "JP2OpenJPEG": {"QUALITY": "100", "REVERSIBLE": "YES"},
    "GPKG": {"TILE_FORMAT": "PNG"},
    "RST": {},
}


@pytest.mark.parametrize("driver", SUFFIXES)
def test_no_driver_writes_beside_what_it_reads(driver: str, tmp_path: Path, tiff: Tiff) -> None:
    """All formats that can be made here; an image with sidecars is the same image as before."""
    import rasterio.shutil

    place = {"crs": "EPSG:4326", "transform": rasterio.Affine(0.1, 0, 5, 0, -0.1, 50)}
    plain = tiff("plain.tif", **({} if driver in ("PNM", "KRO") else place))
    path = tmp_path / f"copy.{SUFFIXES[driver]}"
    rasterio.shutil.copy(plain, path, driver=driver, **OPTIONS.get(driver, {}))
    before = snapshot(tmp_path)
    image = read_all(path)
    assert snapshot(tmp_path) == before
    assert isinstance(image, Image), image
    if driver not in ("JPEG", "GPKG", "GIF"):
        found, expected = image.read((0, 0, 64, 64)), open_image(plain).read((0, 0, 64, 64))
        np.testing.assert_array_equal(found[..., :1], expected)


# -- reading -----------------------------------------------------------------------------


def raw_vrt(source: str, relative: int) -> str:
    return (
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1" '
        f'subClass="VRTRawRasterBand"><SourceFilename relativetoVRT="{relative}">{source}'
        "</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>"
        "<LineOffset>64</LineOffset></VRTRasterBand></VRTDataset>"
    )


@pytest.mark.parametrize("relative", ["absolute", "upwards", "linked"])
def test_raw_bands_stay_below_the_vrt(relative: str, tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "images"
    (folder / "link").symlink_to(secret)
    name = {"absolute": str(secret), "upwards": "../secret", "linked": "link"}[relative]
    path = folder / "scene.vrt"
    path.write_text(raw_vrt(name, int(relative != "absolute")))
    for allowed in (False, True):
        error = read_all(path, allow_outside=allowed)
        assert isinstance(error, RestoreError)
        assert name in error.message


def test_raw_bands_below_the_vrt_are_read(tmp_path: Path) -> None:
    values = np.arange(64 * 64, dtype=np.uint8)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "pixels").write_bytes(values.tobytes())
    path = tmp_path / "scene.vrt"
    path.write_text(raw_vrt("below/pixels", 1))
    pixels = open_image(path).read((0, 0, 64, 64))
    np.testing.assert_array_equal(pixels.ravel(), values)


def test_sources_elsewhere_are_named_and_asked_about(tmp_path: Path, tiff: Tiff) -> None:
    (tmp_path / "images").mkdir()
    elsewhere = tiff("elsewhere.tif")
    path = tmp_path / "images" / "scene.vrt"
    path.write_text(vrt(str(elsewhere)))
    error = read_all(path)
    assert isinstance(error, RestoreError)
    assert str(elsewhere) in error.message
    assert "allow_outside=True" in error.hint
    image = read_all(path, allow_outside=True)
    assert isinstance(image, Image)
    expected = open_image(elsewhere).read((0, 0, 64, 64))
    np.testing.assert_array_equal(image.read((0, 0, 64, 64)), expected)
    # It stays allowed where the image travels to another process.
    again = Image.from_spec(json.loads(json.dumps(image.spec)))
    np.testing.assert_array_equal(again.read((0, 0, 64, 64)), expected)


def test_vrts_of_vrts_below_are_read(tmp_path: Path, tiff: Tiff) -> None:
    tiff("tiles/a.tif")
    (tmp_path / "tiles" / "a.vrt").write_text(vrt("a.tif", relative=1))
    path = tmp_path / "scene.vrt"
    path.write_text(vrt("tiles/a.vrt", relative=1))
    image = read_all(path)
    assert isinstance(image, Image)
    expected = open_image(tmp_path / "tiles" / "a.tif").read((0, 0, 64, 64))
    np.testing.assert_array_equal(image.read((0, 0, 64, 64)), expected)
    # What a linked VRT names is relative to where it lies, as GDAL has it.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.vrt").symlink_to(path)
    linked = read_all(tmp_path / "elsewhere" / "link.vrt")
    assert isinstance(linked, Image)
    np.testing.assert_array_equal(linked.read((0, 0, 64, 64)), expected)


@pytest.mark.parametrize("declared", ["<!DOCTYPE a>", "<!DOCTYPE a [<!ENTITY b 'scene.tif'>]>"])
def test_document_types_are_refused(declared: str, tmp_path: Path, tiff: Tiff) -> None:
    tiff()
    path = tmp_path / "scene.vrt"
    path.write_text(declared + vrt("&b;" if "ENTITY" in declared else "scene.tif", relative=1))
    assert isinstance(read_all(path), RestoreError)


def test_a_vrt_that_is_its_own_source_ends(tmp_path: Path) -> None:
    path = tmp_path / "scene.vrt"
    path.write_text(vrt("scene.vrt", relative=1))
    assert isinstance(read_all(path), RestoreError)


def test_overviews_outside_are_left_out(tmp_path: Path, tiff: Tiff, secret: Path) -> None:
    tiff("elsewhere.tif", size=32)
    path = tiff("images/scene.tif")
    named = '<MDI key="OVERVIEW_FILE">:::BASE:::../elsewhere.tif</MDI>'
    beside = tmp_path / "images" / "scene.tif.aux.xml"
    beside.write_text(f'<PAMDataset><Metadata domain="OVERVIEWS">{named}</Metadata></PAMDataset>')
    image = open_image(path)
    assert image.stored_levels == 1
    assert any("left out" in note for note in image.notes)


def test_overviews_beside_are_read(tmp_path: Path, tiff: Tiff) -> None:
    """Also those that a sidecar names: what lies beside is the image's own."""
    path = tiff(size=512)
    smaller = tiff("smaller.tif", size=128)
    named = '<MDI key="OVERVIEW_FILE">:::BASE:::smaller.tif</MDI>'
    beside = tmp_path / "scene.tif.aux.xml"
    beside.write_text(f'<PAMDataset><Metadata domain="OVERVIEWS">{named}</Metadata></PAMDataset>')
    image = open_image(path)
    assert image.level_shapes == ((512, 512), (128, 128))
    expected = open_image(smaller).read((0, 0, 128, 128))
    np.testing.assert_array_equal(image.read((0, 0, 128, 128), 1), expected)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_zarr_stays_in_its_folder(tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "images" / "a.zarr"
    folder.mkdir()
    meta = {
        "zarr_format": 2, "shape": [64, 64], "chunks": [64, 64], "dtype": "|u1", "order": "C",
        "compressor": None, "filters": None, "fill_value": 7,
    }  # fmt: skip
    (folder / ".zarray").write_text(json.dumps(meta))
    secret.write_bytes(SECRET[:4096].ljust(4096, b"."))
    (folder / "0.0").symlink_to(secret)
    assert isinstance(read_all(folder), RestoreError)
    (folder / "0.0").unlink()
    # Nobody ever writes into this pipe.
    os.mkfifo(folder / "0.0")
    image = read_all(folder)
    assert isinstance(image, Image)
    assert (image.read((0, 0, 64, 64)) == 7).all()


def test_ome_tiff_takes_planes_from_beside_only(tmp_path: Path, secret: Path) -> None:
    import tifffile

    path = tmp_path / "images" / "scene.ome.tif"
    pixels = np.zeros((2, 64, 64), np.uint8)
    tifffile.imwrite(tmp_path / "elsewhere.ome.tif", pixels, metadata={"axes": "CYX"})
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "CYX"})
    assert isinstance(read_all(path), Image)
    with tifffile.TiffFile(path) as file:
        text = file.ome_metadata
    assert text is not None
    named = '<TiffData IFD="0"><UUID FileName="../elsewhere.ome.tif">urn:uuid:1</UUID></TiffData>'
    start, end = text.index("<TiffData"), text.index("</Pixels>")
    tifffile.tiffcomment(path, (text[:start] + named + text[end:]).encode())
    error = read_all(path)
    assert isinstance(error, RestoreError)
    assert "elsewhere" in error.message
