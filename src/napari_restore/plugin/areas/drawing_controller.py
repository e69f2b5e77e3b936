"""Drawing over an image: the layer and the mode of each tool, and what ends it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
import psygnal
from napari.layers import Image as ImageLayer, Layer, Shapes, Vectors
from qtpy.QtCore import QObject
from superqt.utils import qdebounced

from napari_restore.plugin.areas.areas import (
    AREAS,
    EXCLUDED,
    GRADIENT,
    OF_AREAS,
    OF_EXCLUDED,
    PAINT,
    THIN,
    areas_layer,
    excluded_layer,
    gradient_layer,
    new_paint_layer,
)
from napari_restore.plugin.layers.placing import in_layer, plane_of, scale_and_affine
from napari_restore.plugin.state.request import TargetChoice
from napari_restore.plugin.state.state import Connections, RestoreState, image_of

if TYPE_CHECKING:
    from napari.components import ViewerModel


EDGE = 2
"""Width of edges in screen pixels."""
HEAD = 16
"""Length of the sides of an arrow's head in screen pixels."""
BRUSH = 40
"""Diameter of the brush in screen pixels."""
DEBOUNCE_MS = 150


class Tool(Enum):
    """What a user draws with: the button's label, its target, a mode of napari, what to do next."""

    RECTANGLE = (
        "Rectangle",
        TargetChoice.DRAWN,
        "add_rectangle",
        "Drag a rectangle over the image; draw as many as you like.",
    )
    POLYGON = (
        "Polygon",
        TargetChoice.DRAWN,
        "add_polygon",
        "Click the corners one by one; a double click closes the polygon.",
    )
    BRUSH = (
        "Brush",
        TargetChoice.PAINTED,
        "paint",
        "Paint where the image shall be restored; [ and ] change the brush, E erases.",
    )
    GRADIENT = (
        "Gradient",
        TargetChoice.GRADIENT,
        "add_line",
        "Drag from where nothing shall change to where all shall.",
    )
    EXCLUDE = (
        "Draw …",
        None,
        "add_polygon",
        "Click the corners of what shall stay as it is; a double click closes the polygon.",
    )

    def __init__(self, label: str, target: TargetChoice | None, mode: str, hint: str) -> None:
        self.label = label
        self.target = target
        self.mode = mode
        self.hint = hint


