"""A mask whose strength grows linearly between two points."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import numpy.typing as npt

from napari_restore.engine._region import Region
from napari_restore.errors import BadMask

Point = tuple[float, float]
SHORTEST = 1e-3
"""Least distance in pixels between the two points."""


class GradientMask:
    """Strength 0 before the first point, 1 beyond the second, linear in between.

    `start` and `end` are (x, y) in pixels with edges at whole numbers; a pixel has the strength of
    the nearest point of the segment. Raises `BadMask`.
    """

    def __init__(self, start: Point, end: Point, size: tuple[int, int]) -> None:
        self._start = np.array(start, np.float64)
        along = np.array(end, np.float64) - self._start
        length = float(np.hypot(*along))
        if length < SHORTEST:
            raise BadMask(
                "The gradient's line has no length.", "Draw it from one place to another."
            )
        self._step = along / length**2
        """Growth of the strength per pixel in x and y."""
        text = json.dumps([list(start), list(end)])
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.bounds = self._reached(size)
        if self.bounds.is_empty:
            raise BadMask(
                "The gradient is 0 in the whole image.", "End its line inside or before the image."
            )

    def read(self, box: Region) -> npt.NDArray[np.float32]:
        """Return (h, w) strengths of `box`, at the middle of each pixel."""
        x = np.arange(box.x0, box.x1) + 0.5 - self._start[0]
        y = np.arange(box.y0, box.y1) + 0.5 - self._start[1]
        strength = (self._step[0] * x)[None, :] + (self._step[1] * y)[:, None]
        weight: npt.NDArray[np.float32] = np.clip(strength, 0, 1).astype(np.float32)
        return weight

    def _reached(self, size: tuple[int, int]) -> Region:
        """Return the box around the part of the image where the strength is above 0."""
        height, width = size
        corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float64)
        strength = (corners - self._start) @ self._step
        reached = [corner for corner, value in zip(corners, strength, strict=True) if value > 0]
        for here in range(4):
            after = (here + 1) % 4
            if (strength[here] > 0) != (strength[after] > 0):
                share = strength[here] / (strength[here] - strength[after])
                reached.append(corners[here] + share * (corners[after] - corners[here]))
        if not reached:
            return Region(0, 0, 0, 0)
        x0, y0 = np.floor(np.min(reached, axis=0)).astype(int)
        x1, y1 = np.ceil(np.max(reached, axis=0)).astype(int)
        return Region(int(y0), int(x0), int(y1), int(x1)).intersect(Region(0, 0, height, width))
