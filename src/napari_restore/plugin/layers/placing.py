"""The place of a layer in napari's world: matrices, units, orientation."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_restore import Region
from napari_restore.errors import BadRegion
from napari_restore.plugin.layers.display import Display
from napari_restore.plugin.layers.layer_order import SOURCE

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_restore.images import Image


def visible_region(viewer: ViewerModel, layer: Layer, size: tuple[int, int]) -> Region:
    """Return the level-0 pixels of `layer` on the canvas, within `size` = (height, width); raises `BadRegion`."""
    if viewer.dims.ndisplay != 2:
        raise BadRegion("There is no visible region in the 3D view.", "Switch to the 2D view.")
    # From canvas and camera: `layer.corner_pixels` grows to chunk boundaries and does not shrink
    # again when the user zooms in (napari 0.9).
    height, width = viewer.canvas.viewbox_size(viewer.layers)
    camera = viewer.scene.camera
    half = np.array([height, width]) / camera.zoom / 2
    centre = np.array(camera.center[-2:])
    corners = [centre + half * (dy, dx) for dy in (-1, 1) for dx in (-1, 1)]
    inside = bounding_region(in_data(viewer, layer, corners), size)
    if inside is None:
        raise BadRegion(
            f"Nothing of {layer.name} is in view.",
            "Pan back to it, or press Home to see all of it.",
        )
    return inside


def in_data(
    viewer: ViewerModel, layer: Layer, points: list[npt.NDArray[np.float64]]
) -> npt.NDArray[np.float64]:
    """Return world points (y, x) of the displayed axes as a layer's (row, column), shape (n, 2)."""
    rows = []
    for point in points:
        position = np.array(viewer.dims.point, float)
        position[list(viewer.dims.displayed)] = point
        rows.append(layer.world_to_data(position)[-2:])
    return np.array(rows)


def in_layer(pixels: float, viewer: ViewerModel, matrix: npt.NDArray[np.float64]) -> float:
    """Return a length of screen pixels in data of a layer that lies in the world by `matrix` (3, 3)."""
    pixel = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    return pixels / float(viewer.scene.camera.zoom) / pixel


def bounding_region(points: npt.NDArray[np.float64], size: tuple[int, int]) -> Region | None:
    """Return the pixels that points (row, column) enclose, inside an image; None if there are none."""
    if not np.isfinite(points).all():
        return None
    # A pixel's centre has whole coordinates, so its edges lie half a pixel away.
    low = np.floor(points.min(0) + 0.5 + 1e-6)
    high = np.ceil(points.max(0) + 0.5 - 1e-6)
    # Clipped as floats: far zoomed out they may not fit an int.
    y0, x0 = np.clip(low, 0, size).astype(int)
    y1, x1 = np.clip(high, 0, size).astype(int)
    region = Region(int(y0), int(x0), int(y1), int(x1))
    return None if region.is_empty else region


MARGIN = 0.95
"""Share of the canvas that a fitted layer takes, napari's."""
_fits: weakref.WeakKeyDictionary[ViewerModel, _FittedView] = weakref.WeakKeyDictionary()


def show_whole(viewer: ViewerModel, image: Image) -> None:
    """Fit the view to `image`, a photo that is opened just now, once it has its layer."""
    # It stays fitted while window and docks get their sizes, until the user moves the view.
    _fitted_in(viewer).expect(image)


def fit_to(viewer: ViewerModel, layer: Layer) -> None:
    """Fit the view to a layer, for as long as `show_whole` does."""
    _fitted_in(viewer).follow(layer)


def _fitted_in(viewer: ViewerModel) -> _FittedView:
    fit = _fits.get(viewer)
    if fit is None:
        fit = _fits[viewer] = _FittedView(viewer)
    return fit


