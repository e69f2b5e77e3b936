"""Where and how strongly a result is applied: masks, polygons, feathered edges."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.errors import BadMask
from napari_restore.images import Image, open_image, rasterise


class Weight(Protocol):
    """A strength in [0, 1] per level-0 pixel, read box by box."""

    digest: str
    """Names the content, for keys and records."""
    bounds: Region
    """Nothing outside this box has a strength above 0."""

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        """(h, w) strengths of `box`."""
        ...


class RasterWeight:
    """A one-band raster of the image's size: 0 … 1, or 0 … its dtype's maximum."""

    def __init__(self, mask: Image, height: int, width: int) -> None:
        if (mask.height, mask.width) != (height, width):
            raise BadMask(
                f"The mask is {mask.width} × {mask.height} pixels, the image {width} × {height}.",
                "Use a mask of the image's size, or polygons as GeoJSON.",
            )
        self._mask = mask
        self._scale = float(np.iinfo(mask.dtype).max) if mask.dtype.kind in "iu" else 1.0
        if mask.dtype.kind == "u" and mask.dtype.itemsize == 1:
            self._scale = float(max(1, _maximum(mask)))
        self.digest = mask.fingerprint
        self.bounds = Region(0, 0, height, width)

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        values = self._mask.read(box)[..., 0].astype(np.float32) / np.float32(self._scale)
        weight: npt.NDArray[np.float32] = np.clip(np.nan_to_num(values, nan=0.0), 0.0, 1.0)
        return weight


class PolygonWeight:
    """Polygons in pixel coordinates (x, y), drawn box by box; 1 inside, 0 outside."""

    def __init__(self, polygons: list[Any], height: int, width: int) -> None:
        self._polygons = polygons
        text = json.dumps(polygons, sort_keys=True)
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        points = np.array([p for polygon in polygons for ring in polygon for p in ring], float)
        if len(points) == 0:
            raise BadMask("The mask holds no polygon.", "Draw at least one.")
        x0, y0 = np.floor(points.min(axis=0)).astype(int)
        x1, y1 = np.ceil(points.max(axis=0)).astype(int)
        self.bounds = Region(int(y0), int(x0), int(y1), int(x1)).intersect(
            Region(0, 0, height, width)
        )
        if self.bounds.is_empty:
            raise BadMask(
                "All polygons lie outside the image.", "Check the mask's coordinate system."
            )

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        return rasterise(self._polygons, box).astype(np.float32)


class RegionWeight:
    """1 inside any of the regions, 0 outside."""

    def __init__(self, regions: list[Region]) -> None:
        self._regions = regions
        self.digest = hashlib.sha256(json.dumps(regions).encode()).hexdigest()[:16]
        bounds = regions[0]
        for region in regions[1:]:
            bounds = bounds.union(region)
        self.bounds = bounds

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        weight = np.zeros(box.shape, np.float32)
        for region in self._regions:
            inner = region.intersect(box)
            if not inner.is_empty:
                weight[inner.shift(-box.y0, -box.x0).slices] = 1
        return weight


class Feathered:
    """Another weight whose edges fade over `width` pixels on the inside.

    The fade is a twice repeated box mean, so a box's values need `width` further
    pixels around it and do not depend on how the image is cut.
    """

    def __init__(self, weight: Weight, width: int, size: tuple[int, int]) -> None:
        self._weight, self._width, self._size = weight, width, size
        self.digest = f"{weight.digest}-{width}"
        self.bounds = weight.bounds

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        margin = self._width
        wide = box.expand(margin)
        inside = wide.intersect(Region(0, 0, *self._size))
        sharp = self._weight.read(inside)
        pad = [
            (inside.y0 - wide.y0, wide.y1 - inside.y1),
            (inside.x0 - wide.x0, wide.x1 - inside.x1),
        ]
        # The image's own border is no edge of the mask: it is continued outwards.
        sharp = np.pad(sharp, pad, mode="edge")
        half = margin // 2
        soft = _box_mean(_box_mean(sharp, half), margin - half)
        inner = slice(margin, -margin)
        faded: npt.NDArray[np.float32] = np.clip(2 * soft[inner, inner] - 1, 0, 1).astype(
            np.float32
        )
        faded *= sharp[inner, inner]
        return faded


def open_weight(mask: str | Path, image: Image, feather: int = 0) -> Weight:
    """The weight in `mask`: a raster of the image's size, or GeoJSON polygons."""
    path = Path(mask)
    weight: Weight
    if path.suffix.lower() in (".geojson", ".json"):
        from napari_restore.images import read_polygons

        weight = PolygonWeight(read_polygons(path, image), image.height, image.width)
    else:
        weight = RasterWeight(open_image(path), image.height, image.width)
    return feathered(weight, feather, image)


def feathered(weight: Weight, feather: int, image: Image) -> Weight:
    """`weight` with a fade of `feather` pixels, or itself when that is 0."""
    if feather <= 0:
        return weight
    return Feathered(weight, feather, (image.height, image.width))


def _maximum(mask: Image) -> int:
    """The largest value of an 8-bit mask: masks of 0/1 and of 0/255 are both in use."""
    largest = 0
    for y in range(0, mask.height, 1024):
        rows = mask.read((y, 0, min(y + 1024, mask.height), mask.width))
        largest = max(largest, int(rows.max(initial=0)))
    return largest


def _box_mean(values: npt.NDArray[Any], radius: int) -> npt.NDArray[np.float64]:
    """Means over boxes of (2 radius + 1)², of fewer pixels at the array's edges."""
    result = values.astype(np.float64)
    for axis in (0, 1):
        length = result.shape[axis]
        total = np.concatenate(
            [np.zeros_like(result.take([0], axis)), np.cumsum(result, axis)], axis
        )
        index = np.arange(length)
        low, high = np.maximum(index - radius, 0), np.minimum(index + radius + 1, length)
        shape = [1, 1]
        shape[axis] = length
        result = (total.take(high, axis) - total.take(low, axis)) / (high - low).reshape(shape)
    return result