class DrawingController(QObject):
    """Makes and activates the layers that users draw in, and knows which tool is in use.

    Escape, the same button again, another mode or another layer ends it.
    """

    changed = psygnal.Signal(object)
    """The `Tool` in use, or None."""

    def __init__(
        self, viewer: ViewerModel, state: RestoreState, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._state = state
        self.tool: Tool | None = None
        self.layer: Layer | None = None
        """The layer that is drawn in while a tool is in use."""
        self._thin_soon = qdebounced(self._thin, timeout=DEBOUNCE_MS, parent=self)
        self._of_layer = Connections(self)
        Connections(
            self,
            (viewer.layers.selection.events.active, self._on_active),
            (viewer.scene.camera.events.zoom, self._on_zoom),
            (state.events.target, self._on_target),
        )

    def follow_purpose(self, layer: Layer) -> None:
        """Draw on in another layer where `layer` is excluded now, or no longer, and the tool's is not."""
        tool, source = self.tool, self._state.layer
        fits = (EXCLUDED in layer.metadata) is (tool is Tool.EXCLUDE)
        if fits or layer is not self.layer:
            return
        self.end()
        if tool is not None and tool is not Tool.EXCLUDE and source is not None:
            self._begin(tool, source)

    def toggle(self, tool: Tool) -> None:
        """Begin to draw with `tool`, or end it when that is in use."""
        if self.tool is tool:
            self.end()
        elif self._state.layer is not None:
            self._begin(tool, self._state.layer)

    def end(self) -> None:
        """End drawing; what is drawn stays."""
        if self.layer is not None:
            _finish(self.layer)

    def finish(self) -> None:
        """End it, and hide the paint: the image below is to be seen."""
        self.end()
        for layer in self._viewer.layers:
            if PAINT in layer.metadata:
                layer.visible = False

    def _begin(self, tool: Tool, source: ImageLayer) -> None:
        self._follow(None, None)
        layer = self._layer_for(tool, source)
        layer.visible = True
        self._viewer.layers.selection.active = layer
        layer.mode = tool.mode
        if tool is Tool.BRUSH:
            layer.selected_label = 1
            pixel = float(min(layer.scale)) * self._viewer.scene.camera.zoom
            layer.brush_size = max(1, round(BRUSH / pixel))
        self._follow(tool, layer)

    def _layer_for(self, tool: Tool, source: ImageLayer) -> Layer:
        viewer = self._viewer
        if tool is Tool.BRUSH:
            return self._paint_layer(source)
        find = {Tool.GRADIENT: gradient_layer, Tool.EXCLUDE: excluded_layer}.get(tool, areas_layer)
        found = find(viewer)
        # Other layers may contain anything, and lie elsewhere.
        if found is not None and THIN in found.metadata:
            if np.allclose(plane_of(found), plane_of(source)):
                return found
        if tool is Tool.GRADIENT:
            return add_outlines(viewer, "Gradient", source, {GRADIENT: True})
        if tool is Tool.EXCLUDE:
            return add_outlines(viewer, "Excluded", source, {EXCLUDED: AREAS})
        return add_outlines(viewer, AREAS, source, {})

    def _paint_layer(self, source: ImageLayer) -> Layer:
        """Return the paint layer over `source`: each image has its own."""
        known = source.unique_id
        for layer in reversed(self._viewer.layers):
            if layer.metadata.get(PAINT) == known and EXCLUDED not in layer.metadata:
                break
        else:
            image = image_of(source)
            layer = new_paint_layer(source, (image.height, image.width))
            layer.metadata[PAINT] = known
            self._viewer.add_layer(layer)
            layer.bind_key("Escape", _finish, overwrite=True)
        self._state.strength_layer = layer
        return layer

    def _on_target(self) -> None:
        self.end()
        self._adopt()

    # -- what ends it ------------------------------------------------------------

    def _follow(self, tool: Tool | None, layer: Layer | None) -> None:
        self.tool, self.layer = tool, layer
        self._of_layer.end()
        if layer is not None:
            self._of_layer.add((layer.events.mode, self._on_mode))
            if GRADIENT in layer.metadata:
                self._of_layer.add((layer.events.data, self._on_line))
        self.changed.emit(tool)

    def _on_mode(self, event: Any) -> None:
        if self.tool is not None and str(event.mode) != self.tool.mode:
            # Erasing and the like are still painting.
            if self.tool is not Tool.BRUSH or str(event.mode) == "pan_zoom":
                self._follow(None, None)

    def _on_active(self, event: Any) -> None:
        self._adopt()
        layer = self.layer
        if layer is not None and event.value is not layer:
            self._follow(None, None)
            if layer in self._viewer.layers:
                _finish(layer)

    def _on_line(self, event: Any) -> None:
        """Replace the gradient before by a new line: there is one at a time."""
        layer = event.source
        if str(event.action) not in ("added", "changed") or not layer.data:
            return
        if str(event.action) == "added" and len(layer.data) > 1:
            layer.selected_data = set(range(len(layer.data) - 1))
            layer.remove_selected()
        self._point(layer)

    def _point(self, layer: Shapes) -> None:
        """Draw the line as an arrow: its head is where everything changes."""
        matrix = plane_of(layer)
        arrow = arrow_of(layer.data[-1], in_layer(HEAD, self._viewer, matrix))
        if layer.shape_type[-1] == "path" and np.allclose(arrow, layer.data[-1]):
            return
        with layer.events.data.blocker(self._on_line):
            layer.data = [(arrow, "path")]
            layer.edge_width = [in_layer(EDGE, self._viewer, matrix)]
            layer.face_color = ["transparent"]

    # -- edges -------------------------------------------------------------------

    def _on_zoom(self) -> None:
        if any(THIN in layer.metadata for layer in self._viewer.layers):
            self._thin_soon()

    def _adopt(self) -> None:
        """Keep the edges thin of a layer that napari's own button made, once areas are drawn in it."""
        layer = areas_layer(self._viewer) if self._state.target is TargetChoice.DRAWN else None
        if layer is None or THIN in layer.metadata:
            return
        # Napari draws them a unit of the data wide, which may be a kilometre or nothing; edges that
        # somebody has set stay.
        if {layer.current_edge_width, *layer.edge_width} == {1}:
            layer.metadata[THIN] = True
            self._thin()

    def _thin(self) -> None:
        """Set the width of edges, which is the same on the screen at every zoom."""
        for layer in self._viewer.layers:
            if THIN in layer.metadata:
                width = in_layer(EDGE, self._viewer, plane_of(layer))
                if isinstance(layer, Vectors):
                    # One width for all.
                    layer.edge_width = width
                    continue
                layer.current_edge_width = width
                if len(layer.data):
                    layer.edge_width = [width] * len(layer.data)
                    if GRADIENT in layer.metadata:
                        self._point(layer)


def arrow_of(line: Any, length: float) -> Any:
    """Return the path (6, 2) of an arrow along `line` (n, 2), whose head has sides of `length`."""
    line = np.asarray(line, float)
    start, tip = line[0], line[-1]
    # Of an arrow whose tip was dragged the tip is the one of its three points that differs from the
    # other two.
    if len(line) == 6:
        tips = line[[1, 3, 5]]
        away = [np.abs(tips - point).sum() for point in tips]
        tip = tips[int(np.argmax(away))]
    along = tip - start
    size = float(np.hypot(*along))
    if size == 0:
        return np.array([start] * 6)
    back = -along / size * min(length, size / 2)
    cos, sin = np.cos(np.pi / 7), np.sin(np.pi / 7)
    left = tip + np.array([[cos, -sin], [sin, cos]]) @ back
    right = tip + np.array([[cos, sin], [-sin, cos]]) @ back
    return np.array([start, tip, left, tip, right, tip])


def add_outlines(
    viewer: ViewerModel, name: str, source: ImageLayer, metadata: dict[str, Any]
) -> Shapes:
    """Add a Shapes layer over `source`; while a `DrawingController` lives its edges stay thin."""
    # In pixels of the image: napari keeps corners in float32, which on a map are
    # off by metres, and draws rectangles along the layer's own axes.
    matrix = plane_of(source)
    layer = viewer.add_shapes(
        name=name,
        ndim=2,
        face_color="transparent",
        edge_color=OF_EXCLUDED if EXCLUDED in metadata else OF_AREAS,
        edge_width=in_layer(EDGE, viewer, matrix),
        **scale_and_affine(matrix),
        # Those of the image, or napari takes pixels for metres.
        units=source.units[-2:],
        metadata={THIN: True, **metadata},
    )
    layer.bind_key("Escape", _finish, overwrite=True)
    return layer


def _finish(layer: Layer) -> None:
    """Close what is being drawn and let the mouse move the image again."""
    layer.mode = "pan_zoom"
