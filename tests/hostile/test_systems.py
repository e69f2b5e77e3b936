"""Coordinate systems that name files: no door lets PROJ open one, whatever spells them."""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import from_origin

import napari_restore as nr
from napari_restore.errors import RestoreError
from napari_restore.images._system import check_system, system_of
from napari_restore.images.masks._vector import read_polygons

WKT2 = CRS.from_epsg(4326).to_wkt(version="WKT2_2019")
WKT1 = CRS.from_epsg(4326).to_wkt()
PROJJSON = CRS.from_epsg(4326).to_dict(projjson=True)
BOUND = f"""BOUNDCRS[SOURCECRS[{WKT2}],TARGETCRS[{WKT2}],ABRIDGEDTRANSFORMATION["t",METHOD["NTv2",\
ID["EPSG",9615]],PARAMETERFILE["Latitude and longitude difference file","GRID",ID["EPSG",8656]]]]"""
JSON = {
    "type": "BoundCRS",
    "source_crs": PROJJSON,
    "target_crs": PROJJSON,
    "transformation": {
        "name": "t",
        "method": {"name": "NTv2", "id": {"authority": "EPSG", "code": 9615}},
        "parameters": [{"name": "Latitude and longitude difference file", "value": "GRID"}],
    },
}
DERIVED = """GEOGCRS["d",BASEGEOGCRS["x",DATUM["y",ELLIPSOID["z",6378137,298.257223563]]],DERIVINGCONVERSION["x",\
METHOD["{method}"],PARAMETER["o_proj",1]],CS[ellipsoidal,2],AXIS["lat",north],AXIS["lon",east],\
ANGLEUNIT["degree",0.0174532925199433]]"""
VERTICAL = 'VERT_CS["v",VERT_DATUM["d",2005,{0}],UNIT["metre",1],AXIS["Up",UP]]'
SEEDS = [
    BOUND,
    json.dumps(JSON),
    "+proj=longlat +ellps=clrk66 +nadgrids=GRID +type=crs",
    "+proj=longlat +geoidgrids=GRID",
    "+init=GRID:4326",
    "+proj=pipeline +step +proj=hgridshift +grids=GRID",
    "+proj=tinshift +file=GRID",
    "proj=defmodel model=GRID",
    *(
        f'{WKT1[:-1]},EXTENSION["PROJ4","{text}"]]'
        for text in ("+proj=longlat +nadgrids=GRID", "+init=GRID:4326", "nadgrids = GRID")
    ),
    VERTICAL.format('EXTENSION["PROJ4_GRIDS","GRID"]'),
    f'COMPD_CS["c",{WKT1},{VERTICAL.format("EXTENSION[PROJ4_GRIDS,GRID]")}]',
    f'COMPOUNDCRS["c",{WKT2},VERTCRS["v",VDATUM["d"],CS[vertical,1],AXIS["up",up],LENGTHUNIT["metre",1],'
    'GEOIDMODEL["PROJ GRID"]]]',
    DERIVED.format(method="PROJ longlat nadgrids=GRID"),
    DERIVED.format(method="PROJ-based operation method: +proj=hgridshift +grids=GRID"),
    "http://www.opengis.net/GRID",
    "https://example.org/GRID",
    "urn:ogc:def:crs:FILE::GRID",
    "file://GRID",
    "GRID",
]
"""Texts with which PROJ, or GDAL, opens GRID or asks an address, while it parses or transforms."""


