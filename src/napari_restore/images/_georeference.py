"""Position of an image on the ground."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Transform = tuple[float, float, float, float, float, float]
LEAST = 1e-9
"""Degrees of longitude that two areas must share to overlap."""
PIXEL_TOLERANCE = 1e-3
"""Share of a pixel by which a corner may miss the edge of the pixel that it means; GDAL's."""
IDENTITY: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class ControlPoint:
    """A ground control point: pixel corner coordinates and their map coordinates."""

    row: float
    column: float
    x: float
    y: float
    z: float | None = None
    id: str = ""
    info: str = ""


@dataclass(frozen=True)
class Georeference:
    """Georeference as stored in the file; numbers are kept as they were read.

    `transform` is six numbers (a, b, c, d, e, f): a point at column ``x`` and row ``y``, counted
    from the top left *corner* of the first pixel, lies at ``(a x + b y + c, d x + e y + f)``. That
    also holds where `area_or_point` is "Point": GDAL has moved such transforms by half a pixel
    already, and moves them back when it writes. None where only `gcps` or `rpcs` locate the image.
    """

    crs_wkt: str | None = None
    transform: Transform | None = None
    gcps: tuple[ControlPoint, ...] = ()
    gcps_crs_wkt: str | None = None
    rpcs: Mapping[str, Any] | None = None
    """GDAL's RPC metadata: name → text."""
    area_or_point: str = "Area"
    units: str = "pixel"
    """Unit of map coordinates: "metre", "degree", "foot", "US_survey_foot", "pixel" if unknown."""

    @property
    def is_placed(self) -> bool:
        """Whether there is a transform from pixels to map coordinates."""
        return self.transform is not None

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """(down a column, along a row) in map units, positive also for rotated grids."""
        if self.transform is None:
            return None
        a, b, _, d, e, _ = self.transform
        return float(np.hypot(b, e)), float(np.hypot(a, d))

    def shifted(self, x0: int, y0: int) -> Georeference:
        """Return the georeference of the part whose first pixel is column `x0`, row `y0`."""
        if x0 == 0 and y0 == 0:
            return self
        transform = self.transform
        if transform is not None:
            a, b, c, d, e, f = transform
            transform = (a, b, a * x0 + b * y0 + c, d, e, d * x0 + e * y0 + f)
        gcps = tuple(replace(p, row=p.row - y0, column=p.column - x0) for p in self.gcps)
        moves = {"LINE_OFF": lambda number: number - y0, "SAMP_OFF": lambda number: number - x0}
        return replace(self, transform=transform, gcps=gcps, rpcs=self._moved_rpcs(moves))

    def scaled_rpcs(self, up: int, down: int) -> Mapping[str, Any] | None:
        """Return the `rpcs` of an image whose pixels are `up` / `down` times as large."""
        # They count from the middle of the first pixel.

        def about(middle: float) -> Callable[[float], float]:
            return lambda number: (number + middle) * down / up - middle

        offsets = dict.fromkeys(("LINE_OFF", "SAMP_OFF"), about(0.5))
        return self._moved_rpcs(offsets | dict.fromkeys(("LINE_SCALE", "SAMP_SCALE"), about(0.0)))

    def _moved_rpcs(
        self, moves: Mapping[str, Callable[[float], float]]
    ) -> Mapping[str, Any] | None:
        """Return `rpcs` with the numbers of these names changed."""
        return self.rpcs and {
            name: repr(moves[name](float(str(text).split()[0]))) if name in moves else text
            for name, text in self.rpcs.items()
        }

    def to_napari_affine(self) -> npt.NDArray[np.float64]:
        """Return the 3 × 3 matrix from napari's data (row, column, 1) to world (y, x, 1), or the identity."""
        if self.transform is None:
            return np.eye(3)
        # napari puts the *centre* of the first pixel at (0, 0), so its position is the transform's
        # image of (½, ½).
        a, b, c, d, e, f = self.transform
        return np.array(
            [
                [e, d, d * 0.5 + e * 0.5 + f],
                [b, a, a * 0.5 + b * 0.5 + c],
                [0.0, 0.0, 1.0],
            ]
        )

    def affine_on(
        self, other: Georeference, size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.float64], float] | None:
        """Return the matrix of `to_napari_affine` on the map of `other`, and its error in pixels.

        `size` (height, width) is the image's. In another coordinate system the matrix is the one
        that fits best, the error the largest of 7 × 7 points. None where the places are not known
        there, or lie on no such plane: by more than a fiftieth of the image's longer side.
        """
        matrix, wkt, target = self.to_napari_affine(), self.crs_wkt, other.crs_wkt
        if wkt == target:
            return matrix, 0.0
        if not wkt or not target:
            return None
        from rasterio.crs import CRS
        from rasterio.warp import transform

        rows, columns = np.meshgrid(*(np.linspace(0, side - 1, 7) for side in size))
        pixels = np.stack([rows.ravel(), columns.ravel(), np.ones(rows.size)])
        y, x = (matrix @ pixels)[:2]
        try:
            source, system = CRS.from_wkt(wkt), CRS.from_wkt(target)
            if source == system:
                return matrix, 0.0
            xs, ys = transform(source, system, x.tolist(), y.tolist())[:2]
        except Exception:  # GDAL's, of a system or a place that PROJ does not know
            return None
        moved = np.array([ys, xs])
        if not np.isfinite(moved).all():
            return None
        centre = moved.mean(axis=1, keepdims=True)
        fitted = np.linalg.lstsq(pixels.T, (moved - centre).T, rcond=None)[0].T
        area = abs(np.linalg.det(fitted[:, :2]))
        if not area > 0:
            return None
        error = float(np.hypot(*(fitted @ pixels - moved + centre)).max() / np.sqrt(area))
        if error > max(size) / 50:
            return None
        fitted[:, 2:] += centre
        return np.vstack([fitted, [0, 0, 1]]), error

    def longitudes(self, size: tuple[int, int]) -> tuple[float, float] | None:
        """Return the least and largest longitude, perhaps beyond ±180, of an image of `size`; None without any."""
        if self.transform is None or self.units != "degree":
            return None
        corners = [self.to_world(x, y)[0] for x in (0, size[1]) for y in (0, size[0])]
        return min(corners), max(corners)

    def boxes(
        self, window: Sequence[float], size: tuple[int, int]
    ) -> list[tuple[int, int, int, int]]:
        """Return the pixels (y0, x0, y1, x1) of a window (left, top, right, bottom) on the map.

        `size` (height, width) is the image's. The first pixel is the one that contains the window's
        corner, and the size is rounded, as by gdal_translate; for a rotated image it is the bounding
        box of the window's four corners. Longitudes count modulo 360, so that an image of the globe
        may have two boxes; a window from 170 to -170 crosses the antimeridian.
        """
        left, top, right, bottom = window
        longitudes = self.longitudes(size)
        if longitudes is not None and left - right > 180:
            right += 360
        boxes = []
        for turn in turns_onto(longitudes, min(left, right), max(left, right)):
            corners = [self.to_pixel(x + turn, y) for x in (left, right) for y in (top, bottom)]
            columns, rows = zip(*corners, strict=True)
            (y0, y1), (x0, x1) = _span(rows), _span(columns)
            boxes.append((y0, x0, y1, x1))
        if len(boxes) > 1:
            # Each of them ends at the edge of the globe.
            boxes = [(y0, max(0, x0), y1, min(size[1], x1)) for y0, x0, y1, x1 in boxes]
        return boxes

    def to_world(self, column: float, row: float) -> tuple[float, float]:
        """Return (x, y) of a point counted from the top left corner of the first pixel."""
        a, b, c, d, e, f = self.transform or IDENTITY
        return a * column + b * row + c, d * column + e * row + f

    def to_pixel(self, x: float, y: float) -> tuple[float, float]:
        """Return (column, row) from the top left corner of the first pixel, not rounded."""
        a, b, c, d, e, f = self.transform or IDENTITY
        determinant = a * e - b * d
        x, y = x - c, y - f
        return (e * x - b * y) / determinant, (a * y - d * x) / determinant


