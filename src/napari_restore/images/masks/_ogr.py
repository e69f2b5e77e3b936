"""Polygons of vector files that GDAL reads: GeoPackage, Shapefile, KML, FlatGeobuf, GeoJSON.

A file is checked to be what its suffix says, so that GDAL tries no other driver on it, and is given to
GDAL as bytes: it sees no other file, and no name to follow.
"""

from __future__ import annotations

import io
import json
import math
import re
import sqlite3
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from napari_restore._json_shapes import LARGEST_FILE, read_json
from napari_restore._plain_files import read_file
from napari_restore.errors import BadMask, option
from napari_restore.images._system import check_system
from napari_restore.images.files.references import systems_of_geopackage
from napari_restore.images.files.xml import parse_xml

Ring = list[tuple[float, float]]
MOST_POINTS = 20_000_000
"""Points of all polygons of a file."""
_SHAPEFILE = (".shp", ".shx", ".dbf", ".prj", ".cpg")


def read_shapes(
    path: Path, layer: str | None = None, where: str | None = None
) -> tuple[list[list[Ring]], str]:
    """Return (polygons, crs) of a vector file, polygons as in `rasterise`, crs "" where it has none.

    `where` is an attribute filter as OGR's ``-where``. Raises `BadMask`, also without pyogrio.
    """
    if where is not None:
        _check_where(where)
    data = _CHECKED[path.suffix.lower()](path)
    names = _names(data, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = [_layer(data, number, where) for number in _chosen(names, layer, path)]
    except BadMask:
        raise
    except Exception as error:  # whatever pyogrio makes of a damaged file
        raise _unreadable(path, error) from error
    polygons = [polygon for shapes, _ in found for polygon in shapes]
    systems = {crs for shapes, crs in found if shapes}
    if len(systems) > 1:
        raise BadMask(
            f"The layers of {path.name} have several coordinate systems.",
            f"Name one layer: {option('exclude', f'{path.name}:{next(iter(names))}')}.",
        )
    return polygons, systems.pop() if systems else ""


def layers_of(path: Path) -> list[str]:
    """Return the names of the layers of a vector file that only GDAL reads; raises `BadMask`."""
    return list(_names(_CHECKED[path.suffix.lower()](path), path))


def _names(data: bytes, path: Path) -> dict[str, int]:
    """Return the numbers of the layers with shapes, by name."""
    try:
        import pyogrio
    except ImportError:
        raise BadMask(
            f"Reading {path.name} needs pyogrio, which is not installed.",
            'Install it: pip install "napari-restore[vector]", or convert the file: '
            f"ogr2ogr -t_srs EPSG:4326 {path.stem}.geojson {path.name}.",
        ) from None
    try:
        with warnings.catch_warnings():
            # Of a name in memory without its suffix.
            warnings.simplefilter("ignore", RuntimeWarning)
            layers = enumerate(pyogrio.list_layers(data))
            # GDAL calls a layer without a name like its file, which is in memory.
            return {
                path.stem if str(name).startswith("pyogrio_") else str(name): number
                for number, (name, kind) in layers
                if kind is not None
            }
    except Exception as error:  # whatever pyogrio makes of a damaged file
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> BadMask:
    # Of an error of the program itself the text says nothing.
    known = isinstance(error, (ValueError, RuntimeError))
    why = " ".join(str(error).split()).rstrip(".") if known else "it is damaged"
    return BadMask(
        f"{path.name} cannot be read: {why}.",
        f"Check the file, and {option('exclude_where')} where there is one.",
    )


def _chosen(names: dict[str, int], layer: str | None, path: Path) -> list[int]:
    """Return the numbers of the layers to read. The folders of a KML are its layers: all of them are meant."""
    if layer is not None and layer not in names:
        raise BadMask(
            f"{path.name} has no layer {layer!r}.", f"It has {', '.join(names) or 'none'}."
        )
    if layer is None and len(names) > 1 and path.suffix.lower() != ".kml":
        raise BadMask(
            f"{path.name} has {len(names)} layers, and which of them is meant is not known.",
            f"Name one: {path.name}:{next(iter(names))}. They are {', '.join(names)}.",
        )
    return list(names.values()) if layer is None else [names[layer]]


def _layer(data: bytes, number: int, where: str | None) -> tuple[list[list[Ring]], str]:
    from pyogrio.raw import read

    about, _, geometries, _ = read(data, layer=number, force_2d=True, where=where)
    polygons: list[list[Ring]] = []
    points = 0
    for geometry in () if geometries is None else geometries:
        if geometry is None:
            continue
        for polygon in _polygons_of(geometry):
            points += sum(map(len, polygon))
            if points > MOST_POINTS:
                raise BadMask(
                    f"The polygons have more than {MOST_POINTS} points.", "Simplify them first."
                )
            polygons.append(polygon)
    return polygons, about["crs"] or ""


# -- well-known binary -----------------------------------------------------------------


def _polygons_of(wkb: bytes) -> Iterator[list[Ring]]:
    """Yield the polygons of a geometry in two dimensions, whatever contains them."""
    stream = io.BytesIO(wkb)
    yield from _parts(stream, 0)
    if stream.read(1):
        raise ValueError("a geometry is longer than it says")


def _parts(stream: io.BytesIO, depth: int) -> Iterator[list[Ring]]:
    order = "<" if stream.read(1) == b"\1" else ">"
    (kind,) = struct.unpack(f"{order}I", stream.read(4))
    if kind == 1:
        stream.seek(16, io.SEEK_CUR)
    elif kind == 2:
        _ring(stream, order)
    elif kind == 3:
        rings = [_ring(stream, order) for _ in range(_count(stream, order))]
        # Empty polygons are no fault.
        if rings:
            if min(map(len, rings)) < 4:
                raise ValueError("a ring has fewer than four points")
            yield rings
    elif kind in (4, 5, 6, 7) and depth < 8:
        for _ in range(_count(stream, order)):
            yield from _parts(stream, depth + 1)
    else:
        raise ValueError(f"geometries of type {kind} are not supported")


def _count(stream: io.BytesIO, order: str) -> int:
    return int(struct.unpack(f"{order}I", stream.read(4))[0])


def _ring(stream: io.BytesIO, order: str) -> Ring:
    count = _count(stream, order)
    data = stream.read(16 * count)
    if len(data) != 16 * count:
        raise ValueError("a geometry ends too early")
    points = list(struct.iter_unpack(f"{order}2d", data))
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in points):
        raise ValueError("a point has no place")
    return points


