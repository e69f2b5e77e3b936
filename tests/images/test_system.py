"""Coordinate systems out of text: the same whatever spells them, and none that opens a file."""

from __future__ import annotations

import json
import re

import pytest
from rasterio.crs import CRS

from napari_restore.images._system import LONGEST, system_of

CODES = (4326, 3857, 32633, 32718, 2154, 27700, 31467, 5514, 3031, 3413, 26910, 4258, 2193, 28992)


@pytest.mark.parametrize("code", CODES)
def test_all_spellings_are_one_system(code: int) -> None:
    expected = CRS.from_epsg(code)
    spellings = [
        f"EPSG:{code}",
        f"epsg:{code}",
        f"urn:ogc:def:crs:EPSG::{code}",
        f"http://www.opengis.net/def/crs/EPSG/0/{code}",
        f" {expected.to_wkt()} ",
        expected.to_wkt(version="WKT2_2019"),
        json.dumps(expected.to_dict(projjson=True)),
    ]
    assert [system_of(text) == expected for text in spellings] == [True] * len(spellings)


def test_longitude_first() -> None:
    expected = CRS.from_user_input("OGC:CRS84")
    for text in ("OGC:CRS84", "urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:OGC::CRS84"):
        assert system_of(text) == expected


BOUND = """BOUNDCRS[SOURCECRS[{crs}],TARGETCRS[{crs}],ABRIDGEDTRANSFORMATION["t",
METHOD["NTv2",ID["EPSG",9615]],PARAMETERFILE["Latitude and longitude difference file","GRID"]]]"""
GEOGRAPHIC = CRS.from_epsg(4326).to_wkt(version="WKT2_2019")
HOSTILE = (
    "+proj=longlat +nadgrids=GRID",
    "+proj=utm +zone=33",
    "http://example.org/crs",
    "http://opengis.net/anything",
    "GRID",
    "",
    "GEOGCS",
    "{}",
    "{" * 2000,
    BOUND.format(crs=GEOGRAPHIC),
    BOUND.format(crs=GEOGRAPHIC).replace("[", "("),
    CRS.from_epsg(4326).to_wkt()[:-1] + ',EXTENSION["PROJ4","+proj=longlat +nadgrids=GRID"]]',
    CRS.from_epsg(4326).to_wkt()[:-1] + ',EXTENSION["PROJ4","+init=GRID:4326"]]',
    'GEOGCRS["a" ' + " " * LONGEST + "]",
    json.dumps({"type": "BoundCRS", "parameterFile": "GRID"}),
    json.dumps({"type": "BoundCRS", "parameterFile": "GRID"}).replace("F", "\\u0046", 1),
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_may_open_a_file_is_refused(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "no" / "grid.gsb"
    with pytest.raises(ValueError, match=re.compile(".")):
        system_of(text.replace("GRID", str(path)))


def test_a_null_grid_is_no_file() -> None:
    """That of the maps of the web, as older programs write them."""
    text = CRS.from_epsg(3857).to_wkt()
    assert "nadgrids=@null" in text and system_of(text).to_epsg() == 3857
