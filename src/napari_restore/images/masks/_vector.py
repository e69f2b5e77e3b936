"""Polygons and gradients: read from files in any CRS and from text; polygons drawn into pixel masks."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._json_shapes import parse_json, read_json
from napari_restore.errors import BadMask
from napari_restore.images._georeference import LEAST, turns_onto
from napari_restore.images._image import Image
from napari_restore.images._source import Box
from napari_restore.images._system import system_of
from napari_restore.images.files.handles import ignore_missing_georeference
from napari_restore.images.masks._ogr import SUFFIXES, read_shapes

Ring = list[tuple[float, float]]
Polygon = list[Ring]
"""Outer ring, then holes; points are (x, y) with pixel edges at whole numbers."""

_BETWEEN = 15
"""Points on a line that show on which side of the globe it runs."""
_GLOBAL = (
    "Mercator_1SP", "Mercator_2SP", "Equirectangular", "Cylindrical_Equal_Area",
    "Miller_Cylindrical", "Robinson", "Mollweide", "Sinusoidal", "Eckert_IV", "Eckert_VI",
    "Winkel_Tripel", "Natural_Earth", "Equal_Earth", "Gall_Stereographic",
)  # fmt: skip
"""Projections, by their names in WKT, that show the globe as one sheet."""
_GEOJSON_CRS = "OGC:CRS84"


def read_polygons(
    source: Path | str, image: Image, layer: str | None = None, where: str | None = None
) -> list[Polygon]:
    """Return the polygons of a vector file, or of text, in pixel coordinates of `image`.

    Coordinates are in the ``crs`` that GeoJSON names, else longitude and latitude as in RFC 7946;
    those of WKT are in the image's own system. For an image without georeference they are pixels.
    `layer` and `where` are as for `read_shapes`, which reads other files than GeoJSON.
    """
    if isinstance(source, Path) and (where is not None or is_vector(source)):
        polygons, crs = read_shapes(source, layer, where)
        if polygons and not crs and image.transform is not None:
            raise BadMask(
                f"{source.name} has no coordinate system.",
                f"Give it one: ogr2ogr -a_srs EPSG:4326 {source.stem}.gpkg {source.name}.",
            )
    else:
        polygons, _, crs = _read(source)
    if not polygons:
        hint = "Draw at least one." if where is None else "Check the attributes it is chosen by."
        raise BadMask(f"{_named(source)} contains no polygon.", hint)
    return [on_image for polygon in polygons for on_image in _to_pixels(polygon, image, crs)]


def is_vector(path: Path) -> bool:
    """Return whether a file's suffix is of those that only GDAL's vector drivers read."""
    return path.suffix.lower() in SUFFIXES


def read_gradient(source: Path | str, image: Image) -> Ring | None:
    """Return the two ends of the only line in a GeoJSON file, or in text, as `read_polygons`; None for others."""
    polygons, lines, crs = _read(source)
    if polygons or len(lines) != 1 or len(lines[0]) != 2:
        return None
    return _to_pixels([lines[0]], image, crs)[0][0]


def _named(source: Path | str) -> str:
    return str(source) if isinstance(source, Path) else "The mask"


def _read(source: Path | str) -> tuple[list[Polygon], list[Ring], str]:
    """Return (polygons, lines, crs) in their own coordinates; crs is "" for those of the image."""
    path = _named(source)
    inline_crs = None
    if isinstance(source, str):
        data, inline_crs = parse_inline(source)
    elif source.exists() and not source.is_file():
        raise BadMask(f"{path} is no plain file.", "Name a GeoJSON file.")
    try:
        if isinstance(source, Path):
            data = read_json(source)
        geometries = list(_geometries(data))
        named = data.get("crs") or {}
        crs = (
            str(named.get("properties", {}).get("name", _GEOJSON_CRS))
            if inline_crs is None
            else inline_crs
        )
        rings = [_rings(polygon) for geometry in geometries for polygon in _polygons(geometry)]
        lines = [_points(g["coordinates"]) for g in geometries if g["type"] == "LineString"]
    except OSError as error:
        raise BadMask(
            f"The mask {path} cannot be read: {error.strerror}.", "Check the name."
        ) from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise BadMask(
            f"{path} is no GeoJSON or WKT of polygons.", "Save the polygons as GeoJSON."
        ) from error
    return rings, lines, crs


def rasterise(polygons: list[Polygon], box: Box) -> npt.NDArray[np.uint8]:
    """Return (h, w) mask of `box`: 1 where a pixel's centre lies inside a polygon."""
    from rasterio.features import rasterize
    from rasterio.transform import Affine

    y0, x0, y1, x1 = box
    shapes = [{"type": "Polygon", "coordinates": polygon} for polygon in polygons]
    with ignore_missing_georeference():
        mask: npt.NDArray[np.uint8] = rasterize(
            shapes,
            out_shape=(y1 - y0, x1 - x0),
            transform=Affine.translation(x0, y0),
            dtype="uint8",
        )
    return mask


