"""Strength of a mask per pixel: rasters, polygons, feathered edges."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region, bounding_box, cut
from napari_restore.errors import BadMask
from napari_restore.images import Georeference, Image, Match, rasterise, turns_onto

PIECE_PIXELS = 2**21
"""Larger boxes are feathered and blended in pieces of this many pixels."""
_PIECE_ROWS = 1024
_ONE = 2**30
"""1 in the integers in which feathering is computed: their sums are exact."""
_FADED_AT_ONCE = 2**18
"""Pixels of a box whose running sums, in float64, are in memory at the same time."""


class MaskStrength(Protocol):
    """A strength in [0, 1] per level-0 pixel, read box by box."""

    digest: str
    """Identifies the content, for keys and records."""
    bounds: Region
    """Box outside of which the strength is 0."""

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        """Return (h, w) strengths of `box`."""
        ...


class RasterMask:
    """A raster's first band as strengths, placed by its georeference.

    Floats are 0 … 1. Integers are 0 or 1 if none is larger, whatever their dtype, else 0 … the
    dtype's largest value. Without a georeference on both sides, the raster must have the image's
    size. 0 outside of it and where it is not valid.

    With `chosen`, a band's number from 0 and what is meant of it each, the strength is 1 where one of
    them holds and 0 elsewhere. A value that is named counts where it is the one of nodata, too.
    """

    def __init__(
        self, mask: Image, image: Image, chosen: Sequence[tuple[int, Match]] | None = None
    ) -> None:
        self.raster, self._chosen = mask, chosen
        self._size = (image.height, image.width)
        self._grid = MaskGrid.between(mask, image)
        same_size = (mask.height, mask.width) == self._size
        if self._grid is None and not same_size:
            raise BadMask(
                f"The mask is {mask.width} × {mask.height} pixels, "
                f"the image {image.width} × {image.height}.",
                "Use a mask of the image's size or with a georeference, or polygons as GeoJSON.",
            )
        self._scale = 1.0
        if chosen is None and mask.dtype.kind in "iu" and codes_of(mask).largest > 1:
            self._scale = float(np.iinfo(mask.dtype).max)
        whole = Region(0, 0, *self._size)
        self.digest, self.bounds = mask.fingerprint, whole
        if chosen is not None:
            self.digest = short_digest([mask.fingerprint, chosen])
        if self._grid is not None:
            self.digest = short_digest([self.digest, self._grid.name])
            self.bounds = self._grid.bounds.intersect(whole)
            if self.bounds.is_empty:
                raise BadMask(
                    "The mask lies outside the image.", "Check the mask's coordinate system."
                )

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        if self._grid is None:
            return self._strengths(box)
        strength = np.zeros(box.shape, np.float32)
        inside = box.intersect(self.bounds)
        if inside.is_empty:
            return strength
        # Small pieces: where the mask is finer than the image, its part is larger.
        for piece in pieces_of(inside, 512, 512 * 512):
            strength[piece.within(box)] = self._grid.nearest(piece, self._strengths, np.float32)
        return strength

    def _strengths(self, box: Region) -> npt.NDArray[np.float32]:
        """Return (h, w) strengths of `box` in the mask's own pixels."""
        if self._chosen is not None:
            return self._is_chosen(box, self._chosen).astype(np.float32)
        values = self.raster.read(box)[..., 0].astype(np.float32)
        values /= np.float32(self._scale)
        strength: npt.NDArray[np.float32] = np.clip(np.nan_to_num(values, nan=0.0), 0.0, 1.0)
        if self.raster.may_be_invalid:
            strength[~self.raster.read_valid(box)] = 0
        return strength

    def _is_chosen(self, box: Region, chosen: Sequence[tuple[int, Match]]) -> npt.NDArray[np.bool_]:
        pixels, raster = self.raster.read(box), self.raster
        found = np.zeros(box.shape, bool)
        bits = np.zeros(box.shape, bool)
        for band, (low, high, mask, _) in chosen:
            values = pixels[..., band]
            if mask is None:
                found |= (values >= low) & (values <= high)
                continue
            # Stacks with floats have bits as floats.
            whole = np.nan_to_num(values, nan=0, posinf=0, neginf=0).astype(np.int64)
            masked = whole & mask
            bits |= (masked >= low) & (masked <= high)
        if bits.any() and raster.may_be_invalid:
            bits &= raster.read_valid(box)
        return found | bits