def _span(edges: Sequence[float]) -> tuple[int, int]:
    """Return the first pixel from the least of `edges` on, and the one after the last."""
    low, high = min(edges), max(edges)
    first = math.floor(low + PIXEL_TOLERANCE)
    return first, first + math.floor(high - low + 0.5)


def turns_onto(
    longitudes: tuple[float, float] | None, low: float, high: float
) -> tuple[float, ...]:
    """Return what to add to the longitudes `low` … `high` so that they lie on an image.

    Multiples of 360, several for an image of the whole globe; only 0 where `longitudes`, those of
    the image, are None or nothing fits.
    """
    if longitudes is None or not math.isfinite(low + high):
        return (0.0,)
    west, east = longitudes
    first, last = math.floor((west - high) / 360), math.ceil((east - low) / 360)
    turns = (360.0 * number for number in range(first, last + 1))
    fitting = tuple(t for t in turns if min(high + t, east) - max(low + t, west) > LEAST)
    return fitting or (0.0,)


def units_of(crs: Any) -> str:
    """Return the unit of a rasterio CRS's coordinates, by pint's name."""
    if not crs:
        return "pixel"
    if crs.is_geographic:
        return "degree"
    with contextlib.suppress(Exception):  # a local or unknown system has no unit
        name = crs.linear_units.lower()
        if name in ("metre", "meter", "m"):
            return "metre"
        if "survey" in name:
            return "US_survey_foot"
        if name in ("foot", "feet", "ft"):
            return "foot"
    return "pixel"


def crs_name(wkt: str) -> str:
    """Return the usual name of a coordinate system: ``"EPSG:32633 (WGS 84 / UTM zone 33N)"``."""
    from rasterio.crs import CRS

    named = re.match(r'\w+\["([^"]*)"', wkt)
    name = named[1] if named else "unnamed"
    code = None
    with contextlib.suppress(Exception):  # a system that PROJ does not know has no code
        code = CRS.from_wkt(wkt).to_epsg()
    return name if code is None else f"EPSG:{code} ({name})"