def respelt(text: str, chance: random.Random) -> str:
    """Return another spelling: of letters, of spaces, of brackets, of what lies around it."""
    wkt = text.partition("GRID")[0].count("[") > 0 and text[0] not in "{+p"
    if text[0] == "{":
        word = chance.choice(("value", "parameters", "transformation", "GRID"))
        letter = chance.choice(word)
        text = text.replace(word, word.replace(letter, f"\\u{ord(letter):04x}"))
        text = json.dumps(json.loads(text), indent=chance.choice((None, 1)))
        if chance.random() < 0.3:  # the last of two keys counts
            text = text.replace('"value": "GRID"', '"value": 1, "value": "GRID"')
    elif wkt:
        for bracket in "[],":
            space = "".join(chance.choices(" \n\t\r\v\f", k=chance.randrange(3)))
            text = text.replace(bracket, bracket + space if chance.random() < 0.5 else bracket)
        if chance.random() < 0.3:
            text = text.replace("[", " [")
        if chance.random() < 0.3:
            text = text.replace("[", "(").replace("]", ")")
        for word in ("PARAMETERFILE", "EXTENSION", "METHOD", "GEOIDMODEL", "BOUNDCRS"):
            changed = "".join(chance.choice((c.lower(), c)) for c in word)
            text = text.replace(word, changed if chance.random() < 0.7 else word)
        if chance.random() < 0.2:
            text = f'COMPOUNDCRS["c",{text}]'
        if chance.random() < 0.1:
            text = text.replace('"', "\u201c", 1).replace('"', "\u201d", 1)
    elif chance.random() < 0.5:
        text = text.replace(" ", chance.choice(("  ", "\t", "\n", ";", " + "))).replace(
            "=", chance.choice(("=", " =", "= "))
        )
    return chance.choice(("", " ", "\n", "\ufeff")) + text + chance.choice(("", " ", "\n"))


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_no_spelling_of_a_file_passes(number: int) -> None:
    chance = random.Random(number)
    for _ in range(150):
        text = respelt(SEEDS[number], chance).replace("GRID", "/no/grid.gsb")
        with pytest.raises(ValueError):
            check_system(text)
        with pytest.raises(ValueError):
            system_of(text)


def test_ordinary_systems_pass() -> None:
    """A few hundred of PROJ's database, in all spellings."""
    database = Path(rasterio.__file__).parent / "proj_data" / "proj.db"
    if not database.exists():
        pytest.skip("PROJ's database lies elsewhere")
    with sqlite3.connect(f"{database.as_uri()}?mode=ro&immutable=1", uri=True) as base:
        rows = base.execute(
            "SELECT auth_name, code FROM crs_view WHERE type != 'other' ORDER BY 1, 2"
        ).fetchall()
    different, count = [], 0
    for number, (authority, code) in enumerate(rows[::40]):
        crs = CRS.from_user_input(f"{authority}:{code}")
        texts = [json.dumps(crs.to_dict(projjson=True))]
        for version in ("WKT1_GDAL", "WKT1_ESRI", "WKT2_2015", "WKT2_2019"):
            try:
                texts.append(crs.to_wkt(version=version))
            except rasterio.errors.CRSError:
                continue
        for text in texts:
            check_system(text)
            count += 1
        text = texts[number % len(texts)]
        if system_of(text) != CRS.from_user_input(text):
            different.append((authority, code, text))
    assert count > 1000 and not different


