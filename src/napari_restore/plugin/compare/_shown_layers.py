"""Which layers are visible while two are compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class ShownLayers:
    """Shows the wanted layers and hides the other results of their source, until `restore`."""

    def __init__(self, viewer: ViewerModel, *wanted: Layer, only: bool = False) -> None:
        """`only`: hide everything else."""
        self.viewer = viewer
        self._before: list[tuple[Layer, bool]] = []
        sources = {layer.unique_id for layer in wanted}
        for layer in viewer.layers:
            if layer in wanted:
                self._set(layer, True)
            elif only or layer.metadata.get("napari_restore_source") in sources:
                self._set(layer, False)

    def restore(self) -> None:
        """Show and hide as before."""
        for layer, visible in self._before:
            if layer in self.viewer.layers:
                layer.visible = visible
        self._before.clear()

    def _set(self, layer: Layer, visible: bool) -> None:
        if bool(layer.visible) != visible:
            self._before.append((layer, bool(layer.visible)))
            layer.visible = visible