class _FittedView:
    """The view of one viewer, as it was fitted to a layer."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = weakref.ref(viewer)
        self._expected: Image | None = None
        self._layer: weakref.ref[Layer] | None = None
        self._view: tuple[Any, ...] = ()
        """Zoom and centre when it was fitted."""
        # After napari's own, which count the axes and know the size.
        viewer.layers.events.inserted.connect(self._on_inserted, position="last")
        viewer.canvas.events.size.connect(self._fit_again, position="last")

    def expect(self, image: Image) -> None:
        self._expected = image

    def _on_inserted(self, event: Any) -> None:
        image = self._expected
        if image is not None and event.value.metadata.get("napari_restore") is image:
            self._expected = None
            self.follow(event.value)

    def follow(self, layer: Layer) -> None:
        self._layer = weakref.ref(layer)
        self._fit(layer)

    def _fit_again(self) -> None:
        viewer, layer = self._viewer(), None if self._layer is None else self._layer()
        if viewer is None or layer is None or layer not in viewer.layers:
            return
        camera = viewer.scene.camera
        if (camera.zoom, camera.center) == self._view:
            self._fit(layer)
        else:
            # From now on it is the user's.
            self._layer = None

    def _fit(self, layer: Layer) -> None:
        viewer = self._viewer()
        assert viewer is not None
        camera = viewer.scene.camera
        if layer.ndim == viewer.dims.ndim:
            viewer.fit_to_view(layers=[layer])
        else:
            # napari 0.9 asks it for the axes of others (IndexError).
            low, high = layer.extent.world[:, -2:]
            room = np.array(viewer.canvas.viewbox_size(viewer.layers))
            camera.center = (*camera.center[:-2], *(low + high) / 2)
            camera.zoom = MARGIN * float((room / (high - low + layer.extent.step[-2:])).min())
        self._view = camera.zoom, camera.center


Matrix = npt.NDArray[np.float64]
NORTH_UP = ("up", "right")
"""Map coordinates grow upwards; napari's rows grow downwards unless set otherwise."""
Origin = tuple[float, float]
ORIGIN = "napari_restore_origin"
"""In a layer's metadata: where on the map (y, x) its world begins."""
WORLD = "napari_restore_world"
"""In a layer's metadata: the georeference on whose map the window draws."""
FINE = 1 / 8
"""Share of a pixel by which layers may be misplaced."""
_turned: weakref.WeakSet[ViewerModel] = weakref.WeakSet()
"""Viewers whose canvas `turn_upright` has turned north up."""
_UNITS = {"US_survey_foot": "survey_foot"}
"""Our names of units where pint, which napari uses, has another."""


@dataclass(frozen=True)
class Placing:
    """How a layer of an image is placed in a window."""

    arguments: dict[str, Any]
    """`scale`, `affine` and `units`, or `scale` and `translate`, of the layer."""
    metadata: dict[str, Any]
    note: str | None = None
    """What users are told."""


def placing_of(viewer: ViewerModel | None, image: Image, display: Display) -> Placing:
    """Return where a layer of `image` goes in a window."""
    # The map of the first placed image is the window's. One in another coordinate system is drawn
    # on it as closely as an affine transform can: napari has no other. An image without a place on
    # that map gets its corner and its size of a pixel: with two sizes of pixels far apart napari's
    # sliders would have more steps than Qt can count.
    place, others = image.georeference, _ours(viewer)
    placed = place is not None and place.is_placed
    world = next((layer.metadata[WORLD] for layer in others if WORLD in layer.metadata), None)
    alone = f"{image.name} does not lie beside the other images: "
    if place is None or not placed:
        if world is None:
            return Placing({}, {})
        reason = f"{alone}they are placed on the map, it is not. Open it in a second window."
        return Placing(_beside(viewer, display), {}, reason)
    origin = origin_of(viewer, image)
    fitted = place.affine_on(world or place, (image.height, image.width))
    if fitted is None:
        reason = f"{alone}its place on their map cannot be computed. Open it in a second window."
        return Placing(_beside(viewer, display), {}, reason)
    matrix, error = fitted
    matrix[:2, 2] -= origin
    world = world or place
    unit = _UNITS.get(world.units, world.units)
    units = (*["pixel"] * (display.ndim - 2), unit, unit)
    arguments = {**scale_and_affine(widen(matrix, display.ndim)), "units": units}
    note: str | None = None
    if any(WORLD not in layer.metadata for layer in others):
        note = f"{alone}it is placed on the map, they are not. Open it in a second window."
        if _is_too_fine(viewer, arguments["scale"]):
            return Placing(_beside(viewer, display), {}, note)
    elif error:
        most = math.ceil(error) if error > 1 else math.ceil(100 * error) / 100
        note = (
            f"{image.name} is in another coordinate system than the window's map: it is drawn there "
            f"with an error of up to {most:g} pixels. Values and exports keep its own."
        )
    return Placing(arguments, {ORIGIN: origin, WORLD: world}, note)


