"""Where a layer lies in the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore.plugin._display import Display

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_restore.images import Image

Matrix = npt.NDArray[np.float64]
NORTH_UP = ("up", "right")
"""Map coordinates grow upwards; napari's rows grow downwards unless told otherwise."""
_UNITS = {"US_survey_foot": "survey_foot"}
"""Our names of units where pint, which napari uses, has another."""


def place_of(image: Image, display: Display) -> dict[str, Any]:
    """`affine` and `units` of a layer of `image`; nothing for one that lies nowhere."""
    place = image.georeference
    if place is None or not place.is_placed:
        return {}
    unit = _UNITS.get(place.units, place.units)
    extra = display.ndim - 2
    return {
        "affine": widen(place.to_napari_affine(), display.ndim),
        "units": (*["pixel"] * extra, unit, unit),
    }


def widen(matrix: Matrix, ndim: int) -> Matrix:
    """A 3 × 3 matrix over (y, x) as one over `ndim` axes, the leading ones left alone."""
    wide = np.eye(ndim + 1)
    wide[-3:, -3:] = matrix
    return wide


def data_to_world(layer: Layer) -> Matrix:
    """The matrix, (ndim + 1)², that takes a layer's data coordinates to the world's."""
    from napari.utils.transforms import Affine

    own = Affine(
        scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear
    )
    matrix: Matrix = layer.affine.affine_matrix @ own.affine_matrix
    return matrix


def shifted(matrix: Matrix, y: float, x: float) -> Matrix:
    """The matrix of the part of a layer whose first pixel is row `y`, column `x`."""
    offset = np.eye(len(matrix))
    offset[-3, -1], offset[-2, -1] = y, x
    return matrix @ offset


def turn_north_up(viewer: ViewerModel, image: Image) -> None:
    """Point the camera as maps do when the first placed image comes into an empty viewer."""
    place = image.georeference
    if place is None or not place.is_placed or len(viewer.layers):
        return
    if place.to_napari_affine()[0, 0] < 0:
        viewer.scene.camera.orientation2d = NORTH_UP


def mixes_places(viewer: ViewerModel, image: Image) -> bool:
    """Whether `image` and what the viewer shows cannot lie side by side: map and pixels."""
    placed = image.georeference is not None and image.georeference.is_placed
    others = [layer for layer in viewer.layers if "napari_restore" in layer.metadata]
    return (
        any(str(layer.units[-1]) == "pixel" for layer in others)
        if placed
        else any(str(layer.units[-1]) != "pixel" for layer in others)
    )
