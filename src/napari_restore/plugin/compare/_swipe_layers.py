"""The layers of a swipe: the source left of a column of the image, and the line there."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_restore import Region
from napari_restore.plugin.layers._display import display_properties
from napari_restore.plugin.layers._placing import Matrix, plane_of
from napari_restore.plugin.layers._thumbnail import draw_thumbnail_of

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer

    from napari_restore.plugin.compare._pixels import LayerPixels

WIDTH = 37
"""Of the drawing, in screen pixels; odd, so that the line has a middle."""
RADIUS = 15.0
"""Of the handle."""


class Snapshot(NamedTuple):
    """Pixels of a part of an image, every `step`-th one."""

    region: Region
    step: int
    pixels: npt.NDArray[Any]
    """(h, w, 3) or (h, w, 1)."""
    there: npt.NDArray[np.bool_]
    """(h, w)."""


def take(below: LayerPixels, above: LayerPixels | None, order: Order) -> Snapshot:
    """Return what the screen shows of `below` with `above` over it; not in the GUI thread."""
    pixels, there = below.read(order.region, order.step, order.band)
    if above is not None:
        over, visible = above.read(order.region, order.step, order.band)
        pixels = np.where(visible[..., None], over, pixels)
        there = there | visible
    return Snapshot(order.region, order.step, pixels, there)


class Order(NamedTuple):
    """What to take a snapshot of."""

    region: Region
    step: int
    band: int | None


class Curtain:
    """Shows the columns of a snapshot that lie left of one column of the image.

    The pixels lie in memory, at the resolution of the screen, so that moving the
    column reads nothing and leaves the layers below as they are. (Clipping planes,
    which would be the way, have no effect on 2D images in napari 0.9.)
    """

    def __init__(self, source: ImageLayer, snapshot: Snapshot, column: float) -> None:
        from napari.layers import Image as ImageLayer

        self._placed = plane_of(source)
        self._column = column
        self._until = 0
        """Columns of the snapshot that are shown."""
        self._draw_up(snapshot)
        properties = {
            name: getattr(source, name) for name in (*display_properties(source), "interpolation2d")
        }
        self.layer = ImageLayer(
            self._buffer,
            name="Swipe: left side",
            rgb=source.rgb,
            affine=self._affine(),
            units=source.units[-2:],
            axis_labels=source.axis_labels[-2:],
            metadata={"napari_restore_source": "swipe"},
            **properties,
        )
        draw_thumbnail_of(self.layer)

    @property
    def region(self) -> Region:
        """The level-0 pixels it can cover."""
        return self._snapshot.region

    def show(self, snapshot: Snapshot) -> None:
        """Cover with other pixels, where the user properties now."""
        moved = (snapshot.region, snapshot.step) != (self._snapshot.region, self._snapshot.step)
        self._draw_up(snapshot)
        self.layer.data = self._buffer
        if moved:
            self.layer.affine = self._affine()

    def draw_to(self, column: float) -> None:
        """Cover what lies left of the level-0 `column`, and nothing else."""
        self._column = column
        before, self._until = self._until, self._whole_columns()
        self._cover(min(before, self._until), max(before, self._until))
        if before != self._until:
            self.layer.refresh(extent=False, thumbnail=False)

    def _draw_up(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        pixels = snapshot.pixels
        if pixels.shape[2] == 3:
            opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1
            alpha = np.where(snapshot.there, opaque, 0).astype(pixels.dtype)
            self._covering = np.dstack([pixels, alpha])
            self._clear: float = 0
        else:
            # NaN is clear in napari.
            wide = np.result_type(pixels.dtype, np.float32)
            self._covering = np.where(snapshot.there, pixels[..., 0], wide.type(np.nan))
            self._clear = np.nan
        self._buffer = np.full_like(self._covering, self._clear)
        self._until = self._whole_columns()
        self._cover(0, self._until)

    def _whole_columns(self) -> int:
        count = (self._column - self.region.x0) / self._snapshot.step
        return int(np.clip(round(count), 0, self._covering.shape[1]))

    def _cover(self, start: int, stop: int) -> None:
        """Set the columns from `start` to `stop` as `_until` says."""
        covered = max(start, min(stop, self._until))
        self._buffer[:, start:covered] = self._covering[:, start:covered]
        self._buffer[:, covered:stop] = self._clear

    def _affine(self) -> Matrix:
        """Return where the snapshot's pixels lie; its first one's middle is not that of level 0."""
        step, shift = self._snapshot.step, (self._snapshot.step - 1) / 2
        return self._placed @ np.array(
            [[step, 0, self.region.y0 + shift], [0, step, self.region.x0 + shift], [0, 0, 1]]
        )


class SwipeLine:
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
    """Return a (length, WIDTH, 4) line from top to bottom with a handle in the middle."""
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
    """Return the share of a pixel that is covered, by its distance to an edge."""
    return np.clip(distance + 0.5, 0, 1)
