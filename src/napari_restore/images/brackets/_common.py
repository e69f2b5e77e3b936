"""The part of the reference that all frames of a bracket show."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_restore.images.readers._registered import RegisteredReader

if TYPE_CHECKING:
    from napari_restore.images._image import Image
    from napari_restore.images._source import Box

LEAST = 0.5
"""Share of the height and width below which nothing is cut: frames that differ so much are meant to."""
POINTS = 1024
"""Most points of a side that are tested."""


Frame = tuple[tuple[tuple[float, float, float], ...], tuple[int, int]]
"""A frame's homography from the reference, row by row, and its (height, width)."""


def common_box(bracket: Image) -> Box:
    """Return the box (y0, x0, y1, x1) of the reference in which every frame has pixels.

    Sides are moved inwards, the one with the largest share beyond an edge first, until none is
    beyond. All of the image where frames lie in place, or where less than half would be left.
    """
    frames = tuple(
        (
            tuple(tuple(map(float, row)) for row in frame.reader.matrix),
            (frame.reader.image.height, frame.reader.image.width),
        )
        for frame in bracket.frames
        if isinstance(frame.reader, RegisteredReader)
    )
    return _box_within(frames, bracket.height, bracket.width)


@lru_cache(maxsize=16)
def _box_within(frames: tuple[Frame, ...], height: int, width: int) -> Box:
    """Return the box of `common_box`; kept, as a window asks for it with every movement."""
    whole = (0, 0, height, width)
    y0, x0, y1, x1 = whole
    while (y1 - y0) >= LEAST * height and (x1 - x0) >= LEAST * width:
        rows, columns = _along(y0, y1), _along(x0, x1)
        outside = [
            _share_outside(frames, columns, np.full_like(columns, y0)),
            _share_outside(frames, np.full_like(rows, x0), rows),
            _share_outside(frames, columns, np.full_like(columns, y1 - 1)),
            _share_outside(frames, np.full_like(rows, x1 - 1), rows),
        ]
        # What a homography leaves of a frame is convex: if its corners are inside, so is the box.
        worst = int(np.argmax(outside))
        if outside[worst] == 0:
            return y0, x0, y1, x1
        y0, x0 = y0 + (worst == 0), x0 + (worst == 1)
        y1, x1 = y1 - (worst == 2), x1 - (worst == 3)
    return whole


def _along(first: int, end: int) -> npt.NDArray[np.float64]:
    """Return coordinates from `first` to the last before `end`: all of them, or `POINTS`."""
    return np.linspace(first, end - 1, min(end - first, POINTS))


def _share_outside(
    frames: tuple[Frame, ...], x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> float:
    """Return the share of points of the reference that lie beyond the edge of some frame."""
    outside = np.zeros(len(x), bool)
    for matrix, (height, width) in frames:
        across, down, scale = (row[0] * x + row[1] * y + row[2] for row in matrix)
        across, down = across / scale, down / scale
        outside |= (across <= -1e-6) | (across >= width - 1 + 1e-6)
        outside |= (down <= -1e-6) | (down >= height - 1 + 1e-6)
    return float(outside.mean())
