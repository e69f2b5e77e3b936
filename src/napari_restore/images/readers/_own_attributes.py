"""Attributes of this package's exports in a zarr, checked before they are used."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_restore.errors import UnreadableImage
from napari_restore.images._georeference import ControlPoint, Georeference, units_of
from napari_restore.images._profile import Tags


@dataclass(frozen=True)
class OwnAttributes:
    """The attributes by name; those of bands have one item per band, or none."""

    nodata: float | None = None
    georeference: Georeference | None = None
    descriptions: tuple[str | None, ...] = ()
    colorinterp: tuple[str, ...] = ()
    wavelengths: tuple[float | None, ...] = ()
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    units: tuple[str | None, ...] = ()
    tags: Tags = ()  # type: ignore[assignment]
    band_tags: tuple[Tags, ...] = ()


def checked_attributes(given: Any, bands: int, name: str) -> OwnAttributes:
    """Return the `given` JSON, checked for an image of `bands`. Raises `UnreadableImage`."""
    field = ""
    try:
        attributes = {} if given is None else _mapping(given)
        values: dict[str, Any] = {}
        for field, check in _FIELDS.items():
            if attributes.get(field) is not None:
                values[field] = check(attributes[field])
        for field in _PER_BAND:
            if values.get(field) and len(values[field]) != bands:
                raise ValueError(f"{len(values[field])} items for {bands} bands")
        field = "place"
        place = _georeference(values)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise UnreadableImage(
            f"{name} has damaged attributes ({field or 'napari_restore'}: {error}).",
            "Remove the attribute 'napari_restore' of the zarr group, or save the image again.",
        ) from error
    fields = {field: values[field] for field in ("nodata", "tags", *_PER_BAND) if field in values}
    return OwnAttributes(**{"tags": {}, **fields}, georeference=place)


def _georeference(values: Mapping[str, Any]) -> Georeference | None:
    transform, wkt, gcps = values.get("transform"), values.get("crs_wkt"), values.get("gcps", ())
    if transform is None and wkt is None and not gcps and not values.get("rpcs"):
        return None
    units = "pixel"
    if wkt:
        from rasterio.crs import CRS
        from rasterio.errors import CRSError

        try:
            units = units_of(CRS.from_wkt(wkt))
        except CRSError as error:
            raise ValueError(f"no coordinate system: {error}") from error
    return Georeference(
        wkt,
        transform,
        gcps=gcps,
        gcps_crs_wkt=values.get("gcps_crs_wkt"),
        rpcs=values.get("rpcs"),
        area_or_point=values.get("area_or_point", "Area"),
        units=units,
    )


# -- checks, one per kind of value ---------------------------------------------------


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{type(value).__name__} instead of an object")
    return value


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{type(value).__name__} instead of a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} instead of a text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{type(value).__name__} instead of a number")
    return float(value)


def _finite(value: Any) -> float:
    number = _number(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


def _each(check: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(check(item) for item in _list(value))


def _optional(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else check(value)


def _texts(value: Any) -> dict[str, str]:
    return {str(key): _text(text) for key, text in _mapping(value).items()}


def _spaces(value: Any) -> dict[str, dict[str, str]]:
    return {str(space): _texts(texts) for space, texts in _mapping(value).items()}


def _transform(value: Any) -> tuple[float, ...]:
    six = tuple(_finite(item) for item in _list(value))
    if len(six) != 6:
        raise ValueError(f"{len(six)} numbers instead of six")
    if six[0] * six[4] == six[1] * six[3]:
        raise ValueError("pixels without an area")
    return six


def _point(value: Any) -> ControlPoint:
    point = _mapping(value)
    row, column, x, y = (_finite(point[key]) for key in ("row", "column", "x", "y"))
    z = _optional(_finite)(point.get("z"))
    return ControlPoint(
        row, column, x, y, z, _text(point.get("id", "")), _text(point.get("info", ""))
    )


_FIELDS: dict[str, Callable[[Any], Any]] = {
    "nodata": _number,
    "transform": _transform,
    "crs_wkt": _text,
    "gcps": _each(_point),
    "gcps_crs_wkt": _text,
    "rpcs": _texts,
    "area_or_point": _text,
    "descriptions": _each(_optional(_text)),
    "colorinterp": _each(_text),
    "wavelengths": _each(_optional(_number)),
    "scales": _each(_number),
    "offsets": _each(_number),
    "units": _each(_optional(_text)),
    "tags": _spaces,
    "band_tags": _each(_spaces),
}
_PER_BAND = (
    "descriptions", "colorinterp", "wavelengths", "scales", "offsets", "units", "band_tags",
)  # fmt: skip
