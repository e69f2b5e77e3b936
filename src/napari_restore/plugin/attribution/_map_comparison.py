"""Two answers beside each other, box on box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_restore import Region
from napari_restore.plugin.attribution._layers import signed_colours
from napari_restore.plugin.compare._side_by_side import SideBySide
from napari_restore.plugin.layers._placing import enlarged, plane_of, shifted
from napari_restore.plugin.threads._background import in_background

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore.explain import Attribution
    from napari_restore.plugin.attribution._attribution_request import Question
    from napari_restore.plugin.attribution._layers import AttributionLayers

SHOWN = 64
"""Pixels around a box that are shown at least."""
LETTERS = 8
"""Points of the name of each on the canvas: half of it is as wide as the name."""


@dataclass(eq=False)
class Found:
    """An answer that the viewer shows."""

    answer: Attribution
    layers: AttributionLayers
    source: ImageLayer
    question: Question

    @property
    def title(self) -> str:
        """Number, model, method, and width × height at x, y of the box."""
        y0, x0, y1, x1 = self.answer.box
        return f"{self.layers.name} · {x1 - x0} × {y1 - y0} at {x0}, {y0}"

    @property
    def scale(self) -> int:
        """Level-0 pixels along a side of one of the map's."""
        return int(self.answer.record["attribution"]["scale"])


class Beside:
    """Shows the maps of two answers over their pictures under one camera, until `end`."""

    ended = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._wanted: tuple[Found, Found] | None = None
        self._grid: SideBySide | None = None
        self._made: list[ImageLayer] = []

    def show(self, one: Found, other: Found) -> None:
        """Begin; the pictures are made on another thread."""
        pair = self._wanted = one, other
        in_background(partial(_pictures, one.answer, other.answer), self._show, pair)

    def end(self) -> None:
        """Back to one view."""
        self._wanted = None
        if self._grid is not None:
            self._grid.end()

    def _show(self, pair: tuple[Found, Found], pictures: list[Any]) -> None:
        if pair is not self._wanted:
            return
        place, matrix = pair[0].answer.box, enlarged(plane_of(pair[0].source), pair[0].scale)
        for found, picture in zip(pair, pictures, strict=True):
            # Box on box: the camera shows the same place of both.
            (y, x, *_), (y0, x0, *_) = _around(found.answer), found.answer.box
            layer = self._viewer.add_image(
                picture,
                rgb=True,
                name=found.title,
                affine=shifted(matrix, place.y0 + y - y0, place.x0 + x - x0),
                units=found.source.units[-2:],
                axis_labels=found.source.axis_labels[-2:],
                metadata={"napari_restore_source": "attribution"},
            )
            label = layer.name_overlay
            label.font_size, label.box, label.visible = LETTERS, True, True
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


def _pictures(*answers: Attribution) -> list[Any]:
    """(h, w, 3) uint8 of each: the map over the grey picture of what is `_around` the box."""
    colours = signed_colours()
    pictures = []
    for answer in answers:
        around = _around(answer)
        values = np.zeros(around.shape, np.float32)
        near = around.intersect(answer.region)
        values[near.within(around)] = answer.read(near).sum(axis=2)
        # Each by its own largest: objectives and models differ in size, the places matter.
        most = float(np.abs(values).max(initial=0.0)) or 1.0
        drawn = colours.map((values / most / 2 + 0.5).ravel()).reshape(*values.shape, 4)
        grey = np.clip(answer.picture(around), 0, 1).mean(axis=2, keepdims=True)
        alpha = drawn[..., 3:]
        picture = np.round(255 * (alpha * drawn[..., :3] + (1 - alpha) * grey)).astype("u1")
        _outline(picture, answer.box.within(around))
        pictures.append(picture)
    return pictures


def _around(found: Attribution) -> Region:
    """What is shown of an answer beside another: its box and as much around."""
    image = found.image
    wide = found.box.expand(max(SHOWN, *found.box.shape))
    return wide.intersect(Region(0, 0, image.height, image.width))


def _outline(picture: Any, where: tuple[slice, slice]) -> None:
    """Draw a white line around a box of the picture, and a dark one around that."""
    rows, columns = where
    for far, value in ((2, 0), (1, 255)):
        top, left = max(0, rows.start - far), max(0, columns.start - far)
        part = picture[top : rows.stop + far, left : columns.stop + far]
        part[[0, -1]] = value
        part[:, [0, -1]] = value
