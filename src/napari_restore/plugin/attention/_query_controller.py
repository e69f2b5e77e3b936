"""The query: a pixel that is clicked, and dragged over the image."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import psygnal
from napari.layers import Image as ImageLayer, Points
from qtpy.QtCore import QObject

from napari_restore.plugin.attention.layers import in_one_go
from napari_restore.plugin.layers.layer_order import keeping_active
from napari_restore.plugin.layers.placing import data_to_world, in_data, in_layer, over, plane_of

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore.plugin.state.state import RestoreState

NAME = "Attention query"
CROSS = 20
"""Size of the cross in screen pixels."""
GRAB = 12
"""Screen pixels around the query within which a press takes hold of it."""
CLICK = 4
"""Screen pixels that the pointer may move in a click."""
ARROWS = {"Up": (-1, 0), "Down": (1, 0), "Left": (0, -1), "Right": (0, 1)}
"""Rows and columns, on the screen where the image is not turned."""


class QueryController(QObject):
    """Puts the query where the image is clicked, and moves it while it is dragged.

    A drag that begins elsewhere moves the image, as ever. A click makes its layer the active one:
    then the arrow keys, which are that layer's, move it by a cell, with Shift by a window.
    """

    moved = psygnal.Signal(int, int)
    """The query is at row y, column x of the image."""

    def __init__(self, viewer: ViewerModel, state: RestoreState, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._state = viewer, state
        self.points: Points | None = None
        """The layer of the cross."""
        self.place: tuple[int, int] | None = None
        """(y, x), or None before the first click."""
        self.is_on = False
        self.steps = (1, 8)
        """Pixels that an arrow key moves it, and one with Shift."""

    def use(self, on: bool) -> None:
        """Take clicks from now on, or leave them to napari."""
        if on and not self.is_on:
            self._viewer.mouse_drag_callbacks.append(self._on_press)
        elif self.is_on and not on:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)
        self.is_on = on
        self._bind()

    def _bind(self) -> None:
        """Bind the arrow keys to the layer of the cross while clicks are taken, else free them."""
        if self.points is None:
            return
        for key, towards in ARROWS.items():
            for keys, number in ((key, 0), (f"Shift-{key}", 1)):
                step = partial(self._step, towards, number) if self.is_on else None
                self.points.bind_key(keys, step, overwrite=True)

    def _step(self, towards: tuple[int, int], number: int, _: Any) -> None:
        if self.place is not None:
            y, x = (
                at + self.steps[number] * by for at, by in zip(self.place, towards, strict=True)
            )
            self.put(y, x)

    def clear(self) -> None:
        """Forget the query and take its layer away."""
        points, self.points, self.place = self.points, None, None
        self._viewer.scene.camera.events.zoom.disconnect(self._on_zoom)
        if points is not None and points in self._viewer.layers:
            self._viewer.layers.remove(points)

    def put(self, y: int, x: int) -> None:
        """Put the query at row `y`, column `x`, within the image."""
        source = self._state.layer
        if source is None:
            return
        image = self._state.named_image(source)
        self.place = (int(np.clip(y, 0, image.height - 1)), int(np.clip(x, 0, image.width - 1)))
        self._show(source)
        self.moved.emit(*self.place)

    def make(self, source: ImageLayer) -> None:
        """Add the layer of the cross, still empty: adding it takes longer than a click should wait."""
        if self.points is not None and self.points in self._viewer.layers:
            return

        self.points = Points(
            np.zeros((0, 2)),
            name=NAME,
            symbol="cross",
            # Only its outline: what lies below is seen.
            face_color="transparent",
            border_color="red",
            border_width=0.1,
            size=in_layer(CROSS, self._viewer, plane_of(source)),
            **over(source),
        )
        with keeping_active(self._viewer):
            self._viewer.layers.append(self.points)
        self._viewer.scene.camera.events.zoom.connect(self._on_zoom)
        self._bind()

    def _on_zoom(self) -> None:
        if self.points is not None:
            size = in_layer(CROSS, self._viewer, plane_of(self.points))
            self.points.size = self.points.current_size = size

    def _show(self, source: ImageLayer) -> None:
        self.make(source)
        points = self.points
        assert points is not None
        with in_one_go(points, rests=False):
            points.data = [self.place]

    def _on_press(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        source = self._state.layer
        if source is None or event.button != 1:
            return
        start, at = tuple(event.pos), self._pixel(event, source)
        takes_hold = self.place is not None and self._near(at, source)
        # napari moves the picture with a layer's `mouse_pan`.
        active = viewer.layers.selection.active
        panned = getattr(active, "mouse_pan", None)
        if takes_hold and active is not None:
            active.mouse_pan = False
        try:
            yield
            while event.type == "mouse_move":
                if takes_hold:
                    self._move(event, source)
                yield
        finally:
            if takes_hold and active is not None:
                active.mouse_pan = panned
        if not takes_hold and np.hypot(*np.subtract(event.pos, start)) <= CLICK:
            self._move(event, source)
            takes_hold = self.place is not None
        if takes_hold and self.points in viewer.layers:
            # Keys are those of the active layer.
            viewer.layers.selection.active = self.points

    def _move(self, event: Any, source: ImageLayer) -> None:
        y, x = self._pixel(event, source)
        image = self._state.named_image(source)
        inside = -0.5 <= y < image.height - 0.5 and -0.5 <= x < image.width - 0.5
        if inside and self.place != (round(y), round(x)):
            self.put(round(y), round(x))

    def _near(self, at: tuple[float, float], source: ImageLayer) -> bool:
        """Return whether a pixel (y, x) is so near the query that a press takes hold of it."""
        assert self.place is not None
        matrix = data_to_world(source)[-3:-1, -3:-1]
        apart = matrix @ np.subtract(at, self.place)
        return float(np.hypot(*apart) * self._viewer.scene.camera.zoom) <= GRAB

    def _pixel(self, event: Any, source: ImageLayer) -> tuple[float, float]:
        ((y, x),) = in_data(self._viewer, source, [np.array(event.position)[-2:]])
        return float(y), float(x)
