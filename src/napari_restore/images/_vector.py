"""Polygons: read from GeoJSON in any CRS, drawn into pixel masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadMask
from napari_restore.images._image import Image
from napari_restore.images._source import Box

Ring = list[tuple[float, float]]
Polygon = list[Ring]
"""Outer ring, then holes; points are (x, y) with pixel edges at whole numbers."""

_GEOJSON_CRS = "OGC:CRS84"


def read_polygons(path: Path, image: Image) -> list[Polygon]:
    """The polygons of a GeoJSON file in pixel coordinates of `image`.

    Coordinates are in the file's named ``crs``, else longitude and latitude as
    RFC 7946 has it; an image without georeference takes them as pixels.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        geometries = list(_geometries(data))
    except OSError as error:
        raise BadMask(f"Cannot read the mask {path}: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadMask(f"{path} is no GeoJSON.", "Save the polygons as GeoJSON.") from None
    named = data.get("crs") or {}
    crs = named.get("properties", {}).get("name", _GEOJSON_CRS)
    polygons = [polygon for geometry in geometries for polygon in _polygons(geometry)]
    if not polygons:
        raise BadMask(f"{path} holds no polygon.", "Draw at least one.")
    return [[_to_pixels(ring, image, crs) for ring in polygon] for polygon in polygons]


def rasterise(polygons: list[Polygon], box: Box) -> npt.NDArray[np.uint8]:
    """(h, w) mask of `box`: 1 where a pixel's centre lies inside a polygon."""
    from rasterio.features import rasterize
    from rasterio.transform import Affine

    y0, x0, y1, x1 = box
    shapes = [{"type": "Polygon", "coordinates": polygon} for polygon in polygons]
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
        return list(data["geometries"])
    return [data]


def _polygons(geometry: dict[str, Any]) -> list[Any]:
    if geometry["type"] == "Polygon":
        return [geometry["coordinates"]]
    if geometry["type"] == "MultiPolygon":
        return list(geometry["coordinates"])
    return []


def _to_pixels(ring: list[list[float]], image: Image, crs: str) -> Ring:
    xs, ys = [float(p[0]) for p in ring], [float(p[1]) for p in ring]
    reference = image.georeference
    if reference is not None and reference.transform is not None:
        from rasterio.errors import CRSError
        from rasterio.transform import Affine
        from rasterio.warp import transform

        if reference.crs_wkt:
            try:
                xs, ys = transform(crs, reference.crs_wkt, xs, ys)[:2]
            except CRSError:
                raise BadMask(
                    f"The mask's coordinate system {crs!r} is unknown.",
                    "Save it as EPSG:4326 or in the image's own system.",
                ) from None
        inverse = ~Affine(*reference.transform)
        points = [inverse * (x, y) for x, y in zip(xs, ys, strict=True)]
        return [(float(x), float(y)) for x, y in points]
    return list(zip(xs, ys, strict=True))
