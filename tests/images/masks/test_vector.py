"""Polygons of a GeoJSON file in pixels of an image."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_restore.errors import BadMask
from napari_restore.images import Image, open_image, rasterise, read_polygons

RING = [[10, 5], [30, 5], [30, 25], [10, 25], [10, 5]]
HOLE = [[15, 10], [20, 10], [20, 15], [15, 15], [15, 10]]


@pytest.fixture
def plain() -> Image:
    return open_image(np.zeros((40, 50), np.uint8))


@pytest.fixture
def placed(tmp_path: Path) -> Image:
    import rasterio
    from rasterio.transform import Affine

    path = tmp_path / "placed.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=40,
        width=50,
        count=1,
        dtype="uint8",
        crs="EPSG:32631",
        transform=Affine(2, 0, 500_000, 0, -2, 4_000_000),
    ) as dataset:
        dataset.write(np.zeros((1, 40, 50), np.uint8))
    return open_image(path)


def write(folder: Path, data: Any) -> Path:
    path = folder / "Fläche 1.geojson"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def drawn(path: Path, image: Image) -> Any:
    return rasterise(read_polygons(path, image), (0, 0, image.height, image.width))


def test_holes_collections_and_heights(tmp_path: Path, plain: Image) -> None:
    high = [[x, y, 7.5] for x, y in RING]
    inner = {"type": "Polygon", "coordinates": [high, HOLE]}
    nested = {"type": "GeometryCollection", "geometries": [inner]}
    features = [
        {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [nested]}},
        {"type": "Feature", "geometry": None},
    ]
    for geometry in (inner, nested, {"type": "FeatureCollection", "features": features[1:]}):
        data = geometry
        if geometry["type"] == "FeatureCollection":
            data = {**geometry, "features": [*features[1:], {"type": "Feature", "geometry": inner}]}
        mask = drawn(write(tmp_path, data), plain)
        assert mask.sum() == 20 * 20 - 5 * 5
        assert mask[12, 17] == 0
        assert mask[5, 10] == mask[24, 29] == 1


def test_longitude_and_latitude_are_brought_to_the_image(tmp_path: Path, placed: Image) -> None:
    from rasterio.warp import transform

    xs = [500_000 + 2 * x for x, _ in RING]
    ys = [4_000_000 - 2 * y for _, y in RING]
    longitude, latitude = transform("EPSG:32631", "OGC:CRS84", xs, ys)[:2]
    ring = [list(point) for point in zip(longitude, latitude, strict=True)]
    path = write(tmp_path, {"type": "Polygon", "coordinates": [ring]})
    found = np.array(read_polygons(path, placed)[0][0])
    np.testing.assert_allclose(found, RING, atol=1e-4)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("no json", "no GeoJSON"),
        ("[1, 2]", "no GeoJSON"),
        ({"type": "FeatureCollection"}, "no GeoJSON"),
        ({"type": "Polygon", "coordinates": [[["a", "b"]] * 4]}, "no GeoJSON"),
        ({"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]}, "no GeoJSON"),
        ({"type": "Polygon", "coordinates": [RING], "crs": 7}, "no GeoJSON"),
        ({"type": "Point", "coordinates": [1, 2]}, "no polygon"),
        ({"type": "FeatureCollection", "features": []}, "no polygon"),
    ],
)
def test_anything_else_is_one_sentence(tmp_path: Path, plain: Image, data: Any, told: str) -> None:
    with pytest.raises(BadMask, match=told):
        read_polygons(write(tmp_path, data), plain)


def test_a_missing_file_is_one_sentence(tmp_path: Path, plain: Image) -> None:
    with pytest.raises(BadMask, match="cannot be read"):
        read_polygons(tmp_path / "none.geojson", plain)


def test_coordinates_of_another_system_are_told(tmp_path: Path, placed: Image) -> None:
    ring = [[500_020, 3_999_990], [500_060, 3_999_990], [500_060, 3_999_950], [500_020, 3_999_990]]
    path = write(tmp_path, {"type": "Polygon", "coordinates": [ring]})
    with pytest.raises(BadMask, match="no place"):
        read_polygons(path, placed)
    crs = {"type": "name", "properties": {"name": "EPSG:0"}}
    path = write(tmp_path, {"type": "Polygon", "coordinates": [ring], "crs": crs})
    with pytest.raises(BadMask, match="unknown"):
        read_polygons(path, placed)


def packed(folder: Path, *layers: str, at: float = 10.0) -> Path:
    """Write `RING` as GDAL's own program would, with a first longitude `at`, in each of the layers."""
    raw = pytest.importorskip("pyogrio.raw")
    ring = [(at, RING[0][1]), *RING[1:-1], (at, RING[0][1])]
    shape = struct.pack("<BIII", 1, 3, 1, len(ring)) + b"".join(
        struct.pack("<2d", *point) for point in ring
    )
    path = folder / "area.gpkg"
    geometry = np.array([shape], object)
    for number, layer in enumerate(layers):
        raw.write(path, geometry, [], [], layer=layer, geometry_type="Polygon", append=number > 0)
    return path


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_the_only_layer_of_a_file_needs_no_name(tmp_path: Path, plain: Image) -> None:
    wanted = drawn(write(tmp_path, {"type": "Polygon", "coordinates": [RING]}), plain)
    assert np.array_equal(drawn(packed(tmp_path, "fields"), plain), wanted)
    with pytest.raises(BadMask, match="2 layers"):
        read_polygons(packed(tmp_path, "fields", "lakes"), plain)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("nowhere", [np.nan, np.inf])
def test_a_point_without_a_place_is_one_sentence(
    tmp_path: Path, plain: Image, nowhere: float
) -> None:
    with pytest.raises(BadMask, match="no place"):
        read_polygons(packed(tmp_path, "fields", at=nowhere), plain)