def _ours(viewer: ViewerModel | None) -> list[Layer]:
    layers = viewer.layers if viewer is not None else ()
    return [layer for layer in layers if "napari_restore" in layer.metadata]


def _beside(viewer: ViewerModel | None, display: Display) -> dict[str, Any]:
    """Return the place of an image at the corner of the other layers, with their size of a pixel."""
    assert viewer is not None
    extent = viewer.layers.extent
    scale, corner = np.ones(display.ndim), np.zeros(display.ndim)
    scale[-2:], corner[-2:] = extent.step[-2:], extent.world[0, -2:]
    return {"scale": scale, "translate": corner}


def _is_too_fine(viewer: ViewerModel | None, scale: npt.NDArray[np.float64]) -> bool:
    """Return whether sliders would have more steps than fit a number of Qt."""
    assert viewer is not None
    reach = np.abs(viewer.layers.extent.world[:, -2:]).max()
    return bool(reach / scale[-2:].min() > np.iinfo(np.int32).max / 2)


def origin_of(viewer: ViewerModel | None, image: Image) -> Origin:
    """Return where on the map (y, x) the world of a window begins that shows `image`."""
    # Graphics cards place layers with 24-bit numbers: far from zero, small pixels end up beside
    # each other. The first placed image decides for all layers of a window: near its corner if its
    # pixels are small for their distance, else at the map's zero.
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
    grain = 1 if place.units == "degree" else 1000
    y, x = np.floor(corners[:2].min(axis=1) / grain) * grain
    return float(y), float(x)


def widen(matrix: Matrix, ndim: int) -> Matrix:
    """Return a 3 × 3 matrix over (y, x) as one over `ndim` axes, the leading ones unchanged."""
    wide = np.eye(ndim + 1)
    wide[-3:, -3:] = matrix
    return wide


def scale_and_affine(matrix: Matrix) -> dict[str, Any]:
    """Return `scale` and `affine` that place a layer by `matrix`, (ndim + 1)²."""
    # The size of a pixel is the scale: napari 0.9 fits highlights, handles and new shapes to the
    # screen by it and disregards the affine.
    size = np.ones(len(matrix))
    size[-3:-1] = np.hypot(*matrix[-3:-1, -3:-1])
    return {"scale": size[:-1], "affine": matrix / size}


def axes_of(source: Layer) -> dict[str, Any]:
    """Return `units` and `axis_labels` of a plane that lies over a layer."""
    return {"units": source.units[-2:], "axis_labels": source.axis_labels[-2:]}


def over(source: Layer, matrix: Matrix | None = None, **metadata: Any) -> dict[str, Any]:
    """Return place, axes and metadata of a layer made of `source`: where that is, or at a matrix 3 × 3."""
    place = scale_and_affine(plane_of(source) if matrix is None else matrix)
    return {**place, **axes_of(source), "metadata": {SOURCE: source.unique_id, **metadata}}


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


def resampled(matrix: Matrix, ratio: Fraction) -> Matrix:
    """Return the matrix of a layer with `ratio` times as many pixels along a side as one at `matrix`."""
    # Such as a result of another size, a level or a map of cells. Its pixels cover those of the
    # image: their edges meet, not their middles. So does napari draw the levels of one layer.
    steps, shift = np.eye(len(matrix)), (1 / float(ratio) - 1) / 2
    steps[-3, -3] = steps[-2, -2] = 1 / float(ratio)
    steps[-3, -1] = steps[-2, -1] = shift
    return matrix @ steps


def turn_upright(viewer: ViewerModel, image: Image) -> None:
    """Turn the canvas so that `image`, opened or chosen just now, is upright: maps with north up."""
    camera, usual = viewer.scene.camera, _usual_orientation()
    place = image.georeference
    on_map = place is not None and place.is_placed and place.to_napari_affine()[0, 0] < 0
    # A canvas that others have turned stays as it is.
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
