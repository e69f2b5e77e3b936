"""The weights of frames as layers over their bracket: which frame where."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import psygnal
from qtpy.QtCore import QObject

from napari_restore import api
from napari_restore.errors import RestoreError
from napari_restore.plugin.layers.layer_order import SOURCE, insert_above, take_away
from napari_restore.plugin.layers.placing import over, plane_of, resampled
from napari_restore.plugin.state.request import Area, RunRequest
from napari_restore.plugin.state.state import Connections, RestoreState
from napari_restore.plugin.tasks.task import DebouncedQuery

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer


SIDE = 1200
"""Longest side in pixels of the level that weights are computed on."""
DEBOUNCE_MS = 150
HUES = 0.62, 0.06
"""Of the darkest and the brightest frame: blue and orange."""


@dataclass(frozen=True)
class Weights:
    """The weights of a bracket's frames on a level of it."""

    source: ImageLayer
    names: tuple[str, ...]
    shares: npt.NDArray[np.float32]
    """(frames, h, w), dark to bright; they add up to 1."""
    scale: int
    """Level-0 pixels along a side of one of theirs."""


class WeightsController(QObject):
    """Shows weights, one layer per frame, and computes them again when the settings change."""

    changed = psygnal.Signal()
    """The weights are shown, or no more."""

    def __init__(self, viewer: ViewerModel, state: RestoreState, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._state = viewer, state
        self._layers: list[ImageLayer] = []
        self.is_on = False
        self._query = DebouncedQuery(_weights, self._on_found, DEBOUNCE_MS, "No weights", self)
        events = state.events
        Connections(
            self,
            (events.method, self.update),
            (events.layer, self.update),
            (viewer.layers.events.removed, self._on_removed),
        )

    def switch(self, on: bool) -> None:
        """Show the weights, or remove their layers."""
        if on == self.is_on:
            return
        self.is_on = on
        if on:
            self.update()
        else:
            self._query.discard()
            self._remove()
        self.changed.emit()

    def update(self) -> None:
        """Compute the weights of the chosen bracket soon, if they are shown."""
        layer = self._state.layer
        if not self.is_on or layer is None:
            return
        try:
            request = self._state.request(Area(()))
        except RestoreError:
            return
        if request.image.companions is not None:
            self._query.request(request, layer)

    def _on_found(self, found: Weights) -> None:
        if not self.is_on or found.source not in self._viewer.layers:
            return
        own = [layer for layer in self._layers if layer in self._viewer.layers]
        names = [f"Weight: {name}" for name in found.names]
        of = {layer.metadata.get(SOURCE) for layer in own}
        if [layer.name for layer in own] == names and of == {found.source.unique_id}:
            for layer, share in zip(own, found.shares, strict=True):
                layer.data = share
            return
        self._remove()
        self._add(found, names)

    def _add(self, found: Weights, names: Sequence[str]) -> None:
        from napari.layers import Image
        from napari.utils.colormaps import Colormap

        matrix = resampled(plane_of(found.source), Fraction(1, found.scale))
        shown = zip(names, found.shares, colours_of(len(names)), strict=True)
        for number, (name, share, colour) in enumerate(shown):
            layer = Image(
                share,
                name=name,
                colormap=Colormap([(0, 0, 0, 1), (*colour, 1)], name=f"frame {number + 1}"),
                contrast_limits=(0, 1),
                # Together they show which frame gave most.
                blending="additive" if number else "opaque",
                **over(found.source, matrix),
            )
            insert_above(self._viewer, found.source, layer)
            self._layers.append(layer)

    def _remove(self) -> None:
        layers, self._layers = self._layers, []
        take_away(self._viewer, *layers)

    def _on_removed(self, event: Any) -> None:
        if self.is_on and event.value in self._layers:
            # One of them is not what was asked for.
            self._layers = [layer for layer in self._layers if layer is not event.value]
            if not self._layers:
                self.switch(False)


def colours_of(frames: int) -> list[tuple[float, float, float]]:
    """Return a colour (r, g, b) in 0 … 1 for each frame, dark to bright."""
    dark, bright = HUES
    steps = [number / max(1, frames - 1) for number in range(frames)]
    return [colorsys.hsv_to_rgb(dark + (bright - dark) * step, 0.85, 1.0) for step in steps]


def _weights(request: RunRequest, source: ImageLayer) -> Weights:
    """Compute the weights on a coarse level; not in the GUI thread."""
    image = request.image
    levels = [
        number
        for number, shape in enumerate(image.level_shapes)
        if max(shape) <= SIDE and image.level_scale(number) is not None
    ]
    number = levels[0] if levels else len(image.level_shapes) - 1
    view = image.level_view(number)
    plan = replace(request, image=view).plan(region=None, mask=None)
    names = tuple(frame.name for frame in view.frames)
    return Weights(source, names, api.frame_weights(plan), image.level_scale(number) or 1)