def _geometries(data: dict[str, Any]) -> list[dict[str, Any]]:
    if data["type"] == "FeatureCollection":
        return [g for feature in data["features"] for g in _geometries(feature)]
    if data["type"] == "Feature":
        return [data["geometry"]] if data["geometry"] else []
    if data["type"] == "GeometryCollection":
        return [g for geometry in data["geometries"] for g in _geometries(geometry)]
    return [data]


def _polygons(geometry: dict[str, Any]) -> list[Any]:
    if geometry["type"] == "Polygon":
        return [geometry["coordinates"]]
    if geometry["type"] == "MultiPolygon":
        return list(geometry["coordinates"])
    return []


def _rings(polygon: Any) -> Polygon:
    """Yield longitude and latitude, or x and y, of all corners; a height is left out."""
    rings = [_points(ring) for ring in polygon]
    if not rings or min(len(ring) for ring in rings) < 4:
        raise ValueError("a ring has at least four points")
    return rings


def _points(ring: Any) -> Ring:
    return [(float(point[0]), float(point[1])) for point in ring]


def _to_pixels(polygon: Polygon, image: Image, crs: str) -> list[Polygon]:
    """Return `polygon`, or one line, in pixels of `image`: perhaps in parts, or several times."""
    # Longitudes count modulo 360, and maps of the globe end somewhere.
    reference = image.georeference
    if reference is None or reference.transform is None:
        return [polygon]
    from rasterio.transform import Affine

    longitudes = reference.longitudes((image.height, image.width))
    inverse = ~Affine(*reference.transform)
    found = []
    for part in _on_map(polygon, image, crs):
        for turn in turns_onto(longitudes, *_width(part)):
            pixels = [[inverse * (x + turn, y) for x, y in ring] for ring in part]
            if not all(np.isfinite(ring).all() for ring in pixels):
                raise _wrong_position(crs)
            found.append([[(float(x), float(y)) for x, y in ring] for ring in pixels])
    return found


def _on_map(polygon: Polygon, image: Image, crs: str) -> list[Polygon]:
    """Return `polygon` in the coordinates of `image`, without jumps where its map ends."""
    # Lines are straight in the mask's own system. One of more than 180 degrees crosses the
    # antimeridian, as in GeoJSON; in the image's own system only if the image is smaller than that.
    from rasterio._err import CPLE_BaseError
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    reference = image.georeference
    assert reference is not None
    wkt, longitudes = reference.crs_wkt, reference.longitudes((image.height, image.width))
    own = not (wkt and crs)
    try:
        source = None if own else system_of(crs)
        # If it is the same, coordinates stay unchanged, to the last digit.
        same = source is None or source == CRS.from_wkt(str(wkt))
    except ValueError:
        raise _unknown(crs) from None
    if source is None or same:
        wide = longitudes is not None and longitudes[1] - longitudes[0] > 180
        # A plain name of the system was typed; areas that were drawn have a longer one, or none.
        literal = longitudes is None or (wide and not crs.startswith("EPSG:"))
        return [polygon if literal else _aligned([_unbroken(ring) for ring in polygon])]
    geographic = bool(source.is_geographic)
    if geographic:
        polygon = _aligned([_unbroken(ring) for ring in polygon])
    try:
        if longitudes is not None:
            return [_moved(polygon, source, wkt, turning=True)]
        if (seam := _seam(str(wkt))) is not None:
            system = source if geographic else _GEOJSON_CRS
            degrees = polygon if geographic else _moved(polygon, source, system, turning=True)
            parts = _cut(degrees, seam)
            if parts != [degrees]:
                return [_moved(part, system, wkt) for part in parts]
        return [_moved(polygon, source, wkt)]
    except CRSError:
        raise _unknown(crs) from None
    except CPLE_BaseError as error:
        raise _wrong_position(crs) from error


