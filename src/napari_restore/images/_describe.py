"""Description of how an image will be read, in plain data for `info`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from napari_restore.errors import Message, option
from napari_restore.images._black_white import needs_percentile, resolve_radiometry
from napari_restore.images._georeference import Georeference, crs_name
from napari_restore.images._image import Image
from napari_restore.images._profile import Tags
from napari_restore.images.files.exif import exif_summary
from napari_restore.images.products.product import number
from napari_restore.images.values.presets import COLOURS


def describe(
    image: Image,
    percentile: Callable[[float], float] | None = None,
    *,
    black: float | None = None,
    white: float | None = None,
) -> dict[str, Any]:
    """Return size, bands, georeference, validity, black and white with their reasons; JSON-able.

    `percentile` is called only where white depends on all values; without it white is None and the
    reason says so. `black` and `white` override the values of the image.
    """
    profile, place, preset = image.profile, image.georeference, image.preset
    values = _range(image, percentile, black, white)
    origins = image.described.origins or (None,) * image.bands
    return {
        "path": None if image.path is None else str(image.path),
        "name": image.name,
        "format": profile.driver,
        "size": [image.height, image.width],
        "dtype": image.dtype.name,
        "planes": [[axis.name, axis.length] for axis in image.planes.axes],
        "plane": image.plane,
        "bands": [
            {
                "number": band + 1,
                "kind": kind,
                "role": image.roles[band],
                "wavelength_nm": image.wavelengths[band],
                "zero": None if kind == "auxiliary" else zero,
                "from": origin,
                "description": image.descriptions[band],
            }
            for band, (kind, zero, origin) in enumerate(
                zip(image.described.kinds, values["black"], origins, strict=True)
            )
        ],
        "levels": [list(shape) for shape in image.level_shapes],
        "stored_levels": image.stored_levels,
        "chunk": list(image.chunk),
        "compression": profile.compression,
        "read": "in place" if image.reader.random_access else "streamed once into the cache",
        "crs": image.crs,
        "crs_name": None if image.crs is None else crs_name(image.crs),
        "transform": None if image.transform is None else list(image.transform),
        "pixel_size": place and place.pixel_size and list(place.pixel_size),
        "bounds": None if place is None else _bounds(place, image.height, image.width),
        "units": "pixel" if place is None else place.units,
        "area_or_point": None if place is None else place.area_or_point,
        "gcps": 0 if place is None else len(place.gcps),
        "rpcs": place is not None and place.rpcs is not None,
        "nodata": _nodata(image.nodata),
        "masks": profile.masks,
        **values,
        "sensor": profile.sensor if image.sensor is None or preset is None else preset.id,
        "product": None if preset is None else {"title": preset.title, "from": preset.named_by},
        "advice": _advice(image),
        "acquisition": _acquisition(profile.tags),
        "is_reflectance": profile.is_reflectance,
        "orientation": profile.orientation,
        "colour_profile": profile.icc is not None,
        "exif": exif_summary(profile.exif),
        "notes": list(image.notes),
    }


def naming_hint(image: Image, roles: Sequence[str]) -> Message:
    """Return the sentence on how to name the bands of these roles."""
    # It gives no numbers: names may say otherwise.
    bands = option("bands", ",".join(f"{role}=N" for role in roles))
    preset, detected, count = image.preset, image.profile.sensor, len(image.data_bands)
    hint = f"Name the bands with {bands}, counted from 1"
    if image.sensor is None and detected is not None:
        hint = f"{hint}, or the sensor with {option('sensor', detected)}"
    elif image.sensor is None and preset is None:
        hint = f"{hint}, or the sensor with {option('sensor', 'NAME')}"
    elif image.sensor is not None and preset is not None and preset.of_count(count) is None:
        hint = f"The order of {count} bands of {preset.title} is not known. {hint}"
    return Message(f"{hint}.")


def _advice(image: Image) -> Message | None:
    """Return how to name red, green and blue, where a band without a role may be one of them."""
    missing = [colour for colour in COLOURS if colour not in image.roles]
    if image.bands < len(COLOURS) or not missing or image.roles.count(None) < len(missing):
        return None
    return naming_hint(image, COLOURS)


def _acquisition(tags: Tags) -> dict[str, Any]:
    """Return when and how a scene was taken, by tags as GDAL and this package name them."""
    imagery, plain = tags.get("IMAGERY", {}), tags.get("", {})
    return {
        "platform": imagery.get("SATELLITEID"),
        "time": imagery.get("ACQUISITIONDATETIME"),
        "cloud_cover": number(imagery.get("CLOUDCOVER")),
        "sun_azimuth": number(plain.get("SUN_AZIMUTH")),
        "sun_elevation": number(plain.get("SUN_ELEVATION")),
    }


def _nodata(value: float | None) -> float | str | None:
    """Return NaN by its name: JSON has none, and null is for an image without nodata."""
    return str(value) if value is not None and not math.isfinite(value) else value


def _bounds(place: Georeference, height: int, width: int) -> list[float] | None:
    """Return [left, bottom, right, top] of the box around all corners, in map units."""
    if not place.is_placed:
        return None
    corners = [place.to_world(x, y) for x in (0, width) for y in (0, height)]
    xs, ys = zip(*corners, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def _range(
    image: Image,
    percentile: Callable[[float], float] | None,
    black: float | None,
    white: float | None,
) -> dict[str, Any]:
    waits = percentile is None and needs_percentile(image, white, black)
    known = (lambda _: 1e300) if waits else percentile
    radiometry = resolve_radiometry(image, percentile=known, black=black, white=white)
    return {
        "black": radiometry.black.tolist(),
        "black_reason": radiometry.black_reason,
        "white": None if waits else radiometry.white,
        "white_reason": "99.9 percentile, known after one pass"
        if waits
        else radiometry.white_reason,
    }
