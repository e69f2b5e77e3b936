"""The place of a layer in napari's world: matrices, units, orientation."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore.plugin.layers._display import Display

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_restore.images import Image

Matrix = npt.NDArray[np.float64]
NORTH_UP = ("up", "right")
"""Map coordinates grow upwards; napari's rows grow downwards unless set otherwise."""
Origin = tuple[float, float]
ORIGIN = "napari_restore_origin"
"""In a layer's metadata: where on the map (y, x) its world begins."""
FINE = 1 / 8
"""Share of a pixel by which layers may be misplaced."""
_turned: weakref.WeakSet[ViewerModel] = weakref.WeakSet()
"""Viewers whose canvas `turn_upright` has turned north up."""
_UNITS = {"US_survey_foot": "survey_foot"}
"""Our names of units where pint, which napari uses, has another."""


def place_of(image: Image, display: Display, origin: Origin = (0.0, 0.0)) -> dict[str, Any]:
    """Return `scale`, `affine` and `units` of a layer of `image`; {} without a georeference.

    `origin` is the place on the map (y, x) where the window's world begins.
    """
    place = image.georeference
    if place is None or not place.is_placed:
        return {}
    unit = _UNITS.get(place.units, place.units)
    extra = display.ndim - 2
    matrix = place.to_napari_affine()
    matrix[:2, 2] -= origin
    return {
        **scale_and_affine(widen(matrix, display.ndim)),
        "units": (*["pixel"] * extra, unit, unit),
    }


def origin_of(viewer: ViewerModel | None, image: Image) -> Origin:
    """Return where on the map (y, x) the world of a window begins that shows `image`.

    Graphics cards place layers with 24-bit numbers: far from zero, small pixels end
    up beside each other. The first placed image decides for all layers of a window:
    near its corner if its pixels are small for their distance, else at the map's zero.
    """
    for layer in viewer.layers if viewer is not None else ():
        if ORIGIN in layer.metadata:
            found: Origin = layer.metadata[ORIGIN]
            return found
    place = image.georeference
    if place is None or not place.is_placed:
        return 0.0, 0.0
    matrix = place.to_napari_affine()
    corners = matrix @ [[0, 0, image.height, image.height], [0, image.width] * 2, [1] * 4]
    pixel = np.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    if np.abs(corners[:2]).max() * np.finfo(np.float32).eps <= FINE * pixel:
        return 0.0, 0.0
    y, x = np.floor(corners[:2].min(axis=1) / 1000) * 1000
    return float(y), float(x)


def widen(matrix: Matrix, ndim: int) -> Matrix:
    """Return a 3 × 3 matrix over (y, x) as one over `ndim` axes, the leading ones unchanged."""
    wide = np.eye(ndim + 1)
    wide[-3:, -3:] = matrix
    return wide


def scale_and_affine(matrix: Matrix) -> dict[str, Any]:
    """Return `scale` and `affine` that place a layer by `matrix`, (ndim + 1)².

    The size of a pixel is the scale: napari 0.9 fits highlights, handles and new shapes to
    the screen by it and disregards the affine.
    """
    size = np.ones(len(matrix))
    size[-3:-1] = np.hypot(*matrix[-3:-1, -3:-1])
    return {"scale": size[:-1], "affine": matrix / size}


def data_to_world(layer: Layer) -> Matrix:
    """Return the matrix, (ndim + 1)², from a layer's data coordinates to the world's."""
    from napari.utils.transforms import Affine

    own = Affine(
        scale=layer.scale, translate=layer.translate, rotate=layer.rotate, shear=layer.shear
    )
    matrix: Matrix = layer.affine.affine_matrix @ own.affine_matrix
    return matrix


def plane_of(layer: Layer) -> Matrix:
    """Return the matrix, 3 × 3, from a layer's (row, column) to the world, of the last two axes."""
    return data_to_world(layer)[-3:, -3:]


def shifted(matrix: Matrix, y: float, x: float) -> Matrix:
    """Return the matrix of the part of a layer whose first pixel is row `y`, column `x`."""
    offset = np.eye(len(matrix))
    offset[-3, -1], offset[-2, -1] = y, x
    return matrix @ offset


def enlarged(matrix: Matrix, scale: int) -> Matrix:
    """Return the matrix of a level, `scale` times smaller, placed as napari places levels."""
    steps = np.eye(len(matrix))
    steps[-3, -3] = steps[-2, -2] = scale
    return matrix @ steps


def turn_upright(viewer: ViewerModel, image: Image) -> None:
    """Turn the canvas so that `image`, opened or chosen just now, is upright: maps with north up.

    A canvas that others have turned stays as it is.
    """
    camera, usual = viewer.scene.camera, _usual_orientation()
    place = image.georeference
    on_map = place is not None and place.is_placed and place.to_napari_affine()[0, 0] < 0
    if on_map and camera.orientation2d == usual:
        camera.orientation2d = NORTH_UP
        _turned.add(viewer)
    elif not on_map and camera.orientation2d == NORTH_UP and viewer in _turned:
        camera.orientation2d = usual
        _turned.discard(viewer)


def _usual_orientation() -> tuple[str, str]:
    """Return how napari's preferences turn the canvas."""
    from napari.settings import get_settings

    settings = get_settings().application
    return str(settings.vertical_axis_orientation), str(settings.horizontal_axis_orientation)


def mixes_places(viewer: ViewerModel, image: Image) -> bool:
    """Return whether `image` and the viewer's layers cannot lie side by side: map and pixels."""
    placed = image.georeference is not None and image.georeference.is_placed
    others = [layer for layer in viewer.layers if "napari_restore" in layer.metadata]
    return (
        any(str(layer.units[-1]) == "pixel" for layer in others)
        if placed
        else any(str(layer.units[-1]) != "pixel" for layer in others)
    )
