"""A line to drag over the image: the source left of it, the result right."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psygnal
from napari.layers import Image as ImageLayer
from superqt.utils import qthrottled

from napari_restore import Region
from napari_restore.errors import BadRegion
from napari_restore.plugin.compare.compared_layers import (
    FAILURE,
    Compared,
    LayerPixels,
    ShownLayers,
    loaded_part,
    shown_band,
    shown_step,
    within,
)
from napari_restore.plugin.layers.display import (
    SHOWN_BANDS,
    display_properties,
    draw_thumbnail_of,
    shown_alike,
)
from napari_restore.plugin.layers.layer_order import SOURCE, keeping_active, place_above, take_away
from napari_restore.plugin.layers.placing import Matrix, axes_of, plane_of, visible_region
from napari_restore.plugin.state.state import Connections, view_events
from napari_restore.plugin.tasks.task import DebouncedQuery

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.plugin.state.variant import Variant


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
    """Shows the columns of a snapshot that lie left of one column of the image."""

    # The pixels lie in memory, at the resolution of the screen, so that moving the column reads
    # nothing and leaves the layers below as they are. (Clipping planes, which would be the way,
    # have no effect on 2D images in napari 0.9.)
    def __init__(self, source: ImageLayer, snapshot: Snapshot, column: float) -> None:
        self._placed = plane_of(source)
        self._column = column
        self._until = 0
        """Columns of the snapshot that are shown."""
        self._draw_up(snapshot)
        self.layer = ImageLayer(
            self._buffer,
            name="Swipe: left side",
            rgb=source.rgb,
            affine=self._affine(),
            **axes_of(source),
            metadata={SOURCE: "swipe", SHOWN_BANDS: source.metadata.get(SHOWN_BANDS)},
            **shown_alike(source),
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
    """A white line with dark edges and a round handle, seen on any image."""

    # One texel is one screen pixel: the line is as wide at every zoom. It follows a column of the
    # image, so that it leans when the image lies askew.
    def __init__(self, source: ImageLayer, column: float, rows: tuple[int, int], zoom: float):
        self._placed = plane_of(source)
        self.layer = ImageLayer(
            drawing(1),
            name="Swipe: line",
            rgb=True,
            **axes_of(source),
            metadata={"napari_restore_source": "swipe"},
        )
        self.place(column, rows, zoom)

    def place(self, column: float, rows: tuple[int, int], zoom: float) -> None:
        """Draw along the level-0 `column` over `rows`, at `zoom` screen pixels per world unit."""
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


GRAB = 12
"""Screen pixels from the line within which it can be dragged."""
DEBOUNCE_MS = 120
LINE_MS = 30
MAX_PIXELS = 6_000_000
"""Of the curtain, which reaches beyond the edges of the screen."""


class Swipe:
    """One swipe from its beginning to `end`, which leaves everything as it was."""

    # The line follows a column of the image: upright where the image is, leaning where it lies
    # askew on the map. "Left" means smaller columns.

    ended = psygnal.Signal()
    """It is over: by `end`, by Escape, or because a layer it needs has gone."""

    def __init__(
        self,
        viewer: ViewerModel,
        variant: Variant,
        left: Compared | None = None,
        column: float | None = None,
        owner: Any = None,
    ) -> None:
        """Begin with `left`, or the source, on the left; `owner` is a Qt object. Raises `BadRegion` out of view."""
        self.viewer = viewer
        self.variant = variant
        self.source = variant.source
        self._left = left
        self._pixels = LayerPixels(self.source)
        view = self._view()
        self.column = (view.x0 + view.x1) / 2 if column is None else column
        self._over = False
        self._dragging = False
        self._near = False
        self._shown = ShownLayers(viewer, self.source, variant.layer)
        self._line = SwipeLine(self.source, self.column, (view.y0, view.y1), self._zoom)
        self._curtain: Curtain | None = None
        self._snapshots = DebouncedQuery(take, self._on_snapshot, DEBOUNCE_MS, FAILURE)
        self._draw_line = qthrottled(self._place_line, timeout=LINE_MS)
        self._add(self._line.layer)
        self._former_escape = viewer.bind_key("Escape", lambda _: self.end(), overwrite=True)
        viewer.mouse_drag_callbacks.insert(0, self._on_drag)
        viewer.mouse_move_callbacks.insert(0, self._on_move)
        self._connections = Connections(owner, *self._events())
        self._snapshots.request_now(*self._order())

    @property
    def is_ready(self) -> bool:
        """Whether the left side is covered."""
        return self._curtain is not None

    def move_to(self, column: float) -> None:
        """Put the line on a level-0 column of the image."""
        self.column = float(np.clip(column, 0, self._pixels.size[1]))
        if self._curtain is not None:
            self._curtain.draw_to(self.column)
        self._place_line()

    def end(self) -> None:
        """Take line and curtain away and show the layers as before."""
        if self._over:
            return
        self._over = True
        viewer = self.viewer
        self._connections.end()
        self._draw_line.cancel()
        self._snapshots.discard()
        viewer.mouse_drag_callbacks.remove(self._on_drag)
        viewer.mouse_move_callbacks.remove(self._on_move)
        viewer.bind_key("Escape", self._former_escape, overwrite=True)
        self._hold(False)
        with keeping_active(viewer):
            take_away(viewer, self._line.layer, self._curtain and self._curtain.layer)
        self._shown.restore()
        self.ended.emit()

    # -- layers ------------------------------------------------------------------

    def _add(self, layer: Any) -> None:
        """Add a layer above the source and its results; the line is above its curtain."""
        with keeping_active(self.viewer):
            self.viewer.layers.insert(place_above(self.viewer, self.source), layer)

    # -- the view ----------------------------------------------------------------

    def _events(self) -> list[tuple[Any, Callable[..., object]]]:
        views = (*view_events(self.viewer), self.viewer.dims.events.ndisplay)
        layers = [self.source, *([self._left.layer] if self._left else [])]
        properties = [getattr(self.source.events, name) for name in display_properties(self.source)]
        return [
            *((event, self._on_view) for event in views),
            # New pixels: another band, a level that grows, tiles of the left result.
            *((layer.events.set_data, self._on_pixels) for layer in layers),
            *((event, self._on_display) for event in properties),
            (self.viewer.layers.events.removed, self._on_removed),
        ]

    def _on_view(self) -> None:
        self._draw_line()
        self._on_pixels()

    def _on_pixels(self) -> None:
        # Out of view there is nothing to cover until it comes back.
        with suppress(BadRegion):
            self._snapshots.request(*self._order())

    def _on_display(self) -> None:
        if self._curtain is not None:
            for name in display_properties(self.source):
                setattr(self._curtain.layer, name, getattr(self.source, name))

    def _on_removed(self, event: Any) -> None:
        needed = [self.source, self.variant.layer, self._line.layer]
        needed += [self._left.layer] if self._left else []
        needed += [self._curtain.layer] if self._curtain else []
        if any(event.value is layer for layer in needed):
            self.end()

    def _view(self) -> Region:
        return visible_region(self.viewer, self.source, self._pixels.size)

    def _order(self) -> tuple[LayerPixels, LayerPixels | None, Order]:
        view = self._view()
        height, width = self._pixels.size
        # A layer's origin is rounded to 32 bits when it is drawn, which may be some
        # pixels on a map: the curtain begins where the loaded part of the source does.
        around = loaded_part(self.source)
        if around is None or around.intersect(view) != view:
            around = Region(
                view.y0 - view.height // 2,
                view.x0 - view.width // 2,
                view.y1 + view.height // 2,
                view.x1 + view.width // 2,
            )
        step = within(around, shown_step(self.source), MAX_PIXELS)
        region = around.align(step).intersect(Region(0, 0, height, width))
        above = LayerPixels(*self._left) if self._left else None
        band = shown_band(self.viewer, self.source)
        # The arrays of a layer may have been replaced since.
        self._pixels = LayerPixels(self.source)
        return self._pixels, above, Order(region, step, band)

    def _on_snapshot(self, snapshot: Snapshot) -> None:
        if self._over:
            return
        if self._curtain is None:
            self._curtain = Curtain(self.source, snapshot, self.column)
            self._add(self._curtain.layer)
        else:
            self._curtain.show(snapshot)
        self._bring_into_view()

    def _bring_into_view(self) -> None:
        """Move the line into the view: one left behind by panning is hard to find."""
        try:
            view = self._view()
        except BadRegion:
            return
        if not self._dragging and not view.x0 <= self.column <= view.x1:
            self.move_to((view.x0 + view.x1) / 2)

    @property
    def _zoom(self) -> float:
        return float(self.viewer.scene.camera.zoom)

    def _place_line(self) -> None:
        with suppress(BadRegion):
            view = self._view()
            self._line.place(self.column, (view.y0, view.y1), self._zoom)

    # -- the mouse ---------------------------------------------------------------

    def _column_at(self, position: Any) -> float:
        """Return the level-0 column, edges at whole numbers, under a world position."""
        return float(self.source.world_to_data(position)[-1]) + 0.5

    def _is_near(self, position: Any) -> bool:
        away = abs(self._column_at(position) - self.column) * self._line.pixels_per_column
        return bool(away <= GRAB)

    def _on_move(self, viewer: Any, event: Any) -> None:
        """Show that the line can be taken, and keep the camera from panning then."""
        near = self._is_near(event.position)
        if near != self._near:
            self._hold(near)

    def _hold(self, near: bool) -> None:
        self._near = near
        active = self.viewer.layers.selection.active
        pans = active.mouse_pan if active is not None else True
        self.viewer.scene.camera.mouse_pan = pans and not near
        style = active.cursor if active is not None else "standard"
        self.viewer.cursor.style = "pointing" if near else style

    def _on_drag(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        near = self._is_near(event.position)
        # A press may come without a move before it.
        self._hold(near)
        if event.button != 1 or not near:
            return
        self._dragging = True
        event.handled = True
        yield
        while event.type == "mouse_move" and not self._over:
            self.move_to(self._column_at(event.position))
            event.handled = True
            yield
        self._dragging = False
