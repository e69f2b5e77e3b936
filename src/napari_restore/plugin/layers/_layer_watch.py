"""Watches a layer's data and place for changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.layers import Layer

EVERY = ("scale", "translate", "rotate", "shear", "affine", "data")
SHAPES = ("mode",)
"""Of a Shapes layer: selected shapes count only while the user selects."""
LABELS = ("paint", "labels_update", "set_data")
"""Of a Labels layer: a stroke, its parts, and what undo does."""


class LayerWatch:
    """Calls back for one layer at a time; `version` counts its changes."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.layer: Layer | None = None
        self.version = 0
        self._changed = changed
        self._events: list[Any] = []

    def follow(self, layer: Layer | None) -> None:
        """Watch `layer` instead of the one before; None watches nothing."""
        if layer is self.layer:
            return
        for event in self._events:
            event.disconnect(self._on_change)
        self.layer = layer
        self._events = [] if layer is None else _events_of(layer)
        for event in self._events:
            event.connect(self._on_change)
        self.version += 1

    def _on_change(self, event: Any = None) -> None:
        self.version += 1
        self._changed()


def _events_of(layer: Layer) -> list[Any]:
    from napari.layers import Labels, Shapes

    names: tuple[str, ...] = EVERY
    extra: list[Any] = []
    if isinstance(layer, Shapes):
        names = (*EVERY, *SHAPES)
        extra.append(layer.selected_data.events.items_changed)
    elif isinstance(layer, Labels) and not layer.multiscale:
        names = (*EVERY, *LABELS)
    return [*(getattr(layer.events, name) for name in names), *extra]
