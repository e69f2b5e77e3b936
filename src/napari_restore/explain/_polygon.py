"""A polygon of the output, where what is asked about is no box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_restore.engine import Region
from napari_restore.errors import BadParameter, BadRegion
from napari_restore.images import rasterise


@dataclass(frozen=True)
class Polygon:
    """A ring of at least three vertices (y, x) in level-0 pixels, edges at whole numbers."""

    vertices: tuple[tuple[float, float], ...]

    @property
    def box(self) -> Region:
        """The smallest box of whole pixels that holds it; it may reach beyond the image."""
        ys, xs = zip(*self.vertices, strict=True)
        return Region(
            math.floor(min(ys)), math.floor(min(xs)), math.ceil(max(ys)), math.ceil(max(xs))
        )

    def to_list(self) -> list[list[float]]:
        """The vertices as JSON."""
        return [list(vertex) for vertex in self.vertices]

    def inside(self, box: Region) -> npt.NDArray[np.bool_]:
        """(h, w) which pixels of `box` have their centre inside; raises `BadRegion` if none has."""
        ring = [(x, y) for y, x in (*self.vertices, self.vertices[0])]
        found = rasterise([[ring]], box).astype(bool)
        if not found.any():
            raise BadRegion(
                "No pixel of the image has its centre inside the polygon.",
                "Draw a larger one, or one within the image.",
            )
        return found


def polygon_of(vertices: Sequence[Sequence[float]]) -> Polygon:
    """Vertices (y, x) as a polygon; raises `BadParameter` if they are none."""
    try:
        found = tuple((float(y), float(x)) for y, x in vertices)
    except (TypeError, ValueError):
        found = ()
    if len(found) < 3 or not all(math.isfinite(value) for vertex in found for value in vertex):
        raise BadParameter(
            "A polygon has at least three vertices, each of two numbers.",
            "Give them one after another, along its edge.",
        )
    return Polygon(found)
