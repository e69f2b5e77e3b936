"""Frames of a bracket as layers of their own, above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_restore.plugin.layers._layer_order import FRAME, insert_above
from napari_restore.plugin.layers._reader import layer_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.images import Image
    from napari_restore.plugin.fusion._frame_group import OpenBracket, OpenFrames


class FrameLayers:
    """Shows frames of the present bracket as they lie on its grid, until they are hidden again."""

    removed = Signal(int)
    """The user has removed the layer of a frame."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._source: ImageLayer | None = None
        self._opened: OpenFrames | None = None
        self._bracket: OpenBracket | None = None
        self._layers: dict[int, ImageLayer] = {}
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def numbers(self) -> frozenset[int]:
        """The frames that are shown."""
        return frozenset(self._layers)

    def follow(
        self, source: ImageLayer | None, opened: OpenFrames | None, bracket: OpenBracket | None
    ) -> None:
        """Take frames from another bracket, or from the same one as it now lies."""
        if source is not self._source or opened is not self._opened:
            self.clear()
        self._source, self._opened, self._bracket = source, opened, bracket

    def show(self, number: int, on: bool) -> None:
        """Show a frame above its bracket, or no more."""
        if not on:
            layer = self._layers.pop(number, None)
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
            return
        image, source = self._image(number), self._source
        if image is None or source is None or number in self._layers:
            return
        from napari.layers import Image as ImageLayer

        data, arguments, _ = layer_of(image, self._viewer)
        arguments["name"] = f"Frame: {arguments['name']}"
        active = self._viewer.layers.selection.active
        self._layers[number] = layer = ImageLayer(data, **arguments)
        layer.metadata[FRAME] = number
        insert_above(self._viewer, source, layer)
        # What is restored stays the same.
        self._viewer.layers.selection.active = active

    def clear(self) -> None:
        """Remove all layers."""
        for number in list(self._layers):
            self.show(number, False)
            self.removed.emit(number)

    def leave(self) -> None:
        """Disconnect; layers stay."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)

    def _image(self, number: int) -> Image | None:
        """Return a frame on the grid of the bracket, or as it is where it is no part of that."""
        bracket, opened = self._bracket, self._opened
        if opened is None:
            return None
        if bracket is None or number not in bracket.numbers:
            return opened.images[number]
        place = bracket.numbers.index(number)
        others = bracket.image.companions
        # The reference with companions is the bracket itself.
        is_reference = others is not None and place == others.reference
        return opened.images[number] if is_reference else bracket.image.frames[place]

    def _on_removed(self, event: Any) -> None:
        for number, layer in list(self._layers.items()):
            if layer is event.value:
                del self._layers[number]
                self.removed.emit(number)
