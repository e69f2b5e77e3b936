"""Shows the colour of the haze that a method works with, and takes it from the image."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image as ImageLayer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel

from napari_restore import api
from napari_restore.errors import BadParameter, BadRegion, RestoreError
from napari_restore.plugin.layers.canvas_tool import CanvasTool
from napari_restore.plugin.layers.layer_order import keeping_active, take_away
from napari_restore.plugin.layers.placing import axes_of, bounding_region, in_data, plane_of
from napari_restore.plugin.state.state import RestoreState, image_of
from napari_restore.plugin.tasks.notices import show_problem
from napari_restore.plugin.tasks.task import LatestQuery
from napari_restore.plugin.widgets.folding import add_button
from napari_restore.plugin.widgets.section import Section

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_restore import Region
    from napari_restore.models import ModelCard


MOST = 2048
"""Texels along a side of a box larger than a screen; of others they are screen pixels."""
EDGE = 2
"""Width of its edge in texels: light outside, dark inside, seen on any image."""


class RubberBand:
    """A frame over pixels of an image layer, in a layer of its own until `remove`."""

    # An image, as the line of the swipe is: overlays that come and go while the canvas draws crash
    # vispy (napari 0.9.2, Mesa).
    def __init__(self, viewer: ViewerModel, source: ImageLayer) -> None:
        self._viewer = viewer
        self._source = source
        self._layer: ImageLayer | None = None

    def show(self, box: Region) -> None:
        """Put it around the level-0 pixels of `box`."""
        matrix = plane_of(self._source)
        zoom = float(self._viewer.scene.camera.zoom)
        sides = np.array(box.shape)
        on_screen = sides * np.linalg.norm(matrix[:2, :2], axis=0) * zoom
        height, width = (int(n) for n in np.clip(np.round(on_screen), 1, MOST))
        picture = frame(height, width)
        step = sides / (height, width)
        corner = np.array([box.y0, box.x0]) - 0.5 + step / 2
        affine = matrix @ np.array([[step[0], 0, corner[0]], [0, step[1], corner[1]], [0, 0, 1]])
        if self._layer is None:
            self._layer = ImageLayer(
                picture,
                name="Airlight",
                rgb=True,
                affine=affine,
                **axes_of(self._source),
                # No result, but no image to restore either.
                metadata={"napari_restore_source": "airlight"},
            )
            # The layer the user works on stays the one.
            with keeping_active(self._viewer):
                self._viewer.layers.append(self._layer)
            return
        if self._layer.data.shape != picture.shape:
            self._layer.data = picture
        self._layer.affine = affine

    def remove(self) -> None:
        """Take it away; the user may have done so, or have removed its source."""
        layer, self._layer = self._layer, None
        with keeping_active(self._viewer):
            take_away(self._viewer, layer)


def frame(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return a (height, width, 4) clear picture with a light and a dark edge."""
    picture = np.zeros((height, width, 4), np.uint8)
    picture[..., 3] = 255
    picture[1:-1, 1:-1, :3] = 0
    picture[0], picture[-1] = 255, 255
    picture[:, 0], picture[:, -1] = 255, 255
    picture[EDGE:-EDGE, EDGE:-EDGE] = 0
    return picture


NAME = "airlight"
"""The parameter this row belongs to; shown for the models that declare it."""
AUTO = "auto"
Colour = tuple[float, ...]


