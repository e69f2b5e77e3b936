"""A tool that has the mouse on the canvas for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer


class CanvasTool:
    """Calls `on_mouse` for the mouse on the canvas, and `left` at Escape, until `end` puts all back."""

    # Meanwhile the cursor is a cross, the mouse does not move the picture, and `layer` is the
    # active one: the tool of another would act on the same click, and its keys come before those of
    # the viewer.
    def __init__(
        self,
        viewer: ViewerModel,
        layer: ImageLayer,
        on_mouse: Callable[[ViewerModel, Any], Any],
        left: Callable[[], object],
        hint: str,
    ) -> None:
        self._viewer, self._on_mouse = viewer, on_mouse
        viewer.layers.selection.active = layer
        layer.mode = "pan_zoom"
        self._style = viewer.cursor.style
        self._pans = viewer.scene.camera.mouse_pan
        self.hold()
        viewer.mouse_drag_callbacks.append(on_mouse)
        # What another plugin has bound there, or None: nothing.
        self._escape = viewer.bind_key("Escape", lambda _: left(), overwrite=True)
        viewer.status = f"{hint} Escape leaves."

    def hold(self) -> None:
        """Take the mouse again from a layer that has come."""
        self._viewer.cursor.style = "cross"
        self._viewer.scene.camera.mouse_pan = False

    def end(self) -> None:
        viewer = self._viewer
        viewer.mouse_drag_callbacks.remove(self._on_mouse)
        viewer.bind_key("Escape", self._escape, overwrite=True)
        viewer.scene.camera.mouse_pan = self._pans
        viewer.cursor.style = self._style
