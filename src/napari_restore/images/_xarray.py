"""Pixels as lazy arrays: of dask, and with coordinates, CRS and nodata as rioxarray writes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from napari_restore.errors import BadParameter
from napari_restore.images._base import ImageBase
from napari_restore.images._source import Box

GRID_MAPPING = "spatial_ref"
"""Name of the coordinate that carries the CRS, as in rioxarray and the CF conventions."""


@dataclass(frozen=True)
class _Boxes:
    """What is read by boxes, with the array interface that dask needs: a shape, a dtype, slices."""

    read: Callable[[Box], npt.NDArray[Any]]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, where: tuple[slice, ...]) -> npt.NDArray[Any]:
        (y0, y1, _), (x0, x1, _), *_ = map(slice.indices, where, self.shape)
        return self.read((y0, x0, y1, x1))[:, :, *where[2:]]


def lazy_array(
    read: Callable[[Box], npt.NDArray[Any]],
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    chunk: tuple[int, int],
) -> Any:
    """Return a dask array (h, w) or (h, w, C) of `shape`, which calls `read` with the box of each chunk."""
    return read_again(_Boxes(read, shape, np.dtype(dtype)), (*chunk, *shape[2:]))


def read_again(array: Any, chunks: Any) -> Any:
    """Return a dask array of `array`, which is read each time that this is computed."""
    # Its name is random: nothing is hashed, and chunks that are written later appear. With
    # ``name=False`` dask would ask a socket for the address of the network card.
    import dask.array as da

    return da.from_array(  # type: ignore[no-untyped-call]
        array,
        chunks=chunks,
        name=f"pixels-{uuid4()}",
        asarray=False,
        fancy=False,
        meta=np.empty((0,) * array.ndim, array.dtype),
    )


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
