"""How an image will be read, in plain data for `info`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from napari_restore.images._black_white import needs_percentile, resolve_radiometry
from napari_restore.images._image import Image
from napari_restore.images.files._exif import exif_summary


def describe(image: Image, percentile: Callable[[float], float] | None = None) -> dict[str, Any]:
    """Size, bands, place, validity, black and white with their reasons; JSON-able.

    `percentile` is asked only where white depends on all values; without it white
    is None and the reason says so.
    """
    profile, place = image.profile, image.georeference
    return {
        "path": None if image.path is None else str(image.path),
        "name": image.name,
        "format": profile.driver,
        "size": [image.height, image.width],
        "dtype": image.dtype.name,
        "bands": [
            {"number": band + 1, "role": role, "wavelength_nm": wave, "description": text}
            for band, (role, wave, text) in enumerate(
                zip(image.roles, image.wavelengths, image.descriptions, strict=True)
            )
        ],
        "levels": [list(shape) for shape in image.level_shapes],
        "stored_levels": image.stored_levels,
        "chunk": list(image.chunk),
        "compression": profile.compression,
        "read": "in place" if image.reader.random_access else "streamed once into the cache",
        "crs": image.crs,
        "transform": None if image.transform is None else list(image.transform),
        "units": "pixel" if place is None else place.units,
        "area_or_point": None if place is None else place.area_or_point,
        "gcps": 0 if place is None else len(place.gcps),
        "rpcs": place is not None and place.rpcs is not None,
        "nodata": _nodata(image.nodata),
        "masks": profile.masks,
        **_range(image, percentile),
        "sensor": image.sensor or profile.sensor,
        "is_reflectance": profile.is_reflectance,
        "orientation": profile.orientation,
        "colour_profile": profile.icc is not None,
        "exif": exif_summary(profile.exif),
        "notes": list(image.notes),
    }


def _nodata(value: float | None) -> float | str | None:
    """NaN by its name: JSON has none, and null is for an image without nodata."""
    return str(value) if value is not None and not math.isfinite(value) else value


def _range(image: Image, percentile: Callable[[float], float] | None) -> dict[str, Any]:
    waits = percentile is None and needs_percentile(image)
    radiometry = resolve_radiometry(image, percentile=(lambda _: 1e300) if waits else percentile)
    return {
        "black": radiometry.black.tolist(),
        "black_reason": radiometry.black_reason,
        "white": None if waits else radiometry.white,
        "white_reason": "99.9 percentile, known after one pass"
        if waits
        else radiometry.white_reason,
    }
