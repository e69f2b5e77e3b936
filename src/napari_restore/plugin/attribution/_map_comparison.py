"""Two attributions side by side, box on box."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_restore import Region
from napari_restore.plugin.attribution._layers import signed_colours
from napari_restore.plugin.compare._compared_layers import SideBySide
from napari_restore.plugin.layers._placing import enlarged, plane_of, shifted
from napari_restore.plugin.tasks._background import in_background

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.explain import Attribution
    from napari_restore.plugin.attribution._attribution_task import AttributionResult

MARGIN = 64
"""Pixels around a box that are shown at least."""
FONT_SIZE = 8
"""Points of the name of each on the canvas, half of which is as wide as the name."""


class MapComparison:
    """Shows the maps of two attributions over their images under one camera, until `end`."""

    ended = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._pair: tuple[AttributionResult, AttributionResult] | None = None
        self._grid: SideBySide | None = None
        self._made: list[ImageLayer] = []

    def show(self, one: AttributionResult, other: AttributionResult) -> None:
        """Begin; the pictures are made on another thread."""
        pair = self._pair = one, other
        in_background(partial(_pictures, one.attribution, other.attribution), self._show, pair)

    def end(self) -> None:
        """Show one view again."""
        self._pair = None
        if self._grid is not None:
            self._grid.end()

    def _show(self, pair: tuple[AttributionResult, AttributionResult], pictures: list[Any]) -> None:
        if pair is not self._pair:
            return
        place, matrix = pair[0].attribution.box, enlarged(plane_of(pair[0].source), pair[0].scale)
        for result, picture in zip(pair, pictures, strict=True):
            # Box on box: the camera shows the same place of both.
            (y, x, *_), (y0, x0, *_) = _around(result.attribution), result.attribution.box
            layer = self._viewer.add_image(
                picture,
                rgb=True,
                name=result.title,
                affine=shifted(matrix, place.y0 + y - y0, place.x0 + x - x0),
                units=result.source.units[-2:],
                axis_labels=result.source.axis_labels[-2:],
                metadata={"napari_restore_source": "attribution"},
            )
            label = layer.name_overlay
            label.font_size, label.box, label.visible = FONT_SIZE, True, True
            self._made.append(layer)
        self._grid = SideBySide(self._viewer, *self._made)
        self._grid.ended.connect(self._on_ended)
        middle = matrix @ [(place.y0 + place.y1 - 1) / 2, (place.x0 + place.x1 - 1) / 2, 1]
        camera = self._viewer.scene.camera
        camera.center = (*camera.center[:-2], *middle[:2])

    def _on_ended(self) -> None:
        self._grid = None
        made, self._made = self._made, []
        for layer in made:
            if layer in self._viewer.layers:
                # Drivers in software can crash where a text is drawn as its layer goes.
                layer.name_overlay.visible = False
                self._viewer.layers.remove(layer)
        self.ended.emit()


def _pictures(*attributions: Attribution) -> list[Any]:
    """Return (h, w, 3) uint8 of each: the map over the grey image `_around` the box."""
    colours = signed_colours()
    pictures = []
    for attribution in attributions:
        around = _around(attribution)
        values = np.zeros(around.shape, np.float32)
        near = around.intersect(attribution.region)
        values[near.within(around)] = attribution.read(near).sum(axis=2)
        # Each by its own largest: objectives and models differ in size, the places matter.
        values[~np.isfinite(values)] = 0
        most = float(np.abs(values).max(initial=0.0)) or 1.0
        drawn = colours.map((values / most / 2 + 0.5).ravel()).reshape(*values.shape, 4)
        grey = np.clip(attribution.picture(around), 0, 1).mean(axis=2, keepdims=True)
        alpha = drawn[..., 3:]
        picture = np.round(255 * (alpha * drawn[..., :3] + (1 - alpha) * grey)).astype("u1")
        _outline(picture, attribution.box.within(around))
        pictures.append(picture)
    return pictures


def _around(attribution: Attribution) -> Region:
    """Return the part that is shown: the box and as much around it."""
    image, box = attribution.image, attribution.box
    wide = box.expand(max(MARGIN, *box.shape))
    return wide.intersect(Region(0, 0, image.height, image.width))


def _outline(picture: Any, where: tuple[slice, slice]) -> None:
    """Draw a white line around a box of the picture, and a dark one around that."""
    rows, columns = where
    for far, value in ((2, 0), (1, 255)):
        top, left = max(0, rows.start - far), max(0, columns.start - far)
        part = picture[top : rows.stop + far, left : columns.stop + far]
        part[[0, -1]] = value
        part[:, [0, -1]] = value