class AirlightPicker(Section):
    """The airlight in use as a swatch and numbers; Pick takes it from the canvas."""

    # While picking, a click means a pixel and a drag a box of the layer to restore, which is shown
    # meanwhile; Escape or Pick again leaves it. Nothing is left on the viewer afterwards.

    picked = Signal(str)
    """The parameter's new value: "auto" or "r,g,b"."""

    def __init__(self, viewer: ViewerModel, state: RestoreState) -> None:
        super().__init__(viewer, state)
        self._card: ModelCard | None = None
        self._picking: _Picking | None = None
        self._query = LatestQuery("The colour cannot be found", self, self._on_value)
        self.swatch = QFrame(self)
        self.swatch.setFixedSize(18, 18)
        self.swatch.setFrameShape(QFrame.Shape.Box)
        self.values = QLabel(self, wordWrap=True)
        tip = "Click the haziest place of the image, or drag a box there; Escape leaves it"
        self.pick_button = add_button(self, "Pick", tip, checkable=True)
        tip = "Find it in the haziest thousandth of the image"
        self.auto_button = add_button(self, "Auto", tip, lambda: self.picked.emit(AUTO))
        self.values.setToolTip("The airlight in use: the colour of the haze, a number per band")
        row = QHBoxLayout(self)
        row.addWidget(self.swatch)
        row.addWidget(self.values, 1)
        row.addWidget(self.pick_button)
        row.addWidget(self.auto_button)
        row.setContentsMargins(0, 0, 0, 0)
        self.pick_button.toggled.connect(self._on_pick)
        events = state.events
        self.listen(self.show_value, events.method, events.current, events.running)
        self.listen(self.stop, events.layer)

    def show_card(self, card: ModelCard) -> None:
        """Show the view for a model that has an airlight."""
        if self._card is None or card.id != self._card.id:
            self.stop()
        self._card = card
        self.setVisible(any(parameter.name == NAME for parameter in card.parameters))
        self.show_value()

    def show_value(self) -> None:
        """Show the airlight in use: the given one, else that of the last run."""
        given = str(self.state.parameters.get(NAME, AUTO))
        colour = _parsed(given)
        found = self._found() if given == AUTO else None
        shown = colour or found
        numbers = "" if shown is None else "  ".join(f"{value:.2f}" for value in shown)
        if found is not None:
            self.values.setText(f"In use: {numbers} (auto, last run)")
        elif shown is not None:
            self.values.setText(f"In use: {numbers}")
        else:
            self.values.setText("Found by itself" if given == AUTO else "Not understood")
        self.swatch.setStyleSheet(f"background-color: {self._css(shown)}")
        self.auto_button.setEnabled(given != AUTO)

    def leave(self) -> None:
        self.stop()

    def stop(self) -> None:
        self.pick_button.setChecked(False)

    # -- picking -----------------------------------------------------------------

    def _on_pick(self, checked: bool) -> None:
        layer = self.state.layer
        if checked and layer is not None:
            self._picking = _Picking(self.viewer, layer, self._on_box, self.stop)
            return
        if self._picking is not None:
            self._picking.end()
            self._picking = None
        self.stop()

    def _on_box(self, box: Region | None) -> None:
        """Take the mean of `box`, in level-0 pixels, on another thread."""
        layer, card = self.state.layer, self._card
        self.stop()
        if layer is None or card is None:
            return
        if box is None:
            show_problem(BadRegion(f"That is outside {layer.name}.", "Choose a place within it."))
            return
        level = int(layer.data_level) if layer.multiscale else 0
        image = self.state.named_image(layer)
        level = min(level, len(image.level_shapes) - 1)
        self.values.setText("Looking …")
        place = _in_level(box, image.level_shapes, level)
        self._query.submit((id(image), place), partial(_value_of, image, card, place, level))

    def _on_value(self, _: Any, value: str | RestoreError) -> None:
        self.show_value()
        if isinstance(value, RestoreError):
            show_problem(value)
        else:
            self.picked.emit(value)

    # -- showing -----------------------------------------------------------------

    def _found(self) -> Colour | None:
        """Return the airlight of the last result of this layer."""
        variant = self.state.current
        record = variant.record if variant is not None else None
        if variant is None or record is None or variant.source is not self.state.layer:
            return None
        if record["model"]["parameters"].get(NAME) != AUTO:
            return None
        found = (record.get("context") or {}).get(NAME)
        return tuple(found) if found else None

    def _css(self, colour: Colour | None) -> str:
        if colour is None:
            return "transparent"
        rgb: Colour = (float(np.mean(colour)),) * 3
        if len(colour) == 3:
            rgb = self._as_rgb(colour)
        red, green, blue = (round(255 * min(1.0, max(0.0, value))) for value in rgb)
        return f"rgb({red}, {green}, {blue})"

    def _as_rgb(self, colour: Colour) -> Colour:
        """Return `colour`, in the file's order of bands, as red, green, blue."""
        image = self.state.image
        order = [
            role for role in (image.roles if image else ()) if role in ("red", "green", "blue")
        ]
        if sorted(order) != ["blue", "green", "red"]:
            return colour
        return tuple(colour[order.index(role)] for role in ("red", "green", "blue"))


class _Picking:
    """Listens on the canvas until a place is chosen; `end` puts everything back."""

    def __init__(self, viewer: ViewerModel, layer: ImageLayer, chosen: Any, left: Any) -> None:
        self._viewer = viewer
        self._layer = layer
        self._chosen = chosen
        self._band = RubberBand(viewer, layer)
        self._over = False
        hint = "Click or drag a box where the haze is thickest."
        self._tool = CanvasTool(viewer, layer, self._on_mouse, left, hint)

    def end(self) -> None:
        self._over = True
        self._tool.end()
        # Last: whatever becomes of its layer, the mouse and the keys are the user's again.
        self._band.remove()

    def _on_mouse(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        if event.button not in (None, 1):
            return
        start = end = np.array(event.position, float)
        event.handled = True
        yield
        while event.type == "mouse_move" and not self._over:
            end = np.array(event.position, float)
            if (box := self._box(start, end)) is not None:
                self._band.show(box)
                # A new layer brings the mouse of its own.
                self._tool.hold()
                viewer.status = f"Airlight from {box.width} × {box.height} pixels"
            event.handled = True
            yield
        if not self._over:
            self._chosen(self._box(start, end))

    def _box(self, start: Any, end: Any) -> Region | None:
        """Return the level-0 pixels between two places (world), at least one pixel; None outside."""
        image = image_of(self._layer)
        points = in_data(self._viewer, self._layer, [start[-2:], end[-2:]])
        low, high = np.floor(points.min(0) + 0.5), np.floor(points.max(0) + 0.5)
        return bounding_region(np.array([low, high]), (image.height, image.width))


def _in_level(box: Region, shapes: Any, level: int) -> tuple[int, int, int, int]:
    """Return `box` of level 0 in pixels of `level`, at least one."""
    (height, width), (rows, columns) = shapes[0], shapes[level]
    y0 = min(rows - 1, box.y0 * rows // height)
    x0 = min(columns - 1, box.x0 * columns // width)
    y1 = max(y0 + 1, -(-box.y1 * rows // height))
    x1 = max(x0 + 1, -(-box.x1 * columns // width))
    return y0, x0, min(rows, y1), min(columns, x1)


def _value_of(image: Any, card: ModelCard, box: Any, level: int) -> str:
    """Return the parameter's value for a place; not in the GUI thread."""
    colour = api.mean_colour(image, card, box, level)
    if min(colour) < 1e-4:
        raise BadParameter(
            "That place is black in a band, haze is bright.",
            "Pick where it is thickest.",
        )
    return ",".join(f"{value:.4g}" for value in colour)


def _parsed(text: str) -> Colour | None:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return None