def _moved(polygon: Polygon, source: Any, target: Any, *, turning: bool = False) -> Polygon:
    """Return `polygon` in another system; `turning` to longitudes without jumps of 360."""
    from rasterio.warp import transform

    def moved(ring: Ring) -> Ring:
        xs, ys = transform(source, target, [p[0] for p in ring], [p[1] for p in ring])[:2]
        return list(zip(xs, ys, strict=True))

    rings = [moved(ring) for ring in polygon]
    if not turning:
        return rings
    pairs = zip(polygon, rings, strict=True)
    return _aligned([_continued(before, ring, moved) for before, ring in pairs])


def _seam(wkt: str) -> float | None:
    """Return the longitude at which a map of the globe is cut open; None for other systems."""
    projection = re.search(r'PROJECTION\["([^"]*)"', wkt)
    if projection is None or projection[1] not in _GLOBAL:
        return None
    middle = re.search(r'PARAMETER\["(?:central_meridian|longitude_of_center)",([-\d.]+)', wkt)
    return (float(middle[1]) if middle else 0.0) + 180


def _cut(polygon: Polygon, seam: float) -> list[Polygon]:
    """Return the parts of `polygon`, in degrees, between meridians `seam` + 360 n."""
    low, high = _width(polygon)
    if not math.isfinite(low + high) or polygon[0][0] != polygon[0][-1]:
        return [polygon]
    first = math.floor((low - seam) / 360)
    edges = [seam + 360 * n for n in range(first, first + 3 + int((high - low) / 360))]
    touched = [edge for edge in edges if low <= edge <= high]
    # PROJ takes -180 and 180 for what they say; elsewhere a point on the seam has two places.
    if not touched or (seam % 360 == 180 and -180 <= low and high <= 180):
        return [polygon]
    parts = []
    for left, right in itertools.pairwise(edges):
        rings = [_clipped(_clipped(r, left + LEAST, 1), right - LEAST, -1) for r in polygon]
        if len(rings[0]) > 3:
            parts.append([ring for ring in rings if len(ring) > 3])
    return parts


def _clipped(ring: Ring, edge: float, side: int) -> Ring:
    """Return the closed `ring` on one side of a meridian: 1 east, -1 west (Sutherland, Hodgman)."""
    kept: Ring = []
    for (x0, y0), (x1, y1) in itertools.pairwise(ring):
        if (x0 - edge) * side >= 0:
            kept.append((x0, y0))
        if (x0 - edge) * (x1 - edge) < 0:
            kept.append((edge, y0 + (y1 - y0) * (edge - x0) / (x1 - x0)))
    return [*kept, kept[0]] if kept else []


def _width(polygon: Polygon) -> tuple[float, float]:
    xs = [x for ring in polygon for x, _ in ring]
    return min(xs), max(xs)


def _unbroken(ring: Ring) -> Ring:
    """Return `ring` of longitudes and latitudes with those behind the antimeridian beyond 180."""
    turn, unbroken = 0.0, ring[:1]
    for (before, _), (x, y) in itertools.pairwise(ring):
        step = abs(x - before)
        if 359 <= step < 360 - LEAST:
            raise BadMask(
                f"A line of the mask runs from {before:g} to {x:g} degrees: round the globe, or "
                "across the antimeridian?",
                "Cut the area in two at 180, or write longitudes beyond it (179 to 181).",
            )
        if 180 < step < 359:
            turn += 360.0 if x < before else -360.0
        unbroken.append((x + turn, y))
    # A ring around a pole would not close.
    return ring if turn and ring[0] == ring[-1] else unbroken


