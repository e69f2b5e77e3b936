"""Polygons and gradients: read from GeoJSON in any CRS; polygons drawn into pixel masks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore._json_shapes import read_json
from napari_restore.errors import BadMask
from napari_restore.images._image import Image
from napari_restore.images._source import Box
from napari_restore.images.files._handles import ignore_missing_georeference
from napari_restore.images.masks._inline import parse_inline

Ring = list[tuple[float, float]]
Polygon = list[Ring]
"""Outer ring, then holes; points are (x, y) with pixel edges at whole numbers."""

_GEOJSON_CRS = "OGC:CRS84"
_KNOWN_CRS = re.compile(
    r"urn:ogc:def:|[A-Za-z_]+:\w+$|[A-Z0-9_]+\s*\[|\{|\+proj=|https?://(www\.)?opengis\.net/"
)
"""Coordinate systems that GDAL may resolve by name. It would fetch any other address, and read
any other file."""


def read_polygons(source: Path | str, image: Image) -> list[Polygon]:
    """Return the polygons of a GeoJSON file, or of text, in pixel coordinates of `image`.

    Coordinates are in the ``crs`` that GeoJSON names, else longitude and latitude as in RFC 7946;
    those of WKT are in the image's own system. For an image without georeference they are pixels.
    """
    polygons, _, crs = _read(source)
    if not polygons:
        raise BadMask(f"{_named(source)} contains no polygon.", "Draw at least one.")
    return [[_to_pixels(ring, image, crs) for ring in polygon] for polygon in polygons]


def read_gradient(source: Path | str, image: Image) -> Ring | None:
    """Return the two ends of the only line in a GeoJSON file, or in text, as `read_polygons`.

    None if there is anything else.
    """
    polygons, lines, crs = _read(source)
    if polygons or len(lines) != 1 or len(lines[0]) != 2:
        return None
    return _to_pixels(lines[0], image, crs)


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


def _to_pixels(ring: Ring, image: Image, crs: str) -> Ring:
    xs, ys = [p[0] for p in ring], [p[1] for p in ring]
    reference = image.georeference
    if reference is not None and reference.transform is not None:
        from rasterio._err import CPLE_BaseError
        from rasterio.errors import CRSError
        from rasterio.transform import Affine
        from rasterio.warp import transform

        unknown = BadMask(
            f"The mask's coordinate system {crs[:80]!r} is unknown.",
            "Save it as EPSG:4326 or in the image's own system.",
        )
        # Before anything resolves it.
        if reference.crs_wkt and crs and not _KNOWN_CRS.match(crs):
            raise unknown
        if reference.crs_wkt and crs and not _is_same(crs, reference.crs_wkt):
            try:
                xs, ys = transform(crs, reference.crs_wkt, xs, ys)[:2]
            except CRSError:
                raise unknown from None
            except CPLE_BaseError as error:
                raise _wrong_position(crs) from error
        inverse = ~Affine(*reference.transform)
        pixels = [inverse * (x, y) for x, y in zip(xs, ys, strict=True)]
        if not np.isfinite(pixels).all():
            raise _wrong_position(crs)
        return [(float(x), float(y)) for x, y in pixels]
    return list(zip(xs, ys, strict=True))


def _is_same(crs: str, wkt: str) -> bool:
    """Return whether two systems are the same.

    If so, coordinates stay unchanged, to the last digit.
    """
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return bool(CRS.from_user_input(crs) == CRS.from_wkt(wkt))
    except CRSError:
        return False


def _wrong_position(crs: str) -> BadMask:
    return BadMask(
        "The mask's coordinates have no place in the image's coordinate system.",
        f"They were taken as {crs}: save them so, or name their system in the file.",
    )