class PolygonMask:
    """Polygons in pixel coordinates (x, y), drawn box by box; 1 inside, 0 outside."""

    def __init__(self, polygons: list[Any], height: int, width: int) -> None:
        self.polygons = polygons
        self.digest = short_digest(polygons)
        points = np.array([p for polygon in polygons for ring in polygon for p in ring], float)
        if len(points) == 0:
            raise BadMask("The mask contains no polygon.", "Draw at least one.")
        self.bounds = box_around(points).intersect(Region(0, 0, height, width))
        if self.bounds.is_empty:
            raise BadMask(
                "All polygons lie outside the image.", "Check the mask's coordinate system."
            )

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        return rasterise(self.polygons, box).astype(np.float32)


class RegionMask:
    """1 inside any of the regions, 0 outside."""

    def __init__(self, regions: list[Region]) -> None:
        self.regions = regions
        self.digest = short_digest(regions)
        self.bounds = bounding_box(regions)

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        strength = np.zeros(box.shape, np.float32)
        for region in self.regions:
            inner = region.intersect(box)
            if not inner.is_empty:
                strength[inner.within(box)] = 1
        return strength


class Within:
    """Another mask inside any of the regions, 0 outside."""

    def __init__(self, mask: MaskStrength, regions: MaskStrength) -> None:
        self.mask, self.regions = mask, regions
        self.digest = f"{mask.digest}-{regions.digest}"
        self.bounds = mask.bounds.intersect(regions.bounds)

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        return self.mask.read(box) * self.regions.read(box)


