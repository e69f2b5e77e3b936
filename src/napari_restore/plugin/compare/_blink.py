"""A key that shows the source while it is pressed."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from superqt.utils import qdebounced

from napari_restore.plugin.widgets._keys import KEYS

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_restore.plugin.state._state import RestoreState

KEY = KEYS["blink"].keys
RELEASED_MS = 50
"""A key that is pressed again within this time was not released: X11 repeats it as release and press."""


class Blink:
    """Results are transparent while the key is pressed, or from `press` to `release`.

    They are made clear instead of hidden: napari reads the pixels of a hidden layer
    again when it comes back.
    """

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        self.viewer = viewer
        self.state = state
        self._opacities: list[tuple[Layer, float]] = []
        self._source: tuple[Layer, bool] | None = None
        """The source and whether it was visible; None while nothing is pressed."""
        self._key_released = qdebounced(self.release, timeout=RELEASED_MS)
        self._former = viewer.bind_key(KEY, self._on_key, overwrite=True)

    def press(self) -> None:
        """Show the source of the current result."""
        self._key_released.cancel()
        current = self.state.current
        if current is None or self._source is not None:
            return
        if current.source not in self.viewer.layers:
            return
        source = current.source
        over = [
            layer
            for layer in self.viewer.layers
            if layer.metadata.get("napari_restore_source") == source.unique_id
        ]
        self._opacities = [(layer, layer.opacity) for layer in over]
        for layer in over:
            layer.opacity = 0
        self._source = source, bool(source.visible)
        source.visible = True

    def release(self) -> None:
        """Show everything as before."""
        self._key_released.cancel()
        for layer, opacity in self._opacities:
            layer.opacity = opacity
        self._opacities.clear()
        if self._source is not None:
            source, visible = self._source
            source.visible = visible
            self._source = None

    def close(self) -> None:
        """Restore the key's former binding."""
        self.release()
        self.viewer.bind_key(KEY, self._former, overwrite=True)

    def _on_key(self, viewer: Any) -> Generator[None, None, None]:
        self.press()
        yield
        self._key_released()
