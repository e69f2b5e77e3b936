"""Pixels with coordinates, CRS and nodata as an `xarray.DataArray`, as rioxarray writes and reads it."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_restore.errors import BadParameter
from napari_restore.images._base import ImageBase

GRID_MAPPING = "spatial_ref"
"""Name of the coordinate that carries the CRS, as in rioxarray and the CF conventions."""


def data_array(pixels: Any, image: ImageBase, origin: tuple[int, int], name: str) -> Any:
    """Return `pixels`, a lazy array (h, w, C) with the bands of `image`, with dims (band, y, x).

    `origin` (y, x) is the pixel of `image` on which it begins. Coordinates are those of pixels'
    centres; a rotated grid has none but its transform. Raises `BadParameter` where xarray is not
    installed.
    """
    try:
        import xarray
    except ImportError:
        raise BadParameter(
            "Labelled arrays are made by xarray, which is not installed.",
            'Install it: pip install "napari-restore[xarray]".',
        ) from None
    height, width, count = pixels.shape
    coordinates: dict[str, Any] = {"band": np.arange(1, count + 1)}
    attributes: dict[str, Any] = {}
    if any(image.descriptions):
        # As rioxarray: the names of the bands.
        attributes["long_name"] = tuple(label or "" for label in image.descriptions)
    if any(image.roles):
        coordinates["role"] = ("band", [role or "" for role in image.roles])
    if any(image.wavelengths):
        waves = [np.nan if wave is None else wave for wave in image.wavelengths]
        coordinates["wavelength"] = ("band", waves, {"units": "nm"})
    if image.nodata is not None:
        attributes["_FillValue"] = image.dtype.type(image.nodata)
    place = image.georeference
    if place is not None and place.is_placed:
        place = place.shifted(origin[1], origin[0])
        assert place.transform is not None
        a, b, c, d, e, f = place.transform
        if b == d == 0:
            coordinates["x"] = c + a * (np.arange(width) + 0.5)
            coordinates["y"] = f + e * (np.arange(height) + 0.5)
        grid = {"GeoTransform": " ".join(repr(float(v)) for v in (c, a, b, f, d, e))}
        if place.crs_wkt:
            grid |= {"crs_wkt": place.crs_wkt, "spatial_ref": place.crs_wkt}
        coordinates[GRID_MAPPING] = ((), 0, grid)
    made = xarray.DataArray(
        pixels.transpose(2, 0, 1), coordinates, ("band", "y", "x"), name=name, attrs=attributes
    )
    if GRID_MAPPING in coordinates:
        made.encoding["grid_mapping"] = GRID_MAPPING
    return made
