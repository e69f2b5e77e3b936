"""The mouse over napari's canvas: events for its callbacks, and events of Qt."""

from __future__ import annotations

from typing import Any

import numpy as np


def canvas_of(viewer: Any) -> Any:
    """Return the widget of the canvas, for which napari has no public name."""
    return viewer.window._qt_viewer.canvas.native


class Mouse:
    """One click or drag as napari tells its callbacks."""

    def __init__(
        self,
        *places: Any,
        seen: Any = lambda: None,
        zoom: float = 1,
        modifiers: tuple[str, ...] = (),
    ) -> None:
        self.type = "mouse_press"
        self.button: int | None = 1
        self.handled = False
        self.modifiers = modifiers
        self.position = tuple(places[0])
        self._places = places
        self._seen = seen
        self._zoom = zoom

    @property
    def pos(self) -> Any:
        """Where it is on the canvas."""
        return np.array(self.position)[-2:] * self._zoom

    def drive(self, viewer: Any) -> None:
        """Press at the first place, move through the others, release."""
        running = [made for f in list(viewer.mouse_drag_callbacks) if (made := f(viewer, self))]
        for generator in running:
            next(generator, None)
        self._seen()
        self.button = None
        for place in self._places[1:]:
            self.type, self.position = "mouse_move", tuple(place)
            for generator in running:
                next(generator, None)
            self._seen()
        self.type = "mouse_release"
        for generator in running:
            next(generator, None)
