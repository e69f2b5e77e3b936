"""Two layers beside each other under one camera."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_restore.plugin.compare._shown_layers import ShownLayers

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

SPACING = 4
"""Screen pixels between the two."""
OURS = {"stride": 1, "shape": (1, -1), "spacing": SPACING, "enabled": True}


class SideBySide:
    """Shows two layers in napari's grid until `end`, which brings the former grid back.

    All other layers are hidden meanwhile. napari orders the grid as its list: the
    lower layer is on the left. Pan and zoom move both.
    """

    ended = Signal()

    def __init__(self, viewer: ViewerModel, left: Layer, right: Layer) -> None:
        self.viewer = viewer
        self._layers = (left, right)
        self._over = False
        grid = viewer.canvas.grid
        self._before = {name: getattr(grid, name) for name in OURS}
        self._shown = ShownLayers(viewer, left, right, only=True)
        # Placed by their order in the list; a negative stride turns it round.
        turned = viewer.layers.index(left) > viewer.layers.index(right)
        for name, value in OURS.items():
            setattr(grid, name, -1 if name == "stride" and turned else value)
        viewer.layers.events.removed.connect(self._on_removed)
        grid.events.enabled.connect(self._on_enabled)

    def end(self) -> None:
        """Show one view again, with the grid's settings and the layers as before."""
        if self._over:
            return
        self._over = True
        grid = self.viewer.canvas.grid
        self.viewer.layers.events.removed.disconnect(self._on_removed)
        grid.events.enabled.disconnect(self._on_enabled)
        for name in reversed(OURS):
            setattr(grid, name, self._before[name])
        self._shown.restore()
        self.ended.emit()

    def _on_enabled(self) -> None:
        """The user left the grid with napari's own button."""
        if not self.viewer.canvas.grid.enabled:
            self._before["enabled"] = False
            self.end()

    def _on_removed(self, event: Any) -> None:
        if any(event.value is layer for layer in self._layers):
            self.end()
