"""Layers that are compared: shown alone, side by side, or with one contrast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from psygnal import Signal

from napari_restore.plugin.layers._display import display_properties

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer
    from napari.layers import Layer

    from napari_restore.plugin.state._variant import Variant

SPACING = 4
"""Screen pixels between the two."""
OURS = {"stride": 1, "shape": (1, -1), "spacing": SPACING, "enabled": True}


class Compared(NamedTuple):
    """What a result is compared with in place of its source."""

    layer: ImageLayer
    corner: tuple[int, int] = (0, 0)
    """Level-0 row and column of the source on which the layer begins."""

    @classmethod
    def of(cls, variant: Variant) -> Compared:
        """Return a result."""
        box = variant.shown.box
        return cls(variant.layer, (box.y0, box.x0))


class ShownLayers:
    """Shows layers and hides the other results of their source, until `restore`."""

    def __init__(self, viewer: ViewerModel, *layers: Layer, only: bool = False) -> None:
        """Show `layers`; `only` hides everything else."""
        self.viewer = viewer
        self._before: list[tuple[Layer, bool]] = []
        sources = {layer.unique_id for layer in layers}
        for layer in viewer.layers:
            if layer in layers:
                self._set(layer, True)
            elif only or layer.metadata.get("napari_restore_source") in sources:
                self._set(layer, False)

    def restore(self) -> None:
        for layer, visible in self._before:
            if layer in self.viewer.layers:
                layer.visible = visible
        self._before.clear()

    def _set(self, layer: Layer, visible: bool) -> None:
        if bool(layer.visible) != visible:
            self._before.append((layer, bool(layer.visible)))
            layer.visible = visible


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
        """End when the user leaves the grid with napari's own button."""
        if not self.viewer.canvas.grid.enabled:
            self._before["enabled"] = False
            self.end()

    def _on_removed(self, event: Any) -> None:
        if any(event.value is layer for layer in self._layers):
            self.end()


class LinkedContrast:
    """Keeps contrast limits, gamma and colormap of sources and results the same."""

    def __init__(self) -> None:
        self._linked: list[tuple[ImageLayer, ImageLayer]] = []

    def follow(self, variants: Iterable[Variant]) -> None:
        """Link just these with their sources, and unlink the others."""
        from napari.experimental import link_layers, unlink_layers

        pairs = [(variant.source, variant.layer) for variant in variants]
        for pair in self._linked:
            if pair not in pairs:
                unlink_layers(pair, display_properties(pair[0]))
        for source, layer in pairs:
            if (source, layer) not in self._linked:
                for name in display_properties(source):
                    setattr(layer, name, getattr(source, name))
                link_layers((source, layer), display_properties(source))
        self._linked = pairs

    def close(self) -> None:
        self.follow(())