# -- what a file is --------------------------------------------------------------------


def _read(path: Path) -> bytes:
    """Return the bytes of a plain file; raises `BadMask`."""
    try:
        return read_file(path, LARGEST_FILE)
    except FileNotFoundError:
        raise BadMask(f"There is no file {path}.", "Name a vector file.") from None
    except OSError as error:
        raise BadMask(
            f"The mask {path} cannot be read: {error.strerror}.",
            "Name a vector file; of a large one, keep the polygons of the image: ogr2ogr -clipsrc.",
        ) from error


def _with_magic(*magics: bytes) -> Callable[[Path], bytes]:
    def checked(path: Path) -> bytes:
        data = _read(path)
        if not data.startswith(magics):
            raise _not_of_its_kind(path)
        return data

    return checked


def _geopackage(path: Path) -> bytes:
    data = _with_magic(b"SQLite format 3\0")(path)
    journal = path.with_name(f"{path.name}-wal")
    if journal.exists() and journal.stat().st_size:
        raise BadMask(
            f"{path.name} is open in another program, which has not written all of it yet.",
            "Close it there first.",
        )
    if not hasattr(sqlite3.Connection, "deserialize"):  # SQLite may be built without it
        raise BadMask(
            "This Python reads no GeoPackage from memory.", "Save the polygons as GeoJSON."
        )
    # A view or a virtual table runs when it is read.
    connection = sqlite3.connect(":memory:")
    try:
        # A journal that is empty, and gone now: the file is whole without it.
        plain = data[:18] + b"\1\1" + data[20:]
        connection.deserialize(plain)
        schema = connection.execute(
            "SELECT type, sql FROM sqlite_master WHERE type IN ('view', 'table')"
        ).fetchall()
        systems = systems_of_geopackage(connection)
    except (sqlite3.Error, UnicodeDecodeError) as error:  # text of SQLite may be any bytes
        raise _not_of_its_kind(path) from error
    finally:
        connection.close()
    for text in systems:
        _check_system(text, path)
    for kind, sql in schema:
        text = str(sql or "")
        body = re.split(r"\bAS\b", text, maxsplit=1, flags=re.IGNORECASE)[-1]
        virtual = re.match(r"\s*CREATE\s+VIRTUAL\s+TABLE\b", text, re.IGNORECASE)
        is_index = re.search(r"\bUSING\s+[\"`\[]?rtree\b", text, re.IGNORECASE)
        generated = kind == "table" and re.search(r"\bAS\s*\(", text, re.IGNORECASE)
        if (kind == "view" and _calls(body)) or (virtual and not is_index) or generated:
            raise BadMask(
                f"{path.name} computes some of what it holds, and nothing that a file says is run.",
                "Save the polygons as a file of their own.",
            )
    return plain


def _kml(path: Path) -> bytes:
    data = _read(path)
    try:
        root = parse_xml(data)
    except ValueError as error:
        raise _not_of_its_kind(path) from error
    if root.tag.rpartition(":")[2] != "kml":
        raise _not_of_its_kind(path)
    return data


def _geojson(path: Path) -> bytes:
    try:
        data = read_json(path)
    except OSError as error:
        raise BadMask(
            f"The mask {path} cannot be read: {error.strerror}.", "Check the name."
        ) from error
    except ValueError as error:
        raise _not_of_its_kind(path) from error
    if not (isinstance(data, dict) and data.get("type") == "FeatureCollection"):
        raise BadMask(f"{path.name} is no GeoJSON with features.", "Only features have attributes.")
    try:
        known: dict[str, Any] = {"features": [_bare(feature) for feature in data["features"]]}
        if data.get("crs"):
            name = str(data["crs"]["properties"]["name"])
            known["crs"] = {"type": "name", "properties": {"name": name}}
            _check_system(name, path)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _not_of_its_kind(path) from error
    return json.dumps({"type": "FeatureCollection", "name": path.stem, **known}).encode()