def _continued(before: Ring, after: Ring, moved: Callable[[Ring], Ring]) -> Ring:
    """Return the longitudes and latitudes `after`, of the ring `before`, without jumps of 360."""
    # Where two points are more than 180 degrees apart, points between them show the way.
    turn, ring = 0.0, after[:1]
    steps = zip(itertools.pairwise(before), itertools.pairwise(after), strict=True)
    for ((x0, y0), (x1, y1)), ((here, _), (there, latitude)) in steps:
        if abs(there - here) > 180 and math.isfinite(there - here):
            shares = np.linspace(0, 1, 2 + _BETWEEN)
            line = moved([(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t) for t in shares])
            way = np.unwrap([x for x, _ in line], period=360)
            turn += 360.0 * round((float(way[-1] - way[0]) - (there - here)) / 360)
        ring.append((there + turn, latitude))
    return after if turn and before[0] == before[-1] else ring


def _aligned(rings: Polygon) -> Polygon:
    """Return `rings` with the holes moved by whole turns to where the outer ring is."""
    middle = [(min(x for x, _ in ring) + max(x for x, _ in ring)) / 2 for ring in rings]
    if not np.isfinite(middle).all():
        return rings
    turns = [360.0 * round((middle[0] - own) / 360) for own in middle]
    return [[(x + t, y) for x, y in ring] for ring, t in zip(rings, turns, strict=True)]


def _unknown(crs: str) -> BadMask:
    return BadMask(
        f"The mask's coordinate system {crs[:80]!r} is unknown.",
        "Save it as EPSG:4326 or in the image's own system.",
    )


def _wrong_position(crs: str) -> BadMask:
    return BadMask(
        "The mask's coordinates have no place in the image's coordinate system.",
        f"They were taken as {crs}: save them so, or name their system in the file.",
    )


_WKT = re.compile(
    r"\s*(?:SRID=(?P<srid>\d+);)?\s*(?P<kind>MULTIPOLYGON|POLYGON|LINESTRING)\s*Z?\s*(?P<body>\(.*\))\s*",
    re.IGNORECASE | re.DOTALL,
)
_KINDS = {"MULTIPOLYGON": "MultiPolygon", "POLYGON": "Polygon", "LINESTRING": "LineString"}


def is_inline(mask: object) -> bool:
    """Return whether `mask` is WKT or GeoJSON itself and no file name."""
    return isinstance(mask, str) and (
        mask.lstrip().startswith("{") or _WKT.fullmatch(mask) is not None
    )


def parse_inline(mask: str) -> tuple[dict[str, Any], str | None]:
    """Return the GeoJSON object, and for WKT its system: ``"EPSG:N"``, or "" for the image's own.

    For GeoJSON the object itself names it, and None is returned. Raises `BadMask`.
    """
    match = _WKT.fullmatch(mask)
    if match is None:
        try:
            data = parse_json(mask)
        except ValueError as error:
            raise BadMask(f"The mask is no GeoJSON: {error}.", "Check its brackets.") from None
        if not isinstance(data, dict):
            raise BadMask("The mask is no GeoJSON.", "Write a geometry or a feature.")
        return data, None
    # "30 10, 40 40" becomes [30,10],[40,40].
    points = re.sub(
        r"[^(),]+", lambda m: f"[{','.join(m[0].split())}]" if m[0].strip() else "", match["body"]
    )
    try:
        coordinates = parse_json(points.replace("(", "[").replace(")", "]"))
    except ValueError:
        raise BadMask(
            "The mask is no WKT.", "Write for instance POLYGON ((0 0, 90 0, 90 60, 0 0))."
        ) from None
    geometry = {"type": _KINDS[match["kind"].upper()], "coordinates": coordinates}
    return geometry, f"EPSG:{match['srid']}" if match["srid"] else ""


def wkt_of(geometry: dict[str, Any]) -> str:
    """Return a GeoJSON polygon, multipolygon or line as WKT, all digits kept."""
    kind, coordinates = geometry["type"], geometry["coordinates"]
    if kind == "MultiPolygon" and len(coordinates) == 1:
        kind, coordinates = "Polygon", coordinates[0]
    return f"{kind.upper()} {_group(coordinates)}"


def _group(items: Any) -> str:
    if isinstance(items[0][0], (list, tuple)):
        return f"({', '.join(map(_group, items))})"
    return f"({', '.join(f'{x!r} {y!r}' for x, y in items)})"
