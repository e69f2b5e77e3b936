"""Every failure of a reader is a sentence with a next step."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.transform import Affine

import napari_restore as nr
from napari_restore import api
from napari_restore._plain_files import read_file, read_text
from napari_restore.errors import RestoreError
from napari_restore.explain.attention.queries import queries_in
from napari_restore.images import Image, open_image, read_polygons, sensor_text
from napari_restore.images.export._rendition import icc_of
from napari_restore.models import factories_in

from .conftest import read_all
from .test_claims import zarr2

Tiff = Callable[..., Path]


@pytest.mark.parametrize(
    "own",
    [
        5, "text", [1], {"nodata": "x"}, {"nodata": [1]}, {"transform": [1, 2]},
        {"transform": [float("nan")] * 6}, {"transform": [0] * 6}, {"transform": "abcdef"},
        {"crs_wkt": "EPSG:99999"}, {"crs_wkt": 7}, {"gcps": [{"row": 1}]}, {"gcps": 3},
        {"colorinterp": ["gray", "gray"]}, {"tags": {"": 5}}, {"tags": []}, {"scales": ["x"]},
        {"wavelengths": [{}]}, {"descriptions": 3}, {"band_tags": [[]]}, {"rpcs": 4},
    ],
    ids=str,
)  # fmt: skip
def test_own_attributes_of_another_shape(own: Any, tmp_path: Path) -> None:
    folder = zarr2(tmp_path / "a.zarr")
    (folder / ".zattrs").write_text(json.dumps({"napari_restore": own}))
    error = read_all(folder)
    assert isinstance(error, RestoreError)
    assert "attributes" in error.message


@pytest.mark.parametrize(
    "attributes",
    [
        {"omero": 5}, {"omero": {"channels": 5}}, {"omero": {"channels": [5]}},
        {"omero": {"channels": [{"label": 5}]}}, {"napari_restore": None},
    ],
    ids=str,
)  # fmt: skip
def test_attributes_of_others_are_not_believed(attributes: Any, tmp_path: Path) -> None:
    folder = zarr2(tmp_path / "a.zarr")
    (folder / ".zattrs").write_text(json.dumps(attributes))
    assert isinstance(read_all(folder), Image)


@pytest.mark.parametrize(
    "multiscales",
    [
        5, [5], [{}], [{"datasets": []}], [{"datasets": [{"path": 5}]}],
        [{"datasets": [{"path": "../a"}]}], [{"datasets": [{"path": "group"}]}],
        [{"datasets": [{"path": "0"}], "axes": 5}], [{"datasets": [{"path": "0"}], "axes": ["y"]}],
    ],
    ids=str,
)  # fmt: skip
def test_multiscales_of_another_shape(multiscales: Any, tmp_path: Path) -> None:
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zattrs").write_text(json.dumps({"multiscales": multiscales}))
    zarr2(folder / "0")
    (folder / "group").mkdir()
    (folder / "group" / ".zgroup").write_text('{"zarr_format": 2}')
    assert isinstance(read_all(folder), RestoreError)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf_8(tmp_path: Path, tiff: Tiff) -> None:
    path = os.fsencode(tmp_path) + b"/sc\xe8ne.tif"
    os.rename(tiff(), path)
    error = read_all(Path(os.fsdecode(path)))
    assert isinstance(error, RestoreError)
    assert "sc\\xe8ne.tif" in error.message
    error.message.encode()
    assert isinstance(read_all(Path("a\0b.tif")), RestoreError)


def test_tags_that_are_not_utf_8_are_left_out(tiff: Tiff) -> None:
    path = tiff(setup=lambda new: new.update_tags(TIFFTAG_SOFTWARE="a fine scanner"))
    path.write_bytes(path.read_bytes().replace(b"a fine scanner", b"a f\xeene sc\xe0nner"))
    image = read_all(path)
    assert isinstance(image, Image)
    assert image.profile.tags.get("", {}) == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_transform_that_is_not_finite_is_no_place(value: float, tiff: Tiff) -> None:
    import rasterio

    place = rasterio.Affine(10, 0, 123456.5, 0, -10, 5000000)
    path = tiff(crs="EPSG:32633", transform=place)
    good = struct.pack("<d", 123456.5)
    assert good in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(good, struct.pack("<d", value)))
    image = read_all(path)
    assert isinstance(image, Image)
    assert image.transform is None or np.isfinite(image.transform).all()
    assert any("not finite" in note for note in image.notes)


def test_a_geopackage_with_a_damaged_schema(tiff: Tiff) -> None:
    path = tiff(
        "scene.gpkg", driver="GPKG", crs="EPSG:4326", transform=Affine(0.1, 0, 5, 0, -0.1, 50),
        TILE_FORMAT="PNG",
    )  # fmt: skip
    assert isinstance(read_all(path), Image)
    path.write_bytes(path.read_bytes().replace(b"CREATE TRIGGER", b"CREATE TR\xdcGGER"))
    assert isinstance(read_all(path), RestoreError)


def test_unknown_compression_of_an_ome_tiff(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "scene.ome.tif"
    tifffile.imwrite(path, np.zeros((2, 64, 64), np.uint8), ome=True, compression="zlib")
    content = path.read_bytes()
    entry = struct.pack("<HHIH", 259, 3, 1, 8)
    path.write_bytes(content.replace(entry, struct.pack("<HHIH", 259, 3, 1, 4711)))
    assert isinstance(read_all(path), RestoreError)


def test_messages_of_gdal_that_are_no_utf_8(
    tmp_path: Path, tiff: Tiff, capfd: pytest.CaptureFixture[str]
) -> None:
    """Rasterio's callback fails over them, and Python would print that with its traceback."""
    import rasterio.shutil

    path = tmp_path / "scene.img"
    rasterio.shutil.copy(tiff(), path, driver="HFA")
    content = path.read_bytes()
    # The name of a type in the dictionary of the file.
    assert b":oEmif_String,A" in content
    path.write_bytes(content.replace(b":oEmif_String,A", b":\xf7\xff\xff\xfff_String,A"))
    read_all(path)
    assert "Traceback" not in capfd.readouterr().err


def read_context(path: Path) -> None:
    nr.plan(np.zeros((8, 8, 3), np.uint8), "dcp", context=path)


DOORS: dict[str, Callable[[Path], object]] = {
    "mask.geojson": lambda path: read_polygons(path, open_image(np.zeros((8, 8), np.uint8))),
    "mask.gpkg": lambda path: read_polygons(path, open_image(np.zeros((8, 8), np.uint8))),
    "profile.icc": lambda path: icc_of(str(path)),
    "sensor.toml": sensor_text,
    "queries.csv": queries_in,
    "boxes.csv": api.boxes_of,
    "context.npz": read_context,
    "network.py": factories_in,
    "record.json": api.read_record_file,
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("name", DOORS)
def test_what_a_user_names_is_no_pipe(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(RestoreError, match=name):
        DOORS[name](tmp_path / name)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices")
@pytest.mark.parametrize("name", DOORS)
def test_nor_an_endless_device(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(RestoreError, match=name):
        DOORS[name](tmp_path / name)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfa\r\n" + bytes(1018))
    assert len(read_file(path, 1024)) == 1024
    assert read_text(path, 1024)[:3] == "a\r\n"
    path.write_bytes(bytes(1025))
    with pytest.raises(OSError, match="it is larger than 1 KiB"):
        read_file(path, 1024)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "b", 1)
