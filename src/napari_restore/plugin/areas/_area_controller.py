"""Computes the area of a target, and watches the layers it depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_restore.errors import RestoreError
from napari_restore.plugin.areas._areas import area_of, areas_layer, gradient_layer
from napari_restore.plugin.areas._strength import chosen_strength
from napari_restore.plugin.layers._layer_watch import LayerWatch
from napari_restore.plugin.state._state import image_of
from napari_restore.plugin.state._targets import Area, NotReady, Target
from napari_restore.plugin.tasks._latest_query import LatestQuery

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Layer

    from napari_restore.plugin.state._state import RestoreState


class AreaController(QObject):
    """Computes the area of a viewer's target.

    Masks of painted layers are read and written on another thread, everything else
    is found at once.
    """

    found = Signal()
    """A mask that was not ready has been written, or cannot be."""
    changed = Signal()
    """What was drawn or painted has changed."""

    def __init__(
        self, viewer: ViewerModel, state: RestoreState, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._state = state
        self._watch = LayerWatch(self.changed.emit)
        self._query = LatestQuery("The mask cannot be made", self)
        self._query.finished.connect(self._on_mask)
        self._mask: tuple[Any, Area | RestoreError] | None = None
        self._waiting: Callable[[], None] | None = None

    def area(self, layer: ImageLayer) -> Area:
        """Return the area of the target now; raises `RestoreError`, `NotReady` while it is made."""
        state, viewer = self._state, self._viewer
        image = image_of(layer)
        self._watch.follow(self._drawn_in(layer))
        make = area_of(
            state.target,
            viewer,
            layer,
            image,
            feather=state.options.target.feather,
            strength=self._watch.layer,
            crop=state.crop,
        )
        if state.target is not Target.PAINTED:
            self._query.discard()
            self._waiting = None
            return make()
        key = (id(layer), id(self._watch.layer), self._watch.version)
        if self._mask is None or self._mask[0] != key:
            self._query.submit(key, make)
            raise NotReady("The mask is being made.", "It takes a moment.")
        result = self._mask[1]
        if isinstance(result, RestoreError):
            raise result
        return result

    def when_found(self, then: Callable[[], None]) -> None:
        """Call `then` once, after the mask that was not ready is there."""
        self._waiting = then

    def leave(self) -> None:
        """Disconnect from the viewer; called once."""
        self._waiting = None
        self._watch.follow(None)
        self._query.discard()

    def _drawn_in(self, layer: ImageLayer) -> Layer | None:
        """Return the layer whose changes change the area."""
        target, viewer = self._state.target, self._viewer
        if target is Target.DRAWN:
            return areas_layer(viewer)
        if target is Target.GRADIENT:
            return gradient_layer(viewer)
        if target is not Target.PAINTED:
            return None
        return chosen_strength(viewer, self._state.strength_layer, layer)

    def _on_mask(self, key: Any, result: Any) -> None:
        self._mask = (key, result)
        self.found.emit()
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()
