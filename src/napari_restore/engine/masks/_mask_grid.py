"""Position of an image's pixels in a mask with a georeference of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region, bounding_box
from napari_restore.errors import BadMask
from napari_restore.images import Georeference, Image, turns_onto

SAME = 1e-6
"""Grids that differ by less than this share of a pixel are the same."""
_STEPS = 65
"""Points along each side of a mask from which its bounds in another CRS are computed."""
_PIXELS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""The georeference of an image without one: its own pixels."""


@dataclass(frozen=True)
class MaskGrid:
    """Mapping from pixels of an image to those of a mask: nearest pixel, no averaging."""

    image: Georeference
    mask: Georeference
    mask_size: tuple[int, int]
    image_size: tuple[int, int]
    reprojected: bool
    """Whether the two coordinate systems differ."""

    @classmethod
    def between(cls, mask: Image, image: Image) -> MaskGrid | None:
        """Return None if the mask's pixels are the image's, or the mask has no georeference at all.

        Where the image has no georeference, a mask of another size without a coordinate system is
        taken in the image's pixels, as polygons are then.
        """
        image_reference, mask_reference = image.georeference, mask.georeference
        same_size = (mask.height, mask.width) == (image.height, image.width)
        if mask_reference is None or mask_reference.transform is None:
            return None
        if image_reference is None or image_reference.transform is None:
            if same_size or mask_reference.crs_wkt is not None:
                return None
            image_reference = Georeference(transform=_PIXELS)
        grid = cls(
            image_reference,
            mask_reference,
            (mask.height, mask.width),
            (image.height, image.width),
            _differ(image_reference.crs_wkt, mask_reference.crs_wkt),
        )
        if grid.reprojected or not same_size:
            return grid
        corners = np.array([[0, 0], [0, image.width], [image.height, 0]], float)
        rows, columns = grid._to_mask(corners[:, 0], corners[:, 1])
        apart = np.abs(np.stack([rows, columns], axis=1) - corners).max()
        return grid if apart > SAME * max(image.height, image.width) else None

    @property
    def name(self) -> list[Any]:
        """Identifier of this mapping, JSON-able."""
        return [
            [list(place.transform or ()), place.crs_wkt if self.reprojected else None]
            for place in (self.image, self.mask)
        ]

    @property
    def bounds(self) -> Region:
        """The image's pixels, perhaps beyond its border, that the mask can cover."""
        height, width = self.mask_size
        along = np.linspace(0, 1, _STEPS)
        rows = np.concatenate([0 * along, 0 * along + 1, along, along]) * height
        columns = np.concatenate([along, along, 0 * along, 0 * along + 1]) * width
        x, y = _forward(self.mask, columns, rows)
        if self.reprojected:
            x, y = _reproject(self.mask.crs_wkt, self.image.crs_wkt, x, y)
        finite = np.isfinite(x) & np.isfinite(y)
        if not finite.any():
            return Region(0, 0, 0, 0)
        x, y = x[finite], y[finite]
        seen = self.image.longitudes(self.image_size)
        turns = turns_onto(seen, float(x.min()), float(x.max()))
        return bounding_box([self._bounds(x + turn, y) for turn in turns])

    def _bounds(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Region:
        """Return the image's pixels around points on its map."""
        columns, rows = _backward(self.image, x, y)
        # Straight edges of one map are slightly curved in another.
        slack = 2 + (0.01 * max(np.ptp(rows), np.ptp(columns)) * self.reprojected)
        return Region(
            int(np.floor(rows.min() - slack)),
            int(np.floor(columns.min() - slack)),
            int(np.ceil(rows.max() + slack)),
            int(np.ceil(columns.max() + slack)),
        )

    def places(self, box: Region) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (h, w) row and column in the mask, whole numbers, of each pixel's centre.

        They may lie outside the mask; NaN where the coordinate system has no such place.
        """
        rows, columns = np.mgrid[box.y0 : box.y1, box.x0 : box.x1].astype(np.float64) + 0.5
        rows, columns = self._to_mask(rows.ravel(), columns.ravel())
        return np.floor(rows).reshape(box.shape), np.floor(columns).reshape(box.shape)

    def _to_mask(
        self, rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        x, y = _forward(self.image, columns, rows)
        if self.reprojected:
            x, y = _reproject(self.image.crs_wkt, self.mask.crs_wkt, x, y)
        if (there := self.mask.longitudes(self.mask_size)) is not None:
            # Those of a mask from 0 to 360 are -180 to 180 elsewhere.
            with np.errstate(invalid="ignore"):
                turns = np.floor((x - there[0]) / 360)
                x = np.where((x < there[0]) | (x >= there[1]), x - 360 * turns, x)
        columns, rows = _backward(self.mask, x, y)
        return rows, columns


Points = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _forward(place: Georeference, columns: Any, rows: Any) -> Points:
    x, y = place.to_world(columns, rows)
    return np.asarray(x), np.asarray(y)


def _backward(place: Georeference, x: Any, y: Any) -> Points:
    with np.errstate(invalid="ignore"):
        columns, rows = place.to_pixel(x, y)
    return np.asarray(columns), np.asarray(rows)


def _differ(one: str | None, mask_reference: str | None) -> bool:
    """Return whether two systems differ; a missing one is taken to be equal."""
    if one is None or mask_reference is None or one == mask_reference:
        return False
    from rasterio.crs import CRS

    return bool(CRS.from_wkt(one) != CRS.from_wkt(mask_reference))


def _reproject(source: str | None, target: str | None, x: Any, y: Any) -> Points:
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    try:
        xs, ys = transform(source, target, x, y)[:2]
    except (RasterioError, CPLE_BaseError) as error:
        raise BadMask(
            "The mask's coordinate system cannot be brought to the image's.",
            "Save the mask in the image's own system.",
        ) from error
    return np.asarray(xs, np.float64), np.asarray(ys, np.float64)