def _bare(item: Any) -> Any:
    """Return a feature or geometry of GeoJSON without what else GDAL would follow: each may name a system."""
    if not item:
        return None
    bare = {key: item[key] for key in ("type", "id", "properties", "coordinates") if key in item}
    if "geometry" in item:
        bare["geometry"] = _bare(item["geometry"])
    if "geometries" in item:
        bare["geometries"] = [_bare(part) for part in item["geometries"]]
    return bare


def _flatgeobuf(path: Path) -> bytes:
    data = _with_magic(b"fgb\x03fgb")(path)
    try:
        crs = _pointed(data, 12 + struct.unpack_from("<I", data, 12)[0], 10)
        offsets = [_pointed(data, crs, number) if crs else 0 for number in (0, 5, 4)]
        sizes = [struct.unpack_from("<I", data, offset)[0] if offset else 0 for offset in offsets]
        spans = zip(offsets, sizes, strict=True)
        authority, code, text = (data[at + 4 : at + 4 + size].decode() for at, size in spans)
    except (struct.error, UnicodeDecodeError) as error:
        raise _not_of_its_kind(path) from error
    if not re.fullmatch(r"\w*:\w*", f"{authority}:{code}"):
        raise _not_of_its_kind(path)
    if text:
        _check_system(text, path)
    return data


def _pointed(data: bytes, table: int, number: int) -> int:
    """Return the offset that a field of a table of FlatBuffers points to, 0 for none."""
    fields = table - struct.unpack_from("<i", data, table)[0]
    known = 4 + 2 * number < struct.unpack_from("<H", data, fields)[0]
    offset = struct.unpack_from("<H", data, fields + 4 + 2 * number)[0] if known else 0
    return table + offset + struct.unpack_from("<I", data, table + offset)[0] if offset else 0


def _check_system(text: str, path: Path) -> None:
    try:
        check_system(text)
    except ValueError as error:
        raise BadMask(
            f"The coordinate system of {path.name} is not read: {error}.",
            "Save it as EPSG:4326 or in the image's own system.",
        ) from None


def _shapefile(path: Path) -> bytes:
    """Return the parts of a Shapefile as a zip archive: those of this name in this folder."""
    parts = {".shp": _with_magic(b"\0\0\x27\x0a")(path)}
    for suffix in _SHAPEFILE[1:]:
        part = next(
            (p for p in (path.with_suffix(suffix), path.with_suffix(suffix.upper())) if p.exists()),
            None,
        )
        if part is None:
            continue
        if part.resolve().parent != path.resolve().parent:
            raise BadMask(
                f"{part.name} is a link to another folder.", f"Copy all parts of {path.name}."
            )
        parts[suffix] = _read(part)
    if ".shx" not in parts:
        raise BadMask(
            f"{path.name} has no {path.stem}.shx beside it.",
            "Copy all parts of the Shapefile: .shp, .shx, .dbf, .prj.",
        )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as new:
        for suffix, data in parts.items():
            new.writestr(f"shapes{suffix}", data)
    return archive.getvalue()


_CHECKED: dict[str, Callable[[Path], bytes]] = {
    ".gpkg": _geopackage,
    ".shp": _shapefile,
    ".kml": _kml,
    ".fgb": _flatgeobuf,
    ".geojson": _geojson,
    ".json": _geojson,
}
SUFFIXES = frozenset(_CHECKED) - {".geojson", ".json"}
"""Of files that only GDAL reads."""


def _not_of_its_kind(path: Path) -> BadMask:
    return BadMask(
        f"{path.name} is no {path.suffix[1:].upper()} file.", "Save the polygons again, as GeoJSON."
    )


# -- expressions -----------------------------------------------------------------------

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]")
_WORDS = frozenset(
    "AND OR NOT IN LIKE ILIKE BETWEEN WHERE ON FROM JOIN SELECT CASE WHEN THEN ELSE".split()
)


def _calls(sql: str) -> bool:
    """Return whether an expression calls a function: GDAL's may open files and addresses."""
    bare = _QUOTED.sub(" q ", sql)
    return any(name.upper() not in _WORDS for name in re.findall(r"(\w+)\s*\(", bare))


def _check_where(where: str) -> None:
    """Raise `BadMask` for what is more than a comparison of attributes."""
    bare = _QUOTED.sub(" q ", where)
    if _calls(where) or re.search(r";|--|/\*|['\"`\[\]]|\bSELECT\b", bare, re.IGNORECASE):
        example = option("exclude_where", "class = 'water'")
        raise BadMask(
            f"{where[:80]!r} is no comparison of attributes.",
            f"Write for instance {example}, with AND, OR, NOT, IN, LIKE, BETWEEN; no functions.",
        )
