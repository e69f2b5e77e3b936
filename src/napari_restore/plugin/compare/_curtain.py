"""A layer that covers a result with its source, left of a column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from napari_restore import Region
from napari_restore.plugin.layers._display import look_names
from napari_restore.plugin.layers._placing import Matrix, plane_of
from napari_restore.plugin.layers._thumbnail import draw_thumbnail_of

if TYPE_CHECKING:
    from napari.layers import Image as ImageLayer

    from napari_restore.plugin.compare._pixels import LayerPixels


class Snapshot(NamedTuple):
    """Pixels of a part of an image, every `step`-th one."""

    region: Region
    step: int
    pixels: npt.NDArray[Any]
    """(h, w, 3) or (h, w, 1)."""
    there: npt.NDArray[np.bool_]
    """(h, w)."""


def take(below: LayerPixels, above: LayerPixels | None, order: Order) -> Snapshot:
    """What the screen shows of `below` with `above` over it; not for the GUI thread."""
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
        looks = {name: getattr(source, name) for name in (*look_names(source), "interpolation2d")}
        self.layer = ImageLayer(
            self._buffer,
            name="Swipe: left side",
            rgb=source.rgb,
            affine=self._affine(),
            units=source.units[-2:],
            axis_labels=source.axis_labels[-2:],
            metadata={"napari_restore_source": "swipe"},
            **looks,
        )
        draw_thumbnail_of(self.layer)

    @property
    def region(self) -> Region:
        """The level-0 pixels it can cover."""
        return self._snapshot.region

    def show(self, snapshot: Snapshot) -> None:
        """Cover with other pixels, where the user looks now."""
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
        """Set the columns from `start` to `stop` as `_until` wants them."""
        covered = max(start, min(stop, self._until))
        self._buffer[:, start:covered] = self._covering[:, start:covered]
        self._buffer[:, covered:stop] = self._clear

    def _affine(self) -> Matrix:
        """Where the snapshot's pixels lie; its first one's middle is not that of level 0."""
        step, shift = self._snapshot.step, (self._snapshot.step - 1) / 2
        return self._placed @ np.array(
            [[step, 0, self.region.y0 + shift], [0, step, self.region.x0 + shift], [0, 0, 1]]
        )