# -- files that GDAL opens ----------------------------------------------------------


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Callable[[], bool]]:
    """Make a pipe named "grid" and tell whether something opened it; it waits for nobody."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    pipe, opened = tmp_path / "grid", threading.Event()
    os.mkfifo(pipe)

    def watch() -> None:
        os.close(os.open(pipe, os.O_WRONLY))
        opened.set()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    yield opened.is_set
    os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
    watcher.join(5)


PIXELS = np.full((1, 20, 24), 7, np.uint8)
PLACE = from_origin(10, 50, 0.001, 0.001)
LONG = WKT1.replace('"WGS 84"', f'"{"L" * 6000}"', 1).replace(',AUTHORITY["EPSG","4326"]]', "]")


def _write(path: Path, driver: str, crs: str | None = None, **options: str) -> Path:
    with rasterio.open(
        path,
        "w",
        driver=driver,
        height=20,
        width=24,
        count=1,
        dtype="uint8",
        crs=crs,
        transform=PLACE,
        **options,
    ) as dataset:
        dataset.write(PIXELS)
    return path


def _auxiliary(folder: Path, text: str) -> Path:
    path = _write(folder / "a.tif", "GTiff")
    (folder / "a.tif.aux.xml").write_text(
        f"<PAMDataset><SRS>{quoteattr(text)[1:-1]}</SRS></PAMDataset>"
    )
    return path


def _auxiliary_points(folder: Path, text: str) -> Path:
    path = _write(folder / "a.png", "PNG")
    points = "".join(
        f'<GCP Id="{n}" Pixel="{n}" Line="{n * n}" X="{n}" Y="{n}"/>' for n in range(4)
    )
    (folder / "a.png.aux.xml").write_text(
        f"<PAMDataset><GCPList Projection={quoteattr(text)}>{points}</GCPList></PAMDataset>"
    )
    return path


def _auxiliary_esri(folder: Path, text: str) -> Path:
    path = _write(folder / "a.tif", "GTiff")
    (folder / "a.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="xml:ESRI" format="xml"><GeodataXform><SpatialReference><WKT>'
        f"{quoteattr(text)[1:-1]}</WKT></SpatialReference></GeodataXform></Metadata></PAMDataset>"
    )
    return path


def _vrt(folder: Path, text: str) -> Path:
    _write(folder / "a.tif", "GTiff")
    path = folder / "a.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="24" rasterYSize="20"><SRS>{quoteattr(text)[1:-1]}</SRS>'
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">a.tif'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path


def _imagine(folder: Path, text: str) -> Path:
    return _swapped(_write(folder / "a.img", "HFA", LONG, FORCETOPESTRING="YES"), text)


def _swapped(path: Path, text: str) -> Path:
    """Put `text` in place of the long system in a file."""
    data = path.read_bytes()
    found = re.search(rb'GEOGC?[CR]S\["(?:GCS_)?LLLL', data)
    assert found
    place = found.start()
    end = data.index(b"\0", place)
    assert len(text.encode()) <= end - place
    path.write_bytes(data[:place] + text.encode().ljust(end - place) + data[end:])
    return path


def _envi(folder: Path, text: str) -> Path:
    path = _write(folder / "a.img", "ENVI")
    with (folder / "a.hdr").open("a") as header:
        header.write(f"\ncoordinate system string = {{{text}}}\n")
    return path


def _beside(folder: Path, text: str) -> Path:
    path = _write(folder / "a.bil", "EHdr")
    (folder / "a.prj").write_text(text)
    return path


def _ascii(folder: Path, text: str) -> Path:
    path = folder / "a.asc"
    path.write_text(f"ncols 24\nnrows 20\nxllcorner 0\nyllcorner 0\ncellsize 1\n{'7 ' * 480}")
    (folder / "a.prj").write_text(text)
    return path


def _rraster(folder: Path, text: str) -> Path:
    path = _write(folder / "a.grd", "RRASTER", "EPSG:4326")
    path.write_text(f"{path.read_text()}\n[georeference]\nprojection={text}\nwkt={text}\n")
    return path


def _geopackage(folder: Path, text: str) -> Path:
    path = _write(folder / "a.gpkg", "GPKG", LONG)
    base = sqlite3.connect(path)
    base.execute("UPDATE gpkg_spatial_ref_sys SET definition = ? WHERE srs_id > 4326", (text,))
    base.commit()
    base.close()
    return path


IMAGES = (
    *(_auxiliary, _auxiliary_points, _auxiliary_esri, _vrt, _imagine),
    *(_envi, _beside, _ascii, _rraster, _geopackage),
)


@pytest.mark.parametrize("make", IMAGES, ids=lambda make: make.__name__[1:])
def test_no_image_has_a_file_opened(
    make: Callable[[Path, str], Path], grid: Callable[[], bool], tmp_path: Path
) -> None:
    for number, seed in enumerate(SEEDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = make(folder, seed.replace("GRID", str(tmp_path / "grid")))
        try:
            image = nr.open_image(path)
            nr.plan(image, "identity", mask="SRID=3857;POLYGON ((0 0, 9 0, 9 9, 0 0))")
        except RestoreError as error:
            assert error.hint, seed
        assert not grid(), seed


@pytest.mark.parametrize("make", IMAGES, ids=lambda make: make.__name__[1:])
def test_images_with_ordinary_systems_open(
    make: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    image = nr.open_image(make(tmp_path, CRS.from_epsg(32633).to_wkt()))
    assert (image.crs and "32633" in image.crs) or make in (_beside, _ascii, _imagine)
    assert not any("left out" in note for note in image.notes)


# -- masks --------------------------------------------------------------------------

RING = [(10.01, 49.99), (10.02, 49.99), (10.02, 49.97), (10.01, 49.99)]
SHAPE = struct.pack("<BIII", 1, 3, 1, 4) + b"".join(struct.pack("<2d", *point) for point in RING)


def _vector(folder: Path, text: str, driver: str, suffix: str) -> Path:
    raw = pytest.importorskip("pyogrio.raw")
    path = folder / f"m{suffix}"
    raw.write(
        path,
        np.array([SHAPE], object),
        [np.array([1])],
        ["a"],
        geometry_type="Polygon",
        crs=LONG,
        driver=driver,
    )
    if suffix == ".gpkg":
        base = sqlite3.connect(path)
        base.execute("UPDATE gpkg_spatial_ref_sys SET definition = ? WHERE srs_id > 4326", (text,))
        base.commit()
        base.close()
    elif suffix == ".shp":
        path.with_suffix(".prj").write_text(text)
    else:
        _swapped(path, text)
    return path


def _geojson(folder: Path, text: str, within: str, key: str) -> Path:
    """Write the system where `within` says, in the file or in a geometry of it."""
    crs = {"type": key, "properties": {key: text}}
    geometry = {"type": "Polygon", "coordinates": [RING]}
    feature = {"type": "Feature", "properties": {"a": 1}, "geometry": geometry}
    whole = {"type": "FeatureCollection", "features": [feature]}
    {"file": whole, "feature": feature, "geometry": geometry}[within]["crs"] = crs
    (folder / "m.geojson").write_text(json.dumps(whole))
    return folder / "m.geojson"


MASKS: dict[str, Callable[[Path, str], Path]] = {
    "gpkg": lambda folder, text: _vector(folder, text, "GPKG", ".gpkg"),
    "shp": lambda folder, text: _vector(folder, text, "ESRI Shapefile", ".shp"),
    "fgb": lambda folder, text: _vector(folder, text, "FlatGeobuf", ".fgb"),
    "geojson": lambda folder, text: _geojson(folder, text, "file", "name"),
    "geojson-url": lambda folder, text: _geojson(folder, text, "file", "url"),
    "feature": lambda folder, text: _geojson(folder, text, "feature", "name"),
    "geometry": lambda folder, text: _geojson(folder, text, "geometry", "name"),
}


@pytest.mark.parametrize("kind", MASKS)
def test_no_mask_has_a_file_opened(kind: str, grid: Callable[[], bool], tmp_path: Path) -> None:
    image = nr.open_image(_write(tmp_path / "a.tif", "GTiff", "EPSG:4326"))
    for number, seed in enumerate(SEEDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = MASKS[kind](folder, seed.replace("GRID", str(tmp_path / "grid")))
        for where in (None, "a = 1"):
            try:
                read_polygons(path, image, where=where)
            except RestoreError as error:
                assert error.hint, seed
        assert not grid(), seed


@pytest.mark.parametrize("kind", MASKS)
def test_masks_with_ordinary_systems_are_read(kind: str, tmp_path: Path) -> None:
    image = nr.open_image(_write(tmp_path / "a.tif", "GTiff", "EPSG:4326"))
    path = MASKS[kind](tmp_path, WKT1)
    for where in (None, "a = 1") if kind != "geojson-url" else ():
        (polygon,) = read_polygons(path, image, where=where)
        assert np.allclose(polygon[0][0], (10, 10), atol=1e-6)
