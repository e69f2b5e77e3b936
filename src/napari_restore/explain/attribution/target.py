"""Attribution targets: a box or a polygon of the output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region
from napari_restore.errors import BadParameter, BadRegion
from napari_restore.images import rasterise


@dataclass(frozen=True)
class Polygon:
    """A ring of at least three vertices (y, x) in pixels of the results, edges at whole numbers."""

    vertices: tuple[tuple[float, float], ...]

    @property
    def box(self) -> Region:
        """Smallest box of whole pixels that contains it; it may reach beyond the image."""
        ys, xs = zip(*self.vertices, strict=True)
        return Region(
            math.floor(min(ys)), math.floor(min(xs)), math.ceil(max(ys)), math.ceil(max(xs))
        )

    def to_list(self) -> list[list[float]]:
        """Return the vertices (y, x) as JSON."""
        return [list(vertex) for vertex in self.vertices]

    def inside(self, box: Region) -> npt.NDArray[np.bool_]:
        """Return which pixels of `box` have their centre inside, (h, w); raises `BadRegion` if none."""
        ring = [(x, y) for y, x in (*self.vertices, self.vertices[0])]
        mask = rasterise([[ring]], box).astype(bool)
        if not mask.any():
            raise BadRegion(
                "No pixel of the image has its centre inside the polygon.",
                "Draw a larger one, or one within the image.",
            )
        return mask


def polygon_of(vertices: Sequence[Sequence[float]]) -> Polygon:
    """Return a polygon of vertices (y, x); raises `BadParameter` if they are not one."""
    try:
        points = tuple((float(y), float(x)) for y, x in vertices)
    except (TypeError, ValueError):
        points = ()
    if len(points) < 3 or not all(math.isfinite(value) for vertex in points for value in vertex):
        raise BadParameter(
            "A polygon has at least three vertices, each of two numbers.",
            "Give the vertices in order along its edge.",
        )
    return Polygon(points)


@dataclass(frozen=True)
class OutputBox:
    """A box of results that have `ratio` times as many pixels along a side as the image."""

    box: Region
    """In pixels of the results …"""
    objective_region: Region
    """… with the pixels beyond it that the objective reads."""
    ratio: Fraction


@dataclass(frozen=True)
class AttributionTarget:
    """The pixels of the output that an attribution explains, in level-0 pixels."""

    box: Region
    objective_region: Region
    """The box and the pixels beyond it that the objective reads."""
    polygon: Polygon | None = None
    """Outside of it no pixel of the box counts; in pixels of the results, as `output` is."""
    output: OutputBox | None = None
    """The box of a model of another scale than 1; `box` and `objective_region` are the pixels of the
    image below it."""

    @property
    def result_box(self) -> Region:
        """The box in pixels of the results."""
        return self.box if self.output is None else self.output.box
