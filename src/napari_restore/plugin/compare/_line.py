"""The line of the swipe, drawn as a layer of its own."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_restore.plugin.layers._placing import plane_of

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer

WIDTH = 37
"""Of the drawing, in screen pixels; odd, so that the line has a middle."""
RADIUS = 15.0
"""Of the handle."""


class Line:
    """A white line with dark edges and a round handle, seen on any image.

    One texel is one screen pixel: the line is as wide at every zoom. It follows a
    column of the image, so that it leans when the image lies askew.
    """

    def __init__(self, source: ImageLayer, column: float, rows: tuple[int, int], zoom: float):
        from napari.layers import Image as ImageLayer

        self._placed = plane_of(source)
        self.layer = ImageLayer(
            drawing(1),
            name="Swipe: line",
            rgb=True,
            units=source.units[-2:],
            axis_labels=source.axis_labels[-2:],
            metadata={"napari_restore_source": "swipe"},
        )
        self.place(column, rows, zoom)

    def place(self, column: float, rows: tuple[int, int], zoom: float) -> None:
        """Draw along the level-0 `column` from the first to the last of `rows`.

        `zoom` is screen pixels per world unit.
        """
        # World units per pixel of the image along its rows and its columns.
        tall, wide = np.linalg.norm(self._placed[:2, :2], axis=0)
        step_y, step_x = 1 / (zoom * tall), 1 / (zoom * wide)
        self.pixels_per_column = 1 / step_x
        length = max(1, round((rows[1] - rows[0]) / step_y))
        if length != self.layer.data.shape[0]:
            self.layer.data = drawing(length)
        # Column x begins half a pixel before its middle.
        y = rows[0] - 0.5 + step_y / 2
        x = column - 0.5 - step_x * (WIDTH // 2)
        self.layer.affine = self._placed @ np.array([[step_y, 0, y], [0, step_x, x], [0, 0, 1]])


@lru_cache(maxsize=4)
def drawing(length: int) -> npt.NDArray[np.uint8]:
    """(length, WIDTH, 4) line from top to bottom with a handle in the middle."""
    y = np.arange(length)[:, None] - (length - 1) / 2
    x = np.arange(WIDTH)[None] - WIDTH // 2.0
    far = np.abs(x) + 0 * y
    light, dark = _inside(1.5 - far), _inside(2.7 - far)
    if length > 4 * RADIUS:
        away = np.hypot(x, y)
        light = np.maximum(light, _inside(RADIUS - away))
        dark = np.maximum(dark, _inside(RADIUS + 1.5 - away))
        # Two arrow heads: 4 to 10 pixels from the middle.
        heads = np.minimum(np.abs(x) - 4, (10 - np.abs(x)) - np.abs(y))
        light = light * (1 - _inside(heads))
    picture = np.zeros((length, WIDTH, 4), np.uint8)
    picture[..., :3] = np.round(255 * np.divide(light, dark, out=0 * light, where=dark > 0))[
        ..., None
    ]
    picture[..., 3] = np.round(255 * dark)
    return picture


def _inside(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of a pixel that is covered, by its distance to an edge."""
    return np.clip(distance + 0.5, 0, 1)