class Feathered:
    """Another mask whose edges fade over `width` pixels on the inside."""

    # The fade is a twice repeated box mean, so a box's values need `width` further pixels around
    # it; exact sums make them independent of how the image is cut.
    def __init__(self, mask: MaskStrength, width: int, size: tuple[int, int]) -> None:
        self.mask, self.width, self._size = mask, width, size
        self.digest = f"{mask.digest}-{width}"
        self.bounds = mask.bounds

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        faded = np.empty(box.shape, np.float32)
        for piece in pieces_of(box, pixels=PIECE_PIXELS // 2):
            faded[piece.within(box)] = self._faded(piece)
        return faded

    def _faded(self, box: Region) -> npt.NDArray[np.float32]:
        margin = self.width
        wide = box.expand(margin)
        inside = wide.intersect(Region(0, 0, *self._size))
        sharp = self.mask.read(inside)
        values = sharp[box.within(inside)].copy()
        if sharp.min() == sharp.max() and sharp[0, 0] in (0, 1):
            return values
        # The image's border is no edge of the mask: it is continued outwards.
        if inside != wide:
            rows = (inside.y0 - wide.y0, wide.y1 - inside.y1)
            columns = (inside.x0 - wide.x0, wide.x1 - inside.x1)
            sharp = np.pad(sharp, [rows, columns], mode="edge")
        radii = (margin // 2, margin - margin // 2)
        faded: npt.NDArray[np.float32] = _box_means(sharp, radii).astype(np.float32)
        faded *= np.float32(2 / _ONE)
        faded -= 1
        np.clip(faded, 0, 1, out=faded)
        faded *= values
        return faded


def feathered(strength: MaskStrength, feather: int, image: Image) -> MaskStrength:
    """Return the mask with a fade of `feather` pixels, or itself when that is 0."""
    if feather <= 0:
        return strength
    return Feathered(strength, feather, (image.height, image.width))


def pieces_of(box: Region, rows: int = _PIECE_ROWS, pixels: int = PIECE_PIXELS) -> Iterator[Region]:
    """Return `box` cut into pieces of at most `rows` rows and `pixels` pixels."""
    high = max(1, min(rows, box.height))
    return cut(box, high, max(1, pixels // high))


class Codes(NamedTuple):
    """Which values above 0 a raster has."""

    least: float
    """0 if there are none, as `largest`."""
    largest: float


_codes: dict[str, Codes] = {}
"""By fingerprint."""


def codes_of(mask: Image) -> Codes:
    """Return the least and the largest valid value above 0 of a raster's first band, read once."""
    key = mask.fingerprint
    if key not in _codes:
        least = largest = 0.0
        for block in pieces_of(Region(0, 0, mask.height, mask.width), _PIECE_ROWS):
            values = mask.read(block)[..., 0]
            if mask.may_be_invalid:
                values = values[mask.read_valid(block)]
            values = values[values > 0]
            if values.size:
                largest = max(largest, values.max().item())
                least = min(least or largest, values.min().item())
        _codes[key] = Codes(least, largest)
    return _codes[key]


def _box_means(values: npt.NDArray[np.float32], radii: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Return means over boxes of (2 radius + 1)² for each radius in turn, 0 … `_ONE`.

    `values` (h, w) in [0, 1]; the result is smaller by the sum of the radii on all sides, so that
    every box is whole. Sums of whole numbers below 2**53 are exact in float64, which makes each
    mean the same wherever the sum began.
    """
    margin = sum(radii)
    height, width = values.shape[0] - 2 * margin, values.shape[1] - 2 * margin
    down = np.empty((height, values.shape[1]), np.int32)
    step = max(1, _FADED_AT_ONCE // values.shape[0])
    for x in range(0, values.shape[1], step):
        piece = np.rint(values[:, x : x + step].astype(np.float64) * _ONE)
        down[:, x : x + step] = _running_means(piece, radii, 0)
    across = np.empty((height, width), np.int32)
    step = max(1, _FADED_AT_ONCE // values.shape[1])
    for y in range(0, height, step):
        across[y : y + step] = _running_means(down[y : y + step].astype(np.float64), radii, 1)
    return across


def _running_means(
    values: npt.NDArray[np.float64], radii: tuple[int, int], axis: int
) -> npt.NDArray[np.float64]:
    for radius in radii:
        count = 2 * radius + 1
        total = np.cumsum(values, axis)
        total = np.insert(total, 0, 0, axis)
        length = total.shape[axis]
        later = np.take(total, np.arange(count, length), axis)
        values = np.rint((later - np.take(total, np.arange(length - count), axis)) / count)
    return values


def box_around(points: npt.NDArray[np.float64], slack: float = 0) -> Region:
    """Return the box of whole pixels around points (x, y), and `slack` more of them on each side."""
    x0, y0 = np.floor(points.min(axis=0) - slack).astype(int).tolist()
    x1, y1 = np.ceil(points.max(axis=0) + slack).astype(int).tolist()
    return Region(y0, x0, y1, x1)


def short_digest(parts: Any) -> str:
    """Return a digest of what is JSON-able."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


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
        """Return None if the mask's pixels are the image's, or the mask has no georeference at all."""
        image_reference, mask_reference = image.georeference, mask.georeference
        same_size = (mask.height, mask.width) == (image.height, image.width)
        if mask_reference is None or mask_reference.transform is None:
            return None
        # Where the image has no georeference, a mask of another size without a coordinate system is
        # taken in the image's pixels, as polygons are then.
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
        return box_around(np.stack([columns, rows], axis=1), slack)

    def nearest(
        self,
        box: Region,
        read: Callable[[Region], npt.NDArray[Any]],
        dtype: npt.DTypeLike,
        step: int = 1,
    ) -> npt.NDArray[Any]:
        """Return (h, w) the values of `read`, of a box of the mask, at each pixel's centre; 0 outside.

        `box` is of an overview whose pixels have `step` of the image's along a side.
        """
        rows, columns = self.positions(box, step)
        height, width = self.mask_size
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        values = np.zeros(box.shape, dtype)
        if not inside.any():
            return values
        rows, columns = rows[inside].astype(np.int64), columns[inside].astype(np.int64)
        top, left = int(rows.min()), int(columns.min())
        part = read(Region(top, left, int(rows.max()) + 1, int(columns.max()) + 1))
        values[inside] = part[rows - top, columns - left]
        return values

    def positions(
        self, box: Region, step: int = 1
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (h, w) row and column in the mask, whole numbers, of each pixel's centre.

        They may lie outside the mask; NaN where the coordinate system has no such place. `step` is as
        for `nearest`.
        """
        rows, columns = np.mgrid[box.y0 : box.y1, box.x0 : box.x1].astype(np.float64) * step
        # The pixel of the image that an overview takes.
        rows, columns = rows + step // 2 + 0.5, columns + step // 2 + 0.5
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
