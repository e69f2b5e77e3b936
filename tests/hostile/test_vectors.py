"""Vector files do no more than say where polygons are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_restore.errors import BadMask
from napari_restore.images import open_image, read_polygons

from .conftest import Server

pyogrio = pytest.importorskip("pyogrio")
RING = b"".join(np.array([[0, 0], [9, 0], [9, 9], [0, 0]], "<f8"))
SHAPE = np.array([b"\1" + np.array([3, 1, 4], "<u4").tobytes() + RING], object)
DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".kml": "KML", ".shp": "ESRI Shapefile"}


@pytest.fixture
def vector(tmp_path: Path) -> Callable[[str], Path]:
    def write(suffix: str) -> Path:
        path = tmp_path / f"area{suffix}"
        about = {"geometry_type": "Polygon", "crs": "EPSG:4326", "driver": DRIVERS[suffix]}
        pyogrio.raw.write(path, SHAPE, field_data=[], fields=[], **about)
        return path

    return write


@pytest.mark.parametrize("suffix", DRIVERS)
def test_nothing_is_written_beside_it(
    vector: Callable[[str], Path], suffix: str, sample: Path
) -> None:
    path = vector(suffix)
    before = {each: each.read_bytes() for each in path.parent.iterdir()}
    read_polygons(path, open_image(sample))
    assert {each: each.read_bytes() for each in path.parent.iterdir()} == before


@pytest.mark.parametrize("suffix", [".kml", ".gpkg", ".fgb", ".shp"])
@pytest.mark.parametrize(
    "text",
    [
        '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>{url}/a.geojson</SrcDataSource>'
        "</OGRVRTLayer></OGRVRTDataSource>",
        '{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read {url}/a"}',
        "<OGRWFSDataSource><URL>{url}/wfs</URL></OGRWFSDataSource>",
        '<!DOCTYPE kml [<!ENTITY a SYSTEM "{url}/a">]><kml>&a;</kml>',
    ],
    ids=["vrt", "pipeline", "service", "entity"],
)
def test_another_format_under_its_name(
    tmp_path: Path, sample: Path, server: Server, suffix: str, text: str
) -> None:
    path = tmp_path / f"area{suffix}"
    path.write_text(text.replace("{url}", server.url))
    with pytest.raises(BadMask, match=r"is no \w+ file"):
        read_polygons(path, open_image(sample))
    assert server.connections == 0


def test_links_of_a_kml_are_not_followed(tmp_path: Path, sample: Path, server: Server) -> None:
    path = tmp_path / "area.kml"
    path.write_text(
        (
            '<kml xmlns="http://www.opengis.net/kml/2.2"><Document><NetworkLink><Link>'
            "<href>{url}/a.kml</href></Link></NetworkLink><Placemark><styleUrl>{url}/s.kml#a</styleUrl>"
            "<Polygon><outerBoundaryIs><LinearRing><coordinates>0,0 9,0 9,9 0,0</coordinates>"
            "</LinearRing></outerBoundaryIs></Polygon></Placemark></Document></kml>"
        ).replace("{url}", server.url)
    )
    read_polygons(path, open_image(sample))
    assert server.connections == 0


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW v AS SELECT load_extension('x') FROM gpkg_contents",
        "CREATE VIEW v AS SELECT \"ogr_geocode\" ('x') FROM gpkg_contents",
        "CREATE TABLE t (a, b AS (abs(a)))",
    ],
)
def test_what_a_geopackage_computes(
    vector: Callable[[str], Path], sample: Path, statement: str
) -> None:
    path = vector(".gpkg")
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(BadMask, match="computes some of what it holds"):
        read_polygons(path, open_image(sample))


def test_text_of_a_geopackage_may_be_any_bytes(vector: Callable[[str], Path], sample: Path) -> None:
    path = vector(".gpkg")
    data = path.read_bytes()
    assert data.count(b"CREATE TABLE gpkg_contents")
    path.write_bytes(
        data.replace(b"CREATE TABLE gpkg_contents", b"CREATE TABLE \xff\xe7\x81g_contents")
    )
    with pytest.raises(BadMask, match="is no GPKG file"):
        read_polygons(path, open_image(sample))


def test_a_system_at_an_address(
    vector: Callable[[str], Path], sample: Path, server: Server
) -> None:
    path = vector(".gpkg")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE gpkg_spatial_ref_sys SET definition = ?", (f"{server.url}/crs",))
    connection.commit()
    connection.close()
    try:
        read_polygons(path, open_image(sample))
    except BadMask:
        pass
    assert server.connections == 0


def test_parts_that_are_links(vector: Callable[[str], Path], tmp_path: Path, sample: Path) -> None:
    path = vector(".shp")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path.with_suffix(".dbf").rename(elsewhere / "area.dbf")
    path.with_suffix(".dbf").symlink_to(elsewhere / "area.dbf")
    with pytest.raises(BadMask, match="link to another folder"):
        read_polygons(path, open_image(sample))
