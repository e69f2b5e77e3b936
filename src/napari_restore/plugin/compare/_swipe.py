"""A line to drag over the image: the source left of it, the result right."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal
from superqt.utils import qthrottled

from napari_restore import Region
from napari_restore.errors import BadRegion
from napari_restore.plugin.compare._compared_layers import Compared, ShownLayers
from napari_restore.plugin.compare._pixels import (
    FAILURE,
    LayerPixels,
    loaded_part,
    shown_band,
    shown_step,
    within,
)
from napari_restore.plugin.compare._swipe_layers import Curtain, Order, Snapshot, SwipeLine, take
from napari_restore.plugin.layers._display import display_properties
from napari_restore.plugin.layers._visible import visible_region
from napari_restore.plugin.tasks._latest_query import DebouncedQuery

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.plugin.state._variant import Variant

GRAB = 12
"""Screen pixels from the line within which it can be dragged."""
DEBOUNCE_MS = 120
LINE_MS = 30
MAX_PIXELS = 6_000_000
"""Of the curtain, which reaches beyond the edges of the screen."""


class Swipe:
    """One swipe from its beginning to `end`, which leaves everything as it was.

    The line follows a column of the image: upright where the image is, leaning
    where it lies askew on the map. "Left" means smaller columns.
    """

    ended = Signal()
    """It is over: by `end`, by Escape, or because a layer it needs has gone."""

    def __init__(
        self,
        viewer: ViewerModel,
        variant: Variant,
        left: Compared | None = None,
        column: float | None = None,
    ) -> None:
        """Begin; `left` is what is on the left side, None for the source.

        Raises `BadRegion` when the source is not in view.
        """
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
        for event, slot in self._events():
            event.connect(slot)
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
        for event, slot in self._events():
            event.disconnect(slot)
        self._draw_line.cancel()
        self._snapshots.discard()
        viewer.mouse_drag_callbacks.remove(self._on_drag)
        viewer.mouse_move_callbacks.remove(self._on_move)
        viewer.bind_key("Escape", self._former_escape, overwrite=True)
        self._hold(False)
        own = [self._line.layer, *([self._curtain.layer] if self._curtain else [])]
        for layer in own:
            if layer in viewer.layers:
                self._keeping_selection(viewer.layers.remove, layer)
        self._shown.restore()
        self.ended.emit()

    # -- layers ------------------------------------------------------------------

    def _add(self, layer: Any) -> None:
        """Add a layer above the source and its results; the line is above its curtain."""
        layers = self.viewer.layers
        number = 1 + max(
            index
            for index, other in enumerate(layers)
            if other is self.source
            or other.metadata.get("napari_restore_source") == self.source.unique_id
        )
        self._keeping_selection(layers.insert, number, layer)

    def _keeping_selection(self, change: Callable[..., object], *arguments: Any) -> None:
        """Make a change of the layers after which the active layer is the same."""
        selection = self.viewer.layers.selection
        before = selection.active
        change(*arguments)
        if before is not None and before in self.viewer.layers:
            selection.active = before

    # -- the view ----------------------------------------------------------------

    def _events(self) -> list[tuple[Any, Callable[..., object]]]:
        camera = self.viewer.scene.camera.events
        layers = [self.source, *([self._left.layer] if self._left else [])]
        properties = [getattr(self.source.events, name) for name in display_properties(self.source)]
        return [
            (camera.center, self._on_view),
            (camera.zoom, self._on_view),
            (self.viewer.canvas.events.size, self._on_view),
            (self.viewer.dims.events.ndisplay, self._on_view),
            # New pixels: another band, a level that grows, tiles of the left result.
            *((layer.events.set_data, self._on_pixels) for layer in layers),
            *((event, self._on_display) for event in properties),
            (self.viewer.layers.events.removed, self._on_removed),
        ]

    def _on_view(self) -> None:
        self._draw_line()
        self._on_pixels()

    def _on_pixels(self) -> None:
        try:
            self._snapshots.request(*self._order())
        except BadRegion:
            # Out of view: nothing to cover until it comes back.
            return

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
        try:
            view = self._view()
        except BadRegion:
            return
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
