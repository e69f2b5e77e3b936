"""Areas given as text instead of a file: WKT in the image's own system, or GeoJSON."""

from __future__ import annotations

import re
from typing import Any

from napari_restore._json_shapes import parse_json
from napari_restore.errors import BadMask

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
