"""The box that follows the mouse while the user drags one over an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_restore.plugin.layers._placing import plane_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image as ImageLayer

    from napari_restore import Region

MOST = 2048
"""Texels along a side of a box larger than a screen; of others they are screen pixels."""
EDGE = 2
"""Width of its edge in texels: light outside, dark inside, seen on any image."""


class RubberBand:
    """A frame over pixels of an image layer, in a layer of its own until `remove`.

    An image, as the line of the swipe is: overlays that come and go while the canvas
    draws crash vispy (napari 0.9.2, Mesa).
    """

    def __init__(self, viewer: ViewerModel, source: ImageLayer) -> None:
        self._viewer = viewer
        self._source = source
        self._layer: ImageLayer | None = None

    def show(self, box: Region) -> None:
        """Put it around the level-0 pixels of `box`."""
        from napari.layers import Image as ImageLayer

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
                units=self._source.units[-2:],
                axis_labels=self._source.axis_labels[-2:],
                # No result, but no image to restore either.
                metadata={"napari_restore_source": "airlight"},
            )
            self._viewer.layers.append(self._layer)
            # The layer the user works on stays the one.
            self._viewer.layers.selection.active = self._source
            return
        if self._layer.data.shape != picture.shape:
            self._layer.data = picture
        self._layer.affine = affine

    def remove(self) -> None:
        """Take it away; the user may have done so, or have removed its source."""
        layer, self._layer = self._layer, None
        layers = self._viewer.layers
        if layer is not None and layer in layers:
            layers.remove(layer)
            if self._source in layers:
                layers.selection.active = self._source


def frame(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return a (height, width, 4) clear picture with a light and a dark edge."""
    picture = np.zeros((height, width, 4), np.uint8)
    picture[..., 3] = 255
    picture[1:-1, 1:-1, :3] = 0
    picture[0], picture[-1] = 255, 255
    picture[:, 0], picture[:, -1] = 255, 255
    picture[EDGE:-EDGE, EDGE:-EDGE] = 0
    return picture
